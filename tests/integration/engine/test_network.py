"""The network of a running container, as its user meets it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from typing import Any

import pytest

from rootless.linux import procfs
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
OWN = ("--network", "slirp4netns")
SERVER = ("sh", "-c", "echo page > /tmp/page && exec httpd -f -p 8000 -h /tmp")


def _inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.ok("inspect", name))[0]
    return found


def _slirp_of(engine: Engine, name: str) -> int:
    """The pid of the slirp4netns in the container's user namespace."""
    namespace = os.stat(f"/proc/{_inspect(engine, name)['State']['Pid']}/ns/user").st_ino
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if (
                procfs.stat(pid).comm == "slirp4netns"
                and os.stat(f"/proc/{pid}/ns/user").st_ino == namespace
            ):
                return pid
    raise AssertionError(f"{name} has no slirp4netns")


def _get(address: str, port: int) -> bytes:
    """The page, as soon as its server listens."""
    for _ in range(1000):
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection((address, port), timeout=60) as client,
        ):
            client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            answer = b""
            while data := client.recv(4096):
                answer += data
            if answer:
                return answer.rpartition(b"\r\n\r\n")[2]
    return b""


def _kill(pid: int) -> None:
    """Kill, and wait for the end."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)


def test_a_killed_slirp4netns_is_started_again(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "web", *OWN, "-p", "8000", "-p", "[::1]::8000", IMAGE, *SERVER)
    before = _inspect(engine, "web")["NetworkSettings"]
    ports = {p["HostIp"]: int(p["HostPort"]) for p in before["Ports"]["8000/tcp"]}
    assert set(ports) == {"127.0.0.1", "::1"}
    with engine.popen(
        "events", "--filter", "container=web", "--filter", "event=network_lost",
        "--filter", "event=network_restored", "--format", "{{json .}}", "--since", "0",
        stdout=subprocess.PIPE,
    ) as events:  # fmt: skip
        assert events.stdout is not None
        _kill(_slirp_of(engine, "web"))
        lost = json.loads(events.stdout.readline())
        assert lost["Action"] == "network_lost"
        assert lost["Actor"]["Attributes"]["reason"] == "slirp4netns ended: no message"
        assert json.loads(events.stdout.readline())["Action"] == "network_restored"
        events.terminate()
    after = _inspect(engine, "web")
    assert after["NetworkSettings"] == before
    assert after["State"]["Error"] == ""
    assert [_get(address, port) for address, port in ports.items()] == [b"page\n"] * 2
    engine.ok("rm", "-f", "web")


def test_a_slirp4netns_killed_while_the_daemon_is_away(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.ok("run", "-d", "--name", "web", *OWN, "-p", "8000", IMAGE, *SERVER)
    before = _inspect(engine, "web")["NetworkSettings"]
    slirp = _slirp_of(engine, "web")
    engine.kill()
    _kill(slirp)
    engine.start()
    with engine.popen(
        "events", "--filter", "event=network_restored", "--format", "{{.Action}}",
        "--since", "1", stdout=subprocess.PIPE,
    ) as events:  # fmt: skip
        assert events.stdout is not None
        assert events.stdout.readline() == b"network_restored\n"
        events.terminate()
    assert _inspect(engine, "web")["NetworkSettings"] == before
    assert _get("127.0.0.1", int(before["Ports"]["8000/tcp"][0]["HostPort"])) == b"page\n"


def test_raw_sockets_are_for_whoever_asks(engine: Engine) -> None:
    """The built-in image's ping has no other way; docs/network.md tells what to do."""
    ping = (IMAGE, "ping", "-c", "1", "-W", "30", "10.0.2.2")
    refused = engine.run("run", "--rm", *ping)
    assert refused.returncode == 1
    assert "permission denied (are you root?)" in refused.stderr
    assert "1 packets received" in engine.ok("run", "--rm", "--cap-add", "NET_RAW", *ping)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_an_ipv6_address_as_docker_writes_it(engine: Engine, protocol: str) -> None:
    engine.ok("run", "-d", "--name", "web", "-p", f"[::1]:8080:80/{protocol}", IMAGE, "sleep", "99")
    assert engine.ok("port", "web") == f"80/{protocol} -> [::1]:8080"
    assert engine.ok("ps", "--format", "{{.Ports}}") == f"[::1]:8080->80/{protocol}"
    done = engine.run("run", "--rm", "-p", f"[::1]:8080:80/{protocol}", IMAGE, "true")
    assert done.returncode == 125
    assert "Bind for [::1]:8080 failed: port is already allocated" in done.stderr
    engine.ok("rm", "-f", "web")


def test_every_ipv6_address_needs_the_policy(engine: Engine) -> None:
    done = engine.run("run", "--rm", "-p", "[::]:8080:80", IMAGE, "true")
    assert done.returncode == 125
    assert "ports.address" in done.stderr
    assert ":::8080" in done.stderr or "[::]:8080" in done.stderr


def test_daemon_json_may_name_an_ipv6_address(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.stop()
    engine.configure(ip="::1")
    engine.start()
    engine.ok("run", "-d", "--name", "web", "-p", "8000", IMAGE, *SERVER)
    shown = engine.ok("port", "web", "8000")
    assert shown.startswith("[::1]:")
    assert _get("::1", int(shown.rpartition(":")[2])) == b"page\n"
