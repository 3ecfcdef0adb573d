"""Every rule denies what it is for and lets the harmless pass."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import Denied
from rootless.model.mounts import IdMap, MountSpec
from rootless.model.network import Attachment
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    Healthcheck,
    LogConfig,
    PortBinding,
    Resources,
    RestartPolicy,
)
from rootless.model.spec import (
    ContainerSpec,
    DeviceSpec,
    NamespacesSpec,
    NetworkSpec,
    PrivilegesSpec,
    ProcessSpec,
    SeccompSpec,
    UsernsSpec,
)
from rootless.model.sysctls import network_sysctls
from rootless.policy.admission import admit, preview
from rootless.policy.load import builtin
from rootless.policy.policy import Policy
from rootless.policy.rules import RULES
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, asked, policy, spec

DEFAULT = builtin("default", HOME)
STRICT = builtin("strict", HOME)


def denied(case: ContainerSpec, by: Policy = DEFAULT, paths: Any = PATHS) -> set[str]:
    decision = preview(IDENTITY, case, by, FACTS, paths)
    return {finding.rule for finding in decision.findings if finding.action == "deny"}


def ports(*bindings: PortBinding) -> ContainerSpec:
    return spec(network=NetworkSpec("slirp4netns", bindings))


def namespaces(**modes: str) -> ContainerSpec:
    return spec(namespaces=NamespacesSpec(**modes))


def mount(source: str, **more: Any) -> ContainerSpec:
    return spec(mounts=(MountSpec("bind", "/target", source=source, **more),))


def custom(default_action: str) -> ContainerSpec:
    return spec(seccomp=SeccompSpec("custom", json.dumps({"defaultAction": default_action})))


def profile(default: str, names: list[str], action: str) -> ContainerSpec:
    text = json.dumps({"defaultAction": default, "syscalls": [{"names": names, "action": action}]})
    return spec(seccomp=SeccompSpec("custom", text))


def environment(*entries: str) -> ContainerSpec:
    return spec(process=replace(SPEC.process, env=entries))


def on(network: str) -> ContainerSpec:
    return spec(network=NetworkSpec("bridge", attachments=(Attachment("f" * 64, network),)))


def labelled(*labels: tuple[str, str]) -> ContainerSpec:
    request = ContainerRequest(config=ContainerConfig(labels=labels))
    return spec(labels=labels, request=request)


OPEN = policy()
"""Constrains nothing: what it denies is the floor."""

ANYWHERE = Attachment("a" * 64, "open")
NARROW = replace(ANYWHERE, network_egress=("a.b.c",))
LISTED = Attachment("b" * 64, "listed", egress=("a.b.c:443",))


CASES: list[tuple[str, ContainerSpec, Policy, ContainerSpec]] = [
    # rule, what it denies, under which policy, what that policy allows
    ("mounts.pattern", mount("/srv/a/b"), policy("  mounts: {allowGlobs: [/srv/*]}\n"),
     mount("/srv/a")),
    ("mounts.pattern", mount("/srv/a/key.pem"),
     policy('  mounts: {allowGlobs: ["/srv/** & /**/*.crt"]}\n'), mount("/srv/a/b/x.crt")),
    ("network.name", on("back"), policy("  network: {allowNetworks: [fro*]}\n"), on("front")),
    ("labels.required", labelled(("team", "b")), policy("  labels: {require: [team=a*]}\n"),
     labelled(("team", "ab"))),
    ("labels.forbidden", labelled(("com.example.x", "1")),
     policy("  labels: {deny: [com.example.*]}\n"), labelled(("com.examples", "1"))),
    ("logs.driver", spec(log=LogConfig("syslog")), policy("  logs: {allowDrivers: [local]}\n"),
     spec(log=LogConfig("local"))),
    ("logs.option", spec(log=LogConfig("local", (("labels", "x"),))),
     policy("  logs: {denyOptions: [label*]}\n"), spec(log=LogConfig("local", (("tag", "x"),)))),
    ("logs.remote", spec(log=LogConfig("syslog", (("syslog-address", "udp://10.0.0.1:514"),))),
     policy("  logs: {allowRemote: false}\n"),
     spec(log=LogConfig("syslog", (("syslog-address", "unixgram:///dev/log"),)))),
    ("lifetime.maximum", spec(timeout=61), policy("  lifetime: {maximum: 1m}\n"),
     spec(timeout=60)),
    ("lifetime.timeout", SPEC, policy("  lifetime: {requireTimeout: true}\n"),
     spec(timeout=60)),
    (
        "mounts.count",
        spec(mounts=(MountSpec("tmpfs", "/a"), MountSpec("tmpfs", "/b"))),
        policy("  mounts: {maximum: 1}\n"),
        spec(mounts=(MountSpec("tmpfs", "/a"),)),
    ),
    (
        "mounts.options",
        mount("/srv/a"),
        policy("  mounts: {requireOptions: [noexec, ro]}\n"),
        mount("/srv/a", noexec=True, read_only=True),
    ),
    (
        "user.uid",
        spec(process=replace(SPEC.process, user="999:5")),
        policy("  user: {minimumUid: 1000}\n"),
        spec(process=replace(SPEC.process, user="1000")),
    ),
    (
        "user.uid",
        spec(process=replace(SPEC.process, user="www-data")),
        policy("  user: {minimumUid: 1}\n"),
        spec(process=replace(SPEC.process, user="33")),
    ),
    (
        "userns.range",
        spec(userns=UsernsSpec("auto", (IdMap(0, 5, 2000), IdMap(65534, 9, 1)), 1)),
        policy("  userns: {maximumRange: 2000}\n"),
        spec(userns=UsernsSpec("auto", (IdMap(0, 5, 2000),), 1)),
    ),
    (
        "ports.count",
        ports(PortBinding(80, "tcp", "", 8000), PortBinding(81, "tcp", "", 8001)),
        policy("  ports: {maximum: 1}\n"),
        ports(PortBinding(80, "tcp", "", 8000)),
    ),
    (
        "ports.count",
        ports(PortBinding(80, "tcp", "", 8000, 9001)),
        policy("  ports: {maximumHostPort: 9000}\n"),
        ports(PortBinding(80, "tcp", "", 8000, 9000)),
    ),
    (
        "network.host-gateway",
        spec(request=asked(extra_hosts=("host.docker.internal=host-gateway",))),
        policy("  network: {allowHostGateway: false}\n"),
        spec(request=asked(extra_hosts=("db:192.0.2.1",))),
    ),
    (
        "ports.publish-all",
        spec(request=asked(publish_all_ports=True)),
        policy("  ports: {allowPublishAll: false}\n"),
        SPEC,
    ),
    (
        "resources.cgroup-parent",
        spec(cgroup_parent="x"),
        policy("  resources: {allowCgroupParent: false}\n"),
        SPEC,
    ),
    (
        "resources.minimum",
        spec(resources=Resources(memory=1 << 20)),
        policy("  resources: {minimumMemory: 4m}\n"),
        spec(resources=Resources(memory=4 << 20)),
    ),
    (
        "seccomp.calls",
        profile("SCMP_ACT_ERRNO", ["bpf", "read"], "SCMP_ACT_ALLOW"),
        policy("  seccomp: {denyCalls: [bpf]}\n"),
        profile("SCMP_ACT_ERRNO", ["read"], "SCMP_ACT_ALLOW"),
    ),
    (
        "seccomp.calls",
        custom("SCMP_ACT_ALLOW"),
        policy("  seccomp: {denyCalls: [bpf]}\n"),
        profile("SCMP_ACT_ALLOW", ["bpf"], "SCMP_ACT_ERRNO"),
    ),
    (
        "seccomp.calls",
        spec(seccomp=SeccompSpec("unconfined", "")),
        policy("  seccomp: {denyCalls: [bpf]}\n"),
        SPEC,
    ),
    (
        "selinux.type",
        spec(request=asked(security_opt=("label=type:spc_t",))),
        policy("  selinux: {allowTypes: [container_t]}\n"),
        spec(request=asked(security_opt=("label=type:container_t",))),
    ),
    (
        "selinux.type",
        spec(request=asked(security_opt=("label:level:s0:c1,c2",))),
        policy("  selinux: {allowLevels: ['s0:c3']}\n"),
        spec(request=asked(security_opt=("label=level:s0:c3",))),
    ),
    (
        "env.forbidden",
        environment("LD_PRELOAD=/x"),
        policy("  env: {deny: [LD_*]}\n"),
        environment("PATH=/bin"),
    ),
    *(
        ("env.secret", environment(entry), policy("  env: {denySecrets: true}\n"), good)
        for entry, good in (
            ("DB_PASSWORD=hunter2", environment("DB_PASSWORD_FILE=/run/secrets/db")),
            ("X=-----BEGIN RSA PRIVATE KEY-----", environment("PASSWORD=")),
            ("KEY=AKIAABCDEFGHIJKLMNOP", environment("TOKEN=/run/token")),
            ("api_key=abcdefgh", environment("MONKEY=abcdefgh")),
        )
    ),
    (
        "labels.required",
        SPEC,
        policy("  labels: {require: [owner]}\n"),
        spec(labels=(("owner", "me"),)),
    ),
    (
        "restart.policy",
        spec(restart=RestartPolicy("always")),
        policy('  restart: {allow: ["no", on-failure]}\n'),
        spec(restart=RestartPolicy("on-failure", 9)),
    ),
    (
        "restart.policy",
        spec(restart=RestartPolicy("on-failure", 0)),
        policy("  restart: {maximumRetries: 5}\n"),
        spec(restart=RestartPolicy("on-failure", 5)),
    ),
    (
        "health.required",
        spec(healthcheck=Healthcheck(("NONE",))),
        policy("  health: {require: true}\n"),
        spec(healthcheck=Healthcheck(("CMD", "true"))),
    ),
    (
        "lifetime.removed",
        SPEC,
        policy("  lifetime: {requireAutoRemove: true}\n"),
        spec(auto_remove=True),
    ),
    (
        "privileges.privileged",
        spec(privileges=PrivilegesSpec(("CAP_CHOWN",), True, True)),
        DEFAULT,
        SPEC,
    ),
    (
        "privileges.no-new-privileges",
        spec(privileges=PrivilegesSpec(("CAP_CHOWN",), False)),
        DEFAULT,
        SPEC,
    ),
    (
        "privileges.labels",
        spec(request=asked(security_opt=("label:disable",))),
        policy("  privileges: {allowLabelDisable: false}\n"),
        SPEC,
    ),
    (
        "capabilities.add",
        spec(privileges=PrivilegesSpec(("CAP_SYS_ADMIN",))),
        DEFAULT,
        spec(privileges=PrivilegesSpec(("CAP_SYS_PTRACE", "CAP_NET_RAW"))),
    ),
    (
        "capabilities.add",
        spec(privileges=PrivilegesSpec(("CAP_NET_RAW",))),
        policy("  capabilities: {deny: [CAP_NET_RAW]}\n"),
        SPEC,
    ),
    ("seccomp.unconfined", spec(seccomp=SeccompSpec("unconfined", "")), DEFAULT, SPEC),
    (
        "seccomp.unconfined",
        custom("SCMP_ACT_ALLOW"),
        DEFAULT,
        custom("SCMP_ACT_ERRNO"),
    ),
    ("seccomp.unconfined", custom("SCMP_ACT_LOG"), DEFAULT, SPEC),
    (
        "seccomp.custom",
        custom("SCMP_ACT_ERRNO"),
        policy("  seccomp: {allowCustom: false}\n"),
        SPEC,
    ),
    *(
        ("namespaces.host", namespaces(**{name: "host"}), DEFAULT, SPEC)
        for name in ("network", "ipc", "pid", "uts", "cgroup")
    ),
    ("namespaces.host", spec(network=NetworkSpec("host")), DEFAULT, SPEC),
    (
        "namespaces.host",
        namespaces(pid="host", ipc="host"),
        policy("  namespaces: {allowHost: [pid]}\n"),
        namespaces(pid="host"),
    ),
    (
        "namespaces.shared",
        namespaces(pid="container:" + "a" * 64),
        STRICT,
        SPEC,
    ),
    (
        "userns.mode",
        SPEC,
        policy("  userns: {allowModes: [auto]}\n"),
        spec(userns=UsernsSpec("auto", (), 1)),
    ),
    *(
        ("mounts.denied-source", mount(source, read_only=True), DEFAULT, mount("/srv"))
        for source in ("/", "/proc", "/sys/kernel", "/dev", "/run", "/run/user", "/var", "/boot")
    ),
    ("mounts.read-only", mount("/etc"), DEFAULT, mount("/etc", read_only=True)),
    (
        "mounts.read-only",
        mount("/usr", read_only=True, recursive_read_only=False),
        DEFAULT,
        mount("/usr/share", read_only=True),
    ),
    ("mounts.read-only", mount("/"), DEFAULT, SPEC),
    (
        "mounts.source",
        mount("/srv/other"),
        policy("  mounts: {allowSources: [/srv/data]}\n"),
        mount("/srv/data/x"),
    ),
    (
        "mounts.source",
        mount("/srv/data-not"),
        policy("  mounts: {allowSources: [/srv/data]}\n"),
        mount("/srv/data"),
    ),
    (
        "mounts.type",
        mount("/srv"),
        policy("  mounts: {allowTypes: [tmpfs]}\n"),
        spec(mounts=(MountSpec("tmpfs", "/t"), MountSpec("proc", "/proc"))),
    ),
    (
        "mounts.propagation",
        mount("/srv", propagation="rshared"),
        DEFAULT,
        mount("/srv", propagation="rslave"),
    ),
    (
        "filesystem.masked-paths",
        spec(masked_paths=()),
        DEFAULT,
        spec(masked_paths=("/proc", "/sys")),
    ),
    (
        "filesystem.read-only-paths",
        spec(readonly_paths=("/proc/bus",)),
        DEFAULT,
        spec(readonly_paths=("/proc",)),
    ),
    (
        "filesystem.read-only-root",
        SPEC,
        policy("  filesystem: {requireReadOnlyRoot: true}\n"),
        spec(rootfs=replace(SPEC.rootfs, read_only=True)),
    ),
    (
        "devices.allowed",
        spec(devices=(DeviceSpec("/dev/kmsg", "/dev/null", "r"),)),
        DEFAULT,
        spec(devices=(DeviceSpec("/dev/null", "/dev/x", "rwm"),)),
    ),
    (
        "network.mode",
        SPEC,
        policy("  network: {allowModes: [none, container]}\n"),
        spec(network=NetworkSpec("container:" + "a" * 64)),
    ),
    (
        "network.egress",
        SPEC,
        policy("  network: {requireEgress: true}\n"),
        spec(network=NetworkSpec("slirp4netns", egress=())),
    ),
    (
        "network.egress",
        spec(network=NetworkSpec("host")),
        policy("  network: {requireEgress: true}\n  namespaces: {allowHost: [network]}\n"),
        spec(network=NetworkSpec("none")),
    ),
    (
        "network.egress",
        spec(network=NetworkSpec("bridge", attachments=(ANYWHERE, LISTED))),
        policy("  network: {egress: ['*.b.c:443']}\n"),
        spec(network=NetworkSpec("bridge", attachments=(LISTED, replace(ANYWHERE, outward=False)))),
    ),
    (
        "network.egress",
        spec(network=NetworkSpec("slirp4netns", egress=("b.c:443",))),
        policy("  network: {egress: ['*.b.c:443']}\n"),
        # What both lists allow is within, though neither is.
        spec(network=NetworkSpec("bridge", attachments=(NARROW,), egress=("*:443",))),
    ),
    (
        "network.egress",
        spec(network=NetworkSpec("bridge", asked_mode="unknown")),
        policy("  network: {egress: []}\n"),
        spec(network=NetworkSpec("slirp4netns", egress=())),
    ),
    (
        "ports.address",
        ports(PortBinding(80, "tcp", "0.0.0.0", 8080)),
        DEFAULT,
        ports(PortBinding(80, "tcp", "127.0.0.2", 8080), PortBinding(80, "tcp", "::1", 8080)),
    ),
    ("ports.address", ports(PortBinding(80, "tcp", "", 8080)), DEFAULT, SPEC),
    ("ports.address", ports(PortBinding(80, "tcp", "::", 8080)), DEFAULT, SPEC),
    ("ports.address", ports(PortBinding(80, "udp", "192.0.2.7", 8080)), DEFAULT, SPEC),
    (
        "ports.privileged",
        ports(PortBinding(80, "tcp", "127.0.0.1", 1023)),
        DEFAULT,
        ports(PortBinding(80, "tcp", "127.0.0.1", 1024), PortBinding(80, "tcp", "127.0.0.1", 0)),
    ),
    (
        "sysctls.namespaced",
        spec(sysctls=(("kernel.core_pattern", "|/x"),)),
        OPEN,
        spec(sysctls=(("net.core.somaxconn", "1"), ("kernel.shmmax", "1"))),
    ),
    (
        "sysctls.namespaced",
        spec(sysctls=(("net.core.somaxconn", "1"),), network=NetworkSpec("host")),
        OPEN,
        SPEC,
    ),
    (
        "sysctls.namespaced",
        spec(
            sysctls=(("fs.mqueue.msg_max", "1"),),
            namespaces=NamespacesSpec(ipc="container:" + "a" * 64),
        ),
        OPEN,
        SPEC,
    ),
    (
        "sysctls.allowed",
        spec(sysctls=(("net.core.somaxconn", "1"),)),
        policy("  sysctls: {allow: [net.ipv4.*]}\n"),
        spec(sysctls=(("net.ipv4.ip_forward", "1"),)),
    ),
    (
        "sysctls.allowed",
        spec(sysctls=(("net.ipv4.ip_unprivileged_port_start", "80"),)),
        policy("  sysctls: {allow: []}\n"),
        spec(sysctls=network_sysctls(SPEC.userns.maps)),
    ),
    (
        "resources.required",
        SPEC,
        policy("  resources: {require: [memory, cpus, pids]}\n"),
        spec(resources=Resources(memory=1, cpu_quota=5, pids_limit=1)),
    ),
    (
        "resources.required",
        spec(resources=Resources(pids_limit=-1)),
        policy("  resources: {require: [pids]}\n"),
        spec(resources=Resources(pids_limit=1)),
    ),
    (
        "resources.maximum",
        spec(resources=Resources(memory=(512 << 20) + 1)),
        policy("  resources: {maximumMemory: 512m}\n"),
        spec(resources=Resources(memory=512 << 20)),
    ),
    ("resources.maximum", SPEC, policy("  resources: {maximumPids: 10}\n"),
     spec(resources=Resources(pids_limit=10))),
    (
        "resources.maximum",
        spec(resources=Resources(cpu_quota=300_000, cpu_period=100_000)),
        policy("  resources: {maximumCpus: 2}\n"),
        spec(resources=Resources(nano_cpus=2_000_000_000)),
    ),
    *(
        (
            "user.root",
            spec(process=ProcessSpec(("sh",), (), "/", user)),
            policy("  user: {requireNonRoot: true}\n"),
            spec(process=ProcessSpec(("sh",), (), "/", "1000:0")),
        )
        for user in ("", "0", "root", "00:5", "root:users")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "bad", "by", "good"), CASES)
def test_rule(rule: str, bad: ContainerSpec, by: Policy, good: ContainerSpec) -> None:
    assert rule in denied(bad, by)
    assert rule not in denied(good, by)


def test_every_rule_has_a_case() -> None:
    elsewhere = {
        "mounts.engine",
        "mounts.engine-socket",
        "mounts.shared-volume",
        "landlock.available",
        "landlock.listening",
        *(f"quotas.{name}" for name in ("containers", "running", "memory", "cpus", "disk")),
        "privileges.setuid-files",
        *(f"images.{name}" for name in ("allowed", "digest", "tag", "age", "size", "trust")),
        *(f"build.{name}" for name in ("base", "network", "secret", "argument", "insecure")),
        *(f"api.{name}" for name in ("action", "role", "grant", "owner")),
    }
    # The standards have tests and tables of their own: test_standards, test_tables.
    ours = {rule.id for rule in RULES if not rule.id.startswith(("cis-docker.", "pss."))}
    assert ours == {rule for rule, *_ in CASES} | elsewhere


def test_without_the_constraint_only_the_floor_denies() -> None:
    floor = {rule.id for rule in RULES if rule.floor}
    for rule, bad, _, _ in CASES:
        if rule not in floor:
            assert rule not in denied(bad, OPEN), rule


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    for name in ("data/volumes/v/_data", "data/layers/abc/fs", "run", "config", "admin", "mine"):
        (tmp_path / name).mkdir(parents=True)
    return replace(
        PATHS,
        data_root=tmp_path / "data",
        exec_root=tmp_path / "run",
        config_dir=tmp_path / "config",
        admin_dir=tmp_path / "admin",
        sockets=(tmp_path / "sockets/api",),
    )


@pytest.mark.parametrize(
    "inside",
    ["data", "data/volumes", "data/volumes/v/_data", "data/new", "run", "config", "admin/x",
     "sockets", "sockets/api", "", ".."],
)  # fmt: skip
def test_the_engines_own_paths_are_never_mounted(engine: Any, tmp_path: Path, inside: str) -> None:
    for read_only in (True, False):
        case = mount(str(tmp_path / inside), read_only=read_only)
        assert "mounts.engine" in denied(case, OPEN, engine)
        audit = policy(more="mode: audit\n")
        assert "mounts.engine" in denied(case, audit, engine)
    assert not denied(mount(str(tmp_path / "mine")), OPEN, engine)


def test_symlinks_are_no_way_to_them(engine: Any, tmp_path: Path) -> None:
    (tmp_path / "mine/link").symlink_to("../config")
    assert "mounts.engine" in denied(mount(str(tmp_path / "mine/link")), OPEN, engine)
    assert "mounts.engine" in denied(mount(str(tmp_path / "mine/link/key")), OPEN, engine)
    linked = replace(engine, config_dir=tmp_path / "mine/link")
    assert "mounts.engine" in denied(mount(str(tmp_path / "config")), OPEN, linked)


def test_volumes_and_images_of_the_engine_are_its_own(engine: Any, tmp_path: Path) -> None:
    def volume(source: Path, name: str) -> ContainerSpec:
        return spec(mounts=(MountSpec("volume", "/v", source=str(source), volume_name=name),))

    data = tmp_path / "data"
    assert not denied(volume(data / "volumes/v/_data", "v"), DEFAULT, engine)
    assert "mounts.engine" in denied(volume(data / "volumes/v/_data", "w"), DEFAULT, engine)
    assert "mounts.engine" in denied(volume(data / "volumes", "v"), DEFAULT, engine)
    assert "mounts.engine" in denied(volume(data / "state.db", "v"), DEFAULT, engine)
    # A volume of the local driver with o=bind is a bind mount.
    assert "mounts.read-only" in denied(volume(Path("/etc"), "v"), DEFAULT, engine)
    image = spec(mounts=(MountSpec("image", "/i", source=str(data / "layers/abc/fs")),))
    assert not denied(image, DEFAULT, engine)
    whole = spec(mounts=(MountSpec("image", "/i", source=str(data / "layers")),))
    assert "mounts.engine" in denied(whole, DEFAULT, engine)


def test_engine_sockets_are_never_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have 107 bytes
    for name in ("docker.sock", "plain.sock"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
    (tmp_path / "free").mkdir()
    for source in (tmp_path, tmp_path / "docker.sock", tmp_path / "free/podman.sock"):
        assert "mounts.engine-socket" in denied(mount(str(source)), OPEN), source
    for source in (tmp_path / "plain.sock", tmp_path / "free"):
        assert not denied(mount(str(source)), OPEN), source
    device = spec(devices=(DeviceSpec(str(tmp_path / "docker.sock"), "/dev/x", "rwm"),))
    assert "mounts.engine-socket" in denied(device, OPEN)


def test_another_name_of_an_engines_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hard link, and a directory with it further down."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "session"))
    (tmp_path / "session/podman").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("session/podman/podman.sock")
    (tmp_path / "harmless").mkdir()
    os.link("session/podman/podman.sock", "harmless/name")
    for source in ("harmless/name", "session", "session/podman", "session/podman/podman.sock"):
        assert "mounts.engine-socket" in denied(mount(str(tmp_path / source)), OPEN), source
    (tmp_path / "session/podman/podman.sock").unlink()
    assert not denied(mount(str(tmp_path / "session")), OPEN)


def test_devices_are_judged_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "kmsg").symlink_to("/dev/kmsg")

    def device(name: str) -> ContainerSpec:
        return spec(devices=(DeviceSpec(str(tmp_path / name), "/dev/x", "rwm"),))

    assert not denied(device("null"))
    assert "devices.allowed" in denied(device("kmsg"))


def test_the_default_container_is_admitted_and_strict_asks_for_more() -> None:
    assert not denied(SPEC)
    assert denied(SPEC, STRICT) >= {
        "capabilities.add", "userns.mode", "user.root", "resources.required",
        "filesystem.read-only-root",
    }  # fmt: skip


def test_a_denial_names_everything_once() -> None:
    bad = spec(
        privileges=PrivilegesSpec(("CAP_CHOWN", "CAP_NET_ADMIN"), True, False),
        namespaces=NamespacesSpec(pid="host"),
        request=asked(cap_add=("NET_ADMIN",)),
    )
    with pytest.raises(Denied) as caught:
        admit(IDENTITY, bad, DEFAULT, FACTS, PATHS)
    message = caught.value.message
    assert message.startswith(f"container quiet_heron denied by policy {DEFAULT.title}: ")
    assert "capabilities.add: HostConfig.CapAdd=NET_ADMIN: " in message
    assert "(fix: leave out --cap-add NET_ADMIN, or allow it in capabilities.allow)" in message
    assert "namespaces.host: HostConfig.PidMode=host: " in message
    found = caught.value.context["findings"]
    assert isinstance(found, list)
    assert {f["rule"] for f in found} == {"capabilities.add", "namespaces.host"}
    assert all(f["source"].startswith("builtin:default:") for f in found)
    assert caught.value.http_status == 403


def test_findings_that_differ_in_their_value_are_told_once() -> None:
    bad = spec(masked_paths=(), readonly_paths=())
    with pytest.raises(Denied) as caught:
        admit(IDENTITY, bad, DEFAULT, FACTS, PATHS)
    message = caught.value.message
    assert message.count("leave out systempaths=unconfined and MaskedPaths") == 1
    assert "MaskedPaths=without /proc/acpi, without /proc/kcore, " in message
    found = caught.value.context["findings"]
    assert isinstance(found, list)
    assert len(found) > 5  # each for itself, for programs


def test_privileged_is_one_finding_not_thirty() -> None:
    bad = spec(
        privileges=PrivilegesSpec(("CAP_SYS_ADMIN", "CAP_BPF"), False, True),
        seccomp=SeccompSpec("unconfined", ""),
        masked_paths=(),
        readonly_paths=(),
    )
    assert denied(bad) == {"privileges.privileged"}
    # Allowed by itself, it does not bring along what else is denied.
    lenient = policy(
        "  privileges: {allowPrivileged: true}\n  capabilities: {deny: [CAP_BPF]}\n"
        "  seccomp: {allowUnconfined: false}\n"
    )
    assert denied(bad, lenient) == {"capabilities.add", "seccomp.unconfined"}
    warning = policy(
        "  privileges: {allowPrivileged: false}\n  capabilities: {deny: [CAP_BPF]}\n",
        more="rules: {privileges.privileged: {mode: warn}}\n",
    )
    assert denied(bad, warning) == {"capabilities.add"}
