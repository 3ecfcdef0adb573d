"""Settings that need an engine of their own to be seen."""

from __future__ import annotations

import grp
import json
import os
import re
import stat
import time
from pathlib import Path

import pytest

from tests.integration.daemon.test_effects import info, ran
from tests.support.api import IMAGE
from tests.support.engine import new_engine

pytestmark = pytest.mark.integration


def test_what_the_policy_forbids_stays_forbidden_as_a_default(tmp_path: Path) -> None:
    """no-new-privileges=false and default-cgroupns-mode=host take effect, and are then denied."""
    with new_engine(no_new_privileges=False, default_cgroupns_mode="host") as engine:
        denied = engine.run("run", "--rm", IMAGE, "true")
        assert denied.returncode == 125
        assert "privileges.no-new-privileges" in denied.stderr
        assert "CgroupnsMode" in denied.stderr
        assert "name=no-new-privileges" not in info(engine)["SecurityOptions"]


@pytest.mark.parametrize("setting", [{"bridge": "none"}, {"default_network": "none"}])
def test_containers_without_a_network_by_default(setting: dict[str, str]) -> None:
    with new_engine(**setting) as engine:
        assert ran(engine, "ls /sys/class/net") == "lo"
        assert "tap0" in ran(engine, "ls /sys/class/net", "--network", "slirp4netns")
        named = engine.run("run", "--rm", "--network", "bridge", IMAGE, "ls", "/sys/class/net")
        if "bridge" in setting:
            assert "network bridge not found" in named.stderr
        else:
            assert "eth0" in named.stdout


def test_userns_auto_gives_each_container_ids_of_its_own() -> None:
    with new_engine(userns="auto", userns_remap="default", log_opts={"max-size": "1m"}) as engine:
        maps = {ran(engine, "cat /proc/self/uid_map") for _ in range(1)}
        engine.ok("run", "-d", "--name", "first", IMAGE, "sleep", "60")
        try:
            maps.add(engine.ok("exec", "first", "cat", "/proc/self/uid_map"))
            maps.add(ran(engine, "cat /proc/self/uid_map"))
            options = engine.ok("inspect", "-f", "{{json .HostConfig.LogConfig}}", "first")
            assert json.loads(options) == {"Type": "json-file", "Config": {"max-size": "1m"}}
        finally:
            engine.ok("rm", "-f", "first")
        assert len(maps) == 2, "the second beside the first has another range"


def test_a_policy_of_daemon_json_counts(tmp_path: Path) -> None:
    policy = tmp_path / "noimages.yaml"
    policy.write_text(
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: quiet}\n"
        "spec:\n  api:\n    denyActions: [container.create]\n"
    )
    with new_engine(policy=[str(policy)]) as engine:
        assert "api.action" in engine.run("run", "--rm", IMAGE, "true").stderr


def test_without_live_restore_containers_end_with_the_daemon() -> None:
    with new_engine(live_restore=False, shutdown_timeout=1) as engine:
        engine.ok("run", "-d", "--name", "one", IMAGE, "sh", "-c", "trap '' TERM; sleep 60")
        begun = time.monotonic()
        assert engine.stop() == 0
        assert time.monotonic() - begun < 13, "shutdown-timeout: Docker's would be 15"
        engine.start()
        assert engine.ok("inspect", "-f", "{{.State.Status}}", "one") == "exited"


def test_files_are_where_they_are_configured_to_be() -> None:
    with new_engine(start=False) as engine:
        root = engine.root
        (root / "x").mkdir(mode=0o700)
        socket = root / "x/api.sock"
        engine.configure(
            data_root=f"{root}/x/data",
            exec_root=f"{root}/x/run",
            pidfile=f"{root}/x/pid",
            deprecated_key_path=f"{root}/x/me.json",
            hosts=[f"unix://{socket}", f"unix://{root}/x/second.sock"],
        )
        engine.start()
        assert engine.daemon is not None
        assert (root / "x/pid").read_text() == f"{engine.daemon.pid}\n"
        key = json.loads((root / "x/me.json").read_text())
        for path in (socket, root / "x/second.sock"):
            found = info(engine, "--host", f"unix://{path}")
            assert found["DockerRootDir"] == f"{root}/x/data"
            assert found["ID"] == key["kid"]
        assert (root / "x/data/state.db").exists()
        assert engine.stop() == 0
        assert sorted(p.name for p in (root / "x").iterdir()) == ["data", "me.json", "run"]


def test_the_group_may_use_the_socket() -> None:

    group = grp.getgrgid(os.getegid())
    with new_engine(start=False, group=group.gr_name) as engine:
        engine.start()
        facts = engine.socket.stat()
        assert (stat.S_IMODE(facts.st_mode), facts.st_gid) == (0o660, group.gr_gid)
        assert engine.ok("version")


def test_the_log_level_is_the_least_that_is_logged() -> None:
    with new_engine(log_level="warn", group=str(os.getegid())) as engine:
        log = engine.log.read_text()
        assert " INFO " not in log
        assert "WARNING rootlessd: the group cannot reach its socket" in log


def test_the_default_bridge_is_what_daemon_json_says() -> None:
    with new_engine(
        icc=True, bip="10.211.3.5/24", fixed_cidr="10.211.3.128/25", default_gateway="10.211.3.6",
        mtu=1400, ipv6=False, ip="127.0.0.2",
    ) as engine:  # fmt: skip
        serve = "echo page > /tmp/page && exec httpd -f -p 8000 -h /tmp"
        engine.ok("run", "-d", "--name", "web", "-p", "8000", IMAGE, "sh", "-c", serve)
        assert engine.ok("port", "web", "8000").startswith("127.0.0.2:")
        text = ran(engine, "ip -4 addr; ip route; cat /sys/class/net/eth0/mtu; ip -6 addr")
        address = re.search(r"inet (10\.211\.3\.\d+)/24", text)
        assert address is not None
        assert int(address[1].rpartition(".")[2]) > 128
        assert "default via 10.211.3.6 " in text
        assert "\n1400\n" in text
        assert "eth0" not in text.rpartition("\n1400\n")[2]
        fetch = "until wget -q -O - http://{}:8000/page; do sleep 0.1; done"
        there = engine.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
        assert ran(engine, fetch.format(there)) == "page"
        assert ran(engine, fetch.format("shop"), "--link", "web:shop") == "page"
        assert "can't" in ran(engine, "nslookup web 2>&1; true")
        engine.ok("rm", "-f", "web")
