"""From request to spec: merging, defaults, and what is refused."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootless import ids
from rootless.engine import resolve as resolve_module
from rootless.engine.resolve import Allocation, Resolved, World, resolve
from rootless.engine.resolve_network import check_donor, check_endpoints
from rootless.engine.resolve_process import merge_config, parse_signal
from rootless.engine.resolve_security import parse_userns
from rootless.engine.settings import EngineSettings
from rootless.errors import HostUnsupported, InvalidInput, NotFound, RootlessError
from rootless.model.defaults import DEFAULT_CAPABILITIES
from rootless.model.facts import CgroupFacts, HostFacts
from rootless.model.mounts import IdMap, MountSpec, RootfsMount
from rootless.model.network import ICC, NetworkRecord, Subnet
from rootless.model.records import ContainerRecord, ImageRecord
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    DeviceRequest,
    EndpointRequest,
    Healthcheck,
    HostConfig,
    LogConfig,
    MountRequest,
    PortBinding,
    Resources,
    RestartPolicy,
    RlimitRequest,
)
from rootless.model.spec import UsernsSpec
from rootless.model.sysctls import network_sysctls
from rootless.network.predefined import BRIDGE_ID
from rootless.storage.volumes import Volume
from tests.support.facts import HOST

from .samples import record

FACTS = replace(HOST, init_binary="/usr/bin/tini")
IMAGE = ImageRecord(
    id="sha256:" + "a" * 64,
    created_ns=0,
    architecture="amd64",
    os="linux",
    config=ContainerConfig(
        env=("PATH=/image/bin", "LANG=C"),
        cmd=("serve",),
        entrypoint=("/entry",),
        working_dir="/srv",
        user="www",
        labels=(("from", "image"), ("tier", "image")),
    ),
    diff_ids=("sha256:" + "b" * 64,),
    size=1,
)
OTHER = record("other", status="running")
BACKEND = NetworkRecord("b" * 64, "backend", 1, (Subnet("10.9.0.0/24", "10.9.0.1"),))
INNER = NetworkRecord(
    "c" * 64, "inner", 2, (Subnet("10.8.0.0/24", "10.8.0.1", asked=False),), internal=True
)
DEFAULT = NetworkRecord(
    BRIDGE_ID, "bridge", 3, (Subnet("172.17.0.0/16", "172.17.0.1"),), options=((ICC, "false"),)
)


_LONG = "9" * 5000


def _tmpfs(option: str) -> MountRequest:
    return MountRequest("tmpfs", "/x", tmpfs_options=(option,))


def _lookup(ref: str) -> ContainerRecord:
    if ref in (OTHER.id, OTHER.name):
        return OTHER
    raise NotFound(f"No such container: {ref}")


def _network(ref: str) -> NetworkRecord:
    for network in (BACKEND, INNER, DEFAULT):
        if ref in (network.id, network.name):
            return network
    raise NotFound(f"network {ref} not found")


def _resolve(
    host: HostConfig | None = None,
    config: ContainerConfig | None = None,
    image: ImageRecord = IMAGE,
    facts: HostFacts = FACTS,
    **settings: object,
) -> Resolved:
    world = World(
        settings=EngineSettings(Path("/data"), Path("/run"), **settings),  # type: ignore[arg-type]  # keywords of any field
        facts=facts,
        lookup=_lookup,
        networks=_network,
        volume_path=lambda name: Path("/data/volumes") / name / "_data",
        known_volumes={"known": Volume("known", 1)},
    )
    allocation = Allocation(
        ids.new_id(),
        "web",
        5,
        UsernsSpec("shared", (IdMap(0, 1, 65536),), 65537),
        RootfsMount("overlay", (), "", ""),
    )
    request = ContainerRequest(config=config or ContainerConfig(), host=host or HostConfig())
    return resolve(request, image, allocation, world)


@pytest.fixture(autouse=True)
def _profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve_module, "default_seccomp_profile", lambda _: '{"default": 1}')


def test_image_defaults() -> None:
    spec = _resolve().spec
    assert spec.process.args == ("/entry", "serve")
    assert spec.process.cwd == "/srv"
    assert spec.process.user == "www"
    assert spec.process.env == (
        "PATH=/image/bin",
        f"HOSTNAME={ids.short_id(spec.id)}",
        "LANG=C",
    )
    assert spec.hostname == ids.short_id(spec.id)
    assert (spec.network.mode, spec.network.shown_mode) == ("bridge", "bridge")
    assert [a.network for a in spec.network.attachments] == ["bridge"]
    assert spec.privileges.capabilities == tuple(
        sorted(DEFAULT_CAPABILITIES, key=DEFAULT_CAPABILITIES.index)
    )
    assert spec.privileges.no_new_privileges
    assert spec.seccomp.kind == "default"
    assert "/proc/kcore" in spec.masked_paths
    assert "/proc/sys" in spec.readonly_paths


def test_a_network_of_its_own_has_ping_and_low_ports() -> None:
    own = dict(_resolve().spec.sysctls)
    assert own == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 65535",
    }
    asked = HostConfig(sysctls=(("net/ipv4/ping_group_range", "1 0"),))
    assert dict(_resolve(asked).spec.sysctls) == {**own, "net.ipv4.ping_group_range": "1 0"}
    assert _resolve(HostConfig(network_mode="host")).spec.sysctls == ()
    assert _resolve(HostConfig(network_mode="container:other")).spec.sysctls == ()


@pytest.mark.parametrize(
    ("maps", "groups"),
    [
        ((IdMap(0, 1, 1024),), "0 1023"),
        ((IdMap(10, 11, 5), IdMap(0, 1, 10)), "0 14"),
        ((IdMap(0, 1, 1 << 20),), "0 65535"),
        ((IdMap(1, 1, 5),), None),
    ],
)
def test_only_groups_that_are_mapped_may_ping(maps: tuple[IdMap, ...], groups: str | None) -> None:
    assert dict(network_sysctls(maps)).get("net.ipv4.ping_group_range") == groups


def test_defaults_grant_less_than_docker() -> None:
    docker_only = {"CAP_NET_RAW", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP", "CAP_SETPCAP"}
    assert not docker_only & set(_resolve().spec.privileges.capabilities)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ContainerConfig(), ("/entry", "serve")),
        (ContainerConfig(cmd=("ls", "-l")), ("/entry", "ls", "-l")),
        (ContainerConfig(entrypoint=("sh",)), ("sh",)),
        (ContainerConfig(entrypoint=("sh",), cmd=("-c", "x")), ("sh", "-c", "x")),
        (ContainerConfig(entrypoint=("",), cmd=("ls",)), ("ls",)),
    ],
)
def test_entrypoint_and_command(wanted: ContainerConfig, expected: tuple[str, ...]) -> None:
    assert _resolve(config=wanted).spec.process.args == expected


def test_a_cleared_entrypoint_takes_the_images_command_with_it() -> None:
    with pytest.raises(InvalidInput, match="no command specified"):
        _resolve(config=ContainerConfig(entrypoint=("",)))


def test_environment_of_the_request_wins_and_can_unset() -> None:
    config = ContainerConfig(env=("LANG=de", "PATH", "A=b=c"), tty=True)
    spec = _resolve(config=config).spec
    assert "LANG=de" in spec.process.env
    assert "A=b=c" in spec.process.env
    assert "TERM=xterm" in spec.process.env
    assert not any(entry.startswith("PATH=/image") for entry in spec.process.env)


def test_labels_and_health_merge() -> None:
    merged = merge_config(
        ContainerConfig(labels=(("tier", "mine"),), healthcheck=Healthcheck(retries=5)),
        ContainerConfig(
            labels=(("tier", "image"), ("from", "image")),
            healthcheck=Healthcheck(test=("CMD", "x"), interval=10**9),
        ),
    )
    assert dict(merged.labels) == {"tier": "mine", "from": "image"}
    assert merged.healthcheck == Healthcheck(test=("CMD", "x"), interval=10**9, retries=5)


@pytest.mark.parametrize(
    ("add", "drop", "present", "absent"),
    [
        (("NET_RAW",), (), {"CAP_NET_RAW", "CAP_CHOWN"}, set()),
        ((), ("chown",), set(), {"CAP_CHOWN"}),
        ((), ("ALL",), set(), set(DEFAULT_CAPABILITIES)),
        (("CAP_KILL",), ("ALL",), {"CAP_KILL"}, {"CAP_CHOWN"}),
        (("ALL",), (), {"CAP_SYS_ADMIN", "CAP_BPF"}, set()),
        (("ALL",), ("SYS_ADMIN",), {"CAP_BPF"}, {"CAP_SYS_ADMIN"}),
    ],
)
def test_capabilities(
    add: tuple[str, ...], drop: tuple[str, ...], present: set[str], absent: set[str]
) -> None:
    granted = set(_resolve(HostConfig(cap_add=add, cap_drop=drop)).spec.privileges.capabilities)
    assert present <= granted
    assert not absent & granted


def test_privileged_lifts_what_docker_lifts() -> None:
    spec = _resolve(HostConfig(privileged=True)).spec
    assert "CAP_SYS_ADMIN" in spec.privileges.capabilities
    assert spec.seccomp.kind == "unconfined"
    assert spec.masked_paths == spec.readonly_paths == ()
    assert spec.privileges.privileged


def test_security_options() -> None:
    spec = _resolve(
        HostConfig(
            security_opt=(
                "no-new-privileges:false",
                'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
                "seccomp-log",
                "label=disable",
                "apparmor=unconfined",
            )
        )
    ).spec
    assert not spec.privileges.no_new_privileges
    assert spec.seccomp.kind == "custom"
    assert spec.seccomp.log
    assert _resolve(HostConfig(security_opt=("seccomp=unconfined",))).spec.seccomp.profile == ""


def test_mounts() -> None:
    image = replace(IMAGE, config=replace(IMAGE.config, volumes=("/var/lib/db", "/cache")))
    result = _resolve(
        HostConfig(
            mounts=(
                MountRequest("volume", "/cache/", source="known"),
                MountRequest("volume", "/new", source="fresh", volume_labels=(("a", "b"),)),
                MountRequest("bind", "/b", source="/etc", read_only=True),
                MountRequest("bind", "/m", source="/no/such/place", create_source=True),
                MountRequest("tmpfs", "/t", tmpfs_options=("size=64m", "exec", "mode=700")),
            )
        ),
        image=image,
    )
    by_target = {mount.target: mount for mount in result.spec.mounts}
    assert by_target["/cache"].source == "/data/volumes/known/_data"
    assert by_target["/cache"].copy_up
    assert by_target["/b"].read_only
    found = os.stat("/etc")
    assert (by_target["/b"].source_dev, by_target["/b"].source_ino) == (found.st_dev, found.st_ino)
    tmpfs = by_target["/t"]
    assert (tmpfs.size, tmpfs.mode, tmpfs.noexec, tmpfs.nodev) == (64 << 20, 0o700, False, True)
    assert result.missing_sources == ("/no/such/place",)
    anonymous = by_target["/var/lib/db"].volume_name
    assert re.fullmatch("[0-9a-f]{64}", anonymous)
    assert [(v.name, v.anonymous) for v in result.volumes] == [
        ("fresh", False),
        (anonymous, True),
    ]


def test_parents_are_mounted_before_children() -> None:
    mounts = (MountRequest("tmpfs", "/a/b/c"), MountRequest("tmpfs", "/a"))
    spec = _resolve(HostConfig(mounts=mounts)).spec
    assert [mount.target for mount in spec.mounts] == ["/a", "/a/b/c"]


def test_volumes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = MountSpec("volume", "/data", source="/v", volume_name="v")
    with_volume = replace(OTHER, spec=replace(OTHER.spec, mounts=(shared,)))
    monkeypatch.setattr(f"{__name__}.OTHER", with_volume)
    assert not _resolve(HostConfig(volumes_from=("other",))).spec.mounts[0].read_only
    assert _resolve(HostConfig(volumes_from=("other:ro",))).spec.mounts[0].read_only


def test_ports_bind_to_loopback_unless_asked() -> None:
    host = HostConfig(
        port_bindings=(
            PortBinding(80, "tcp", host_port=8080),
            PortBinding(53, "udp", host_ip="0.0.0.0"),
        ),
        publish_all_ports=True,
    )
    ports = _resolve(host, ContainerConfig(exposed_ports=("80/tcp", "9000-9001/tcp"))).spec
    assert [(p.container_port, p.host_ip) for p in ports.network.ports] == [
        (80, "127.0.0.1"),
        (53, "0.0.0.0"),
        (9000, "127.0.0.1"),
        (9001, "127.0.0.1"),
    ]


@pytest.mark.parametrize(
    ("mode", "networks", "fits"),
    [
        ("none", ("host",), False),
        ("none", ("none", "slirp4netns"), False),
        ("", ("host",), False),
        ("host", ("none",), False),
        ("bridge", ("bridge",), True),
        ("bridge", ("default",), True),
        ("default", ("slirp4netns",), True),
        ("slirp4netns", ("private",), True),
        ("", ("",), True),
        ("none", ("none",), True),
        ("container:other", ("container:other",), True),
    ],
)
def test_networks_and_the_mode(mode: str, networks: tuple[str, ...], fits: bool) -> None:
    endpoints = tuple(EndpointRequest(network=name) for name in networks)
    host, settings = HostConfig(network_mode=mode), EngineSettings(Path("/d"), Path("/r"))
    if fits:
        check_endpoints(endpoints, host, settings)
        return
    with pytest.raises(InvalidInput, match="conflicting options: network mode"):
        check_endpoints(endpoints, host, settings)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"ipv4_address": "1.2.3.4"}, "user defined networks only"),
        ({"ipv6_address": "::1"}, "user defined networks only"),
        ({"link_local_ips": ("1.2.3.4",)}, "user defined networks only"),
        ({"aliases": ("db",)}, "user-defined networks"),
        ({"mac_address": "foo"}, "invalid MAC address: foo"),
        ({"mac_address": "01:00:5e:00:00:01"}, "invalid MAC address"),
        ({"mac_address": "00:00:00:00:00:00"}, "invalid MAC address"),
    ],
)
def test_endpoints_that_cannot_be_kept_are_refused(asked: dict[str, Any], said: str) -> None:
    settings = EngineSettings(Path("/d"), Path("/r"))
    with pytest.raises(InvalidInput, match=said):
        check_endpoints(
            [EndpointRequest("none", **asked)], HostConfig(network_mode="none"), settings
        )
    good = EndpointRequest("none", mac_address="92:d0:c6:0a:29:33")
    check_endpoints([good], HostConfig(network_mode="none"), settings)


def test_host_gateway_is_the_address_that_daemon_json_gives() -> None:
    asked = HostConfig(extra_hosts=("gw:host-gateway", "db:10.0.0.1"))
    assert _resolve(asked, host_gateways=("192.0.2.1", "2001:db8::1")).spec.network.extra_hosts == (
        "gw=192.0.2.1",
        "gw=2001:db8::1",
        "db:10.0.0.1",
    )
    with pytest.raises(InvalidInput, match="host-gateway has no address"):
        _resolve(asked)


def test_modes_of_daemon_json_count_where_the_request_names_none() -> None:
    spec = _resolve(
        HostConfig(), default_cgroupns="host", default_ipc="shareable", stop_timeout=3
    ).spec
    assert spec.namespaces.cgroup == "host"
    assert spec.request.host.ipc_mode == "shareable"
    assert spec.stop_timeout == 3
    asked = _resolve(HostConfig(cgroupns_mode="private"), default_cgroupns="host").spec
    assert asked.namespaces.cgroup == "private"


def test_only_shareable_ipc_can_be_joined() -> None:
    """Which a start finds out, as in Docker: a create asks for a name only."""
    assert _resolve(HostConfig(ipc_mode="container:other")).spec.namespaces.ipc
    running = replace(OTHER, state=replace(OTHER.state, status="running"))
    for mode, fine in (("", False), ("private", False), ("none", False), ("shareable", True)):
        host = replace(running.spec.request.host, ipc_mode=mode)
        request = replace(running.spec.request, host=host)
        donor = replace(running, spec=replace(running.spec, request=request))
        with nullcontext() if fine else pytest.raises(InvalidInput, match="non-shareable IPC"):
            check_donor(donor, "ipc")


def test_bridge_none_leaves_no_network_called_bridge() -> None:
    assert _resolve(HostConfig(), default_network="none", bridge=False).spec.network.mode == "none"
    with pytest.raises(InvalidInput, match="network bridge not found"):
        _resolve(HostConfig(network_mode="bridge"), default_network="none", bridge=False)


def test_joining_another_container() -> None:
    spec = _resolve(
        HostConfig(network_mode="container:other", pid_mode="container:other", ipc_mode="host")
    ).spec
    assert spec.network.mode == f"container:{OTHER.id}"
    assert spec.namespaces.network == f"container:{OTHER.id}"
    assert spec.namespaces.pid == f"container:{OTHER.id}"
    assert spec.namespaces.ipc == "host"
    assert spec.hostname == OTHER.spec.hostname


def test_limits_are_kept_or_refused() -> None:
    host = HostConfig(resources=Resources(memory=64 << 20))
    with pytest.raises(HostUnsupported, match="controller 'memory' cannot be used"):
        _resolve(host)
    able = replace(FACTS, cgroup=CgroupFacts(2, "/c", "/c/user", ("memory", "cpu")))
    limits = _resolve(host, facts=able).spec.resources
    assert (limits.memory, limits.memory_swap) == (64 << 20, 128 << 20)
    assert _resolve(HostConfig(resources=Resources(pids_limit=50))).spec.resources.pids_limit == 50


@pytest.mark.parametrize(
    ("host", "config", "message"),
    [
        ({"cap_add": ("NET_NONSENSE",)}, {}, 'invalid capability: "NET_NONSENSE"'),
        ({"security_opt": ("secomp=unconfined",)}, {}, "invalid --security-opt"),
        ({"security_opt": ("seccomp=no json",)}, {}, "Decoding seccomp profile failed"),
        ({"security_opt": ("label=type:x",)}, {}, "SELinux"),
        ({"security_opt": ("apparmor=docker-default",)}, {}, "AppArmor"),
        ({"mounts": (MountRequest("bind", "/x", source="rel"),)}, {}, "must be absolute"),
        ({"mounts": (MountRequest("bind", "/x", source="/no/such"),)}, {}, "does not exist"),
        ({"mounts": (MountRequest("bind", "/", source="/etc"),)}, {}, "can't be '/'"),
        ({"mounts": (MountRequest("bind", "/a/../..", source="/etc"),)}, {}, "can't be '/'"),
        ({"mounts": (MountRequest("tmpfs", "/x"), MountRequest("tmpfs", "/x/"))}, {}, "Duplicate"),
        ({"mounts": (MountRequest("volume", "/x", source="../up"),)}, {}, "invalid characters"),
        ({"mounts": (MountRequest("volume", "/x", "ok", subpath="../u"),)}, {}, "subpath"),
        ({"mounts": (MountRequest("tmpfs", "/x", tmpfs_options=("sise=1",)),)}, {}, "tmpfs option"),
        ({"mounts": (MountRequest("tmpfs", "/proc/x"),)}, {}, "/proc/x is inside /proc"),
        ({"mounts": (MountRequest("tmpfs", "/a/../proc"),)}, {}, "/proc is inside /proc"),
        ({"mounts": (MountRequest("bind", "/proc/self", "/etc"),)}, {}, "is inside /proc"),
        ({"mounts": (MountRequest("tmpfs", "/dev"),)}, {}, "hide the container's devices"),
        ({"network_mode": "nonet"}, {}, "network nonet not found"),
        ({"network_mode": "container:nobody"}, {}, "No such container: nobody"),
        ({"network_mode": "container:other"}, {"hostname": "x"}, "hostname and the network mode"),
        (
            {"network_mode": "container:other", "port_bindings": (PortBinding(1, "tcp"),)},
            {},
            "port publishing",
        ),
        ({"port_bindings": (PortBinding(80, "sctp"),)}, {}, "sctp"),
        ({"port_bindings": (PortBinding(80, "tcp", host_ip="here"),)}, {}, "not an IP address"),
        ({"dns": ("one.one",)}, {}, "DNS server"),
        ({"dns": ("1.1.1.1%\nnameserver 6.6.6.6",)}, {}, "DNS server"),
        ({"dns": ("fe80::1%a b",)}, {}, "DNS server"),
        ({"dns_search": ("a\nnameserver 6.6.6.6",)}, {}, "DNS search domain"),
        ({"dns_options": ("a\nnameserver 6.6.6.6",)}, {}, "DNS search domain or option"),
        ({"extra_hosts": ("a:1.1.1.1%\n6.6.6.6 evil",)}, {}, "invalid IP address in add-host"),
        ({"extra_hosts": ("nocolon",)}, {}, "bad format for add-host"),
        ({"extra_hosts": ("evil\nname:1.2.3.4",)}, {}, "bad format for add-host"),
        ({"sysctls": (("kernel.core_pattern", "|/x"),)}, {}, "not whitelisted"),
        ({"sysctls": (("net.ipv4.x", "1"),), "network_mode": "host"}, {}, "not allowed in host"),
        ({"ulimits": (RlimitRequest("nofiles", 1, 1),)}, {}, "invalid ulimit type"),
        ({"ulimits": (RlimitRequest("nofile", 5, 1),)}, {}, "soft limit must be less"),
        ({"resources": Resources(memory=1)}, {}, "Minimum memory limit"),
        ({"resources": Resources(memory_swap=10 << 20)}, {}, "always set the Memory limit"),
        ({"resources": Resources(nano_cpus=10**15)}, {}, "range of CPUs"),
        ({"resources": Resources(cpuset_cpus="0-x")}, {}, "Invalid value"),
        ({"restart_policy": RestartPolicy("always"), "auto_remove": True}, {}, "AutoRemove"),
        ({"runtime": "kata"}, {}, "unknown or invalid runtime name"),
        ({"log_config": LogConfig("fluentd")}, {}, "no log driver named 'fluentd'"),
        ({"log_config": LogConfig("", (("max-sise", "1m"),))}, {}, "unknown log opt"),
        ({"security_opt": ("seccomp",)}, {}, 'invalid --security-opt: "seccomp"'),
        ({"security_opt": ("seccomp=",)}, {}, 'invalid --security-opt: "seccomp="'),
        ({"mounts": (_tmpfs("size=x"),)}, {}, "tmpfs option size: invalid size: 'x'"),
        ({"devices": (DeviceRequest("/dev/null", "/dev/x", "z"),)}, {}, "invalid device mode"),
        ({"devices": (DeviceRequest("/dev/nope", "/dev/x"),)}, {}, "no such file"),
        ({"shm_size": -1}, {}, "SHM size"),
        ({"oom_score_adj": 5000}, {}, "oom score adj"),
        ({"cgroup_parent": "x"}, {}, "no cgroup is delegated"),
        ({}, {"working_dir": "rel"}, "needs to be an absolute path"),
        ({}, {"hostname": "a b"}, "invalid hostname format"),
        ({}, {"stop_signal": "SIGFOO"}, "invalid signal: SIGFOO"),
        ({}, {"cmd": ("a\0b",)}, "NUL"),
        ({}, {"healthcheck": Healthcheck(("RUN", "x"))}, "Unknown type in Healthcheck"),
        ({}, {"healthcheck": Healthcheck(("CMD", "x"), interval=5)}, "cannot be less than 1ms"),
        ({}, {"exposed_ports": ("99999/tcp",)}, "invalid port specification"),
        # Digits that int() refuses: other scripts' and too many.
        ({}, {"exposed_ports": ("²/tcp",)}, "invalid port specification"),
        ({}, {"stop_signal": "²"}, "invalid signal"),
        ({}, {"stop_signal": _LONG}, "invalid signal"),
        ({"resources": Resources(cpuset_cpus="²")}, {}, "Invalid value"),
        ({"resources": Resources(cpuset_cpus=_LONG)}, {}, "Invalid value"),
        ({"mounts": (_tmpfs("uid=²"),)}, {}, "tmpfs option"),
        ({"mounts": (_tmpfs("size=²%"),)}, {}, "invalid size"),
        ({"mounts": (_tmpfs(f"size={_LONG}"),)}, {}, "invalid size"),
        ({"mounts": (_tmpfs("mode=" + "7" * 5000),)}, {}, "tmpfs option"),
        ({"log_config": LogConfig("", (("max-file", "²"),))}, {}, "strconv.Atoi.*max-file"),
        (
            {"log_config": LogConfig("", (("max-size", _LONG),))},
            {},
            "invalid size: '9{100}'.*max-size",
        ),
    ],
)
def test_refusals_say_what_is_wrong(
    host: dict[str, object], config: dict[str, object], message: str
) -> None:
    with pytest.raises(RootlessError, match=message):
        _resolve(HostConfig(**host), ContainerConfig(**config))  # type: ignore[arg-type]  # keywords of any field


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ("shared", 0)), ("auto", ("auto", 0)), ("auto:size=2000", ("auto", 2000))],
)
def test_userns_modes(text: str, expected: tuple[str, int]) -> None:
    assert parse_userns(text, default="shared") == expected


@pytest.mark.parametrize(
    "text",
    ["host", "keep-id", "auto:size=", "auto:size=²", f"auto:size={_LONG}", "auto:uidmapping=0"],
)
def test_userns_modes_that_cannot_be(text: str) -> None:
    with pytest.raises(InvalidInput, match="userns mode"):
        parse_userns(text, default="shared")


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 15), ("SIGKILL", 9), ("term", 15), ("10", 10), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["0", "65", "RTMIN-1", "RTMAX+1", "-9", "SIGRTMIN+99"])
def test_bad_signals(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid signal"):
        parse_signal(text)


def test_missing_init_names_the_package() -> None:
    facts = replace(FACTS, init_binary="")
    with pytest.raises(HostUnsupported) as caught:
        _resolve(HostConfig(init=True), facts=facts)
    assert "apt-get install" in (caught.value.hint or "")
