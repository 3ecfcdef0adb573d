"""What the kernel shows of a running container, and whether that is what the engine recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rootless.linux.peek import settings_of
from rootless.linux.process import CAPABILITIES
from rootless.model.spec import ContainerSpec
from rootless.policy.mounted import Drift, Mounted, mount_drifts
from rootless.policy.paths import MountTable

_FILTERED = 2
"""Seccomp: mode "filter" (proc_pid_status(5))."""
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_OCTAL = re.compile(r"\\([0-7]{3})")
_LISTEN = "0A"
_SETS = ("Bnd", "Eff", "Prm", "Inh", "Amb")
_MOST_CAPABILITIES = 5


@dataclass(frozen=True, slots=True)
class Companion:
    """Another process of the container: what it may that the first one may not counts too."""

    pid: int
    name: str
    capabilities: frozenset[str]
    no_new_privileges: bool
    filtered: bool


@dataclass(frozen=True, slots=True)
class KernelView:
    """One process as the kernel has it. ``shared`` are the namespaces it has from the host.

    Ids are those inside the container; ``outside_root`` is what its root is outside.
    Limits are None where the files cannot be read, -1 where there is none.
    """

    uid: int
    gid: int
    capabilities: dict[str, tuple[str, ...]]
    no_new_privileges: bool
    filtered: bool
    shared: frozenset[str]
    outside_root: int | None
    mounts: tuple[Mounted, ...]
    memory: int | None = None
    pids: int | None = None
    listening: tuple[int, ...] = ()
    present: frozenset[str] = frozenset()
    """Of the paths that were asked for those that there are in the container."""
    companions: tuple[Companion, ...] = ()
    """The other processes of its PID and mount namespace."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Kernel parameters that were asked for."""
    label: str = ""
    """Of SELinux or another security module; '' where there is none."""


def _names(mask: str) -> tuple[str, ...]:
    value = int(mask, 16)
    return tuple(name for bit, name in enumerate(CAPABILITIES) if value >> bit & 1)


def parse_status(text: str) -> dict[str, str]:
    """The fields of ``/proc/PID/status``."""
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


def parse_mountinfo(text: str) -> tuple[Mounted, ...]:
    """The mounts of ``/proc/PID/mountinfo``."""
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        dash = fields.index("-", 6)
        options = fields[5].split(",")
        found.append(
            Mounted(
                _plain(fields[4]), _plain(fields[3]), fields[dash + 1], "ro" in options, fields[2]
            )
        )
    return tuple(found)


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def parse_listening(text: str) -> tuple[int, ...]:
    """Ports of listening sockets in ``/proc/PID/net/tcp``."""
    rows = (line.split() for line in text.splitlines()[1:])
    return tuple(sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN}))


def parse_id_map(text: str) -> tuple[tuple[int, int, int], ...]:
    """The lines of ``/proc/PID/uid_map``: inside, outside, size."""
    return tuple(
        (int(a), int(b), int(c)) for a, b, c in (line.split() for line in text.splitlines())
    )


def _inside(outside: int, id_map: tuple[tuple[int, int, int], ...]) -> int:
    for first, there, size in id_map:
        if there <= outside < there + size:
            return first + outside - there
    return -1


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _label(base: str) -> str:
    try:
        return _read(f"{base}/attr/current").rstrip("\0\n")
    except OSError:  # EINVAL: no security module has any
        return ""


_HIERARCHIES = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
"""Where version 2 may be mounted; the first on hosts that have version 1 beside it."""


def _limit(name: str, group: str) -> int | None:
    root = next((r for r in _HIERARCHIES if os.path.exists(f"{r}/cgroup.controllers")), "")
    try:
        text = _read(f"{root}{group}/{name}").strip()
    except OSError:
        return None
    return -1 if text == "max" else int(text)


def look(pid: int, paths: Iterable[str] = (), settings: Sequence[str] = ()) -> KernelView:
    """Read what the kernel shows of a process; OSError when it is gone or not ours to see.

    ``paths`` and ``settings`` (names of kernel parameters) are looked for in the container.
    """
    base = f"/proc/{pid}"
    status = parse_status(_read(f"{base}/status"))
    id_map = parse_id_map(_read(f"{base}/uid_map"))
    gid_map = parse_id_map(_read(f"{base}/gid_map"))
    groups = [line for line in _read(f"{base}/cgroup").splitlines() if line.startswith("0::")]
    group = groups[0].removeprefix("0::").rstrip("/") if groups else ""
    root = next((outside for inside, outside, _ in id_map if inside == 0), None)
    shared = frozenset(name for name in NAMESPACES if _same(base, name))
    return KernelView(
        uid=_inside(int(status["Uid"].split()[1]), id_map),
        gid=_inside(int(status["Gid"].split()[1]), gid_map),
        capabilities={name: _names(status[f"Cap{name}"]) for name in _SETS},
        no_new_privileges=status.get("NoNewPrivs") == "1",
        filtered=int(status.get("Seccomp", "0")) == _FILTERED,
        shared=shared,
        outside_root=root,
        mounts=parse_mountinfo(_read(f"{base}/mountinfo")),
        memory=_limit("memory.max", group) if group else None,
        pids=_limit("pids.max", group) if group else None,
        listening=() if "net" in shared else _listening(base),
        present=frozenset(path for path in paths if os.path.lexists(f"{base}/root{path}")),
        companions=() if {"pid", "mnt"} & shared else tuple(_companions(pid)),
        settings=settings_of(pid, settings),
        label=_label(base),
    )


def _companions(pid: int) -> Iterator[Companion]:
    """The processes that have the PID and the mount namespace of ``pid``."""
    wanted = _place(pid)
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == pid:
            continue
        try:
            if _place(int(name)) == wanted:
                status = parse_status(_read(f"/proc/{name}/status"))
                yield Companion(
                    int(name),
                    status["Name"],
                    frozenset(cap for each in _SETS for cap in _names(status[f"Cap{each}"])),
                    status.get("NoNewPrivs") == "1",
                    int(status.get("Seccomp", "0")) == _FILTERED,
                )
        except (OSError, KeyError):
            continue  # it ended, or it is somebody else's


def _place(pid: int) -> tuple[str, str]:
    return os.readlink(f"/proc/{pid}/ns/pid"), os.readlink(f"/proc/{pid}/ns/mnt")


def _same(base: str, name: str) -> bool:
    return os.readlink(f"{base}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}")


def _listening(base: str) -> tuple[int, ...]:
    ports: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            ports.update(parse_listening(_read(f"{base}/net/{name}")))
        except OSError:
            continue
    return tuple(sorted(ports))


def drifts(
    spec: ContainerSpec, seen: KernelView, own_uid: int, table: MountTable
) -> Iterator[Drift]:
    """Where the kernel shows less protection than the record says; ``table`` is the host's."""
    granted = frozenset(spec.privileges.capabilities)
    for name in _SETS:
        more = sorted(set(seen.capabilities[name]) - granted)
        if more:
            shown = " ".join(cap.removeprefix("CAP_") for cap in more)
            yield Drift("HostConfig.CapAdd", "not granted", f"{name.lower()}: {shown}")
    if spec.privileges.no_new_privileges and not seen.no_new_privileges:
        yield Drift("HostConfig.SecurityOpt", "no-new-privileges", "it is off")
    if spec.seccomp.kind != "unconfined" and not seen.filtered:
        yield Drift("HostConfig.SecurityOpt", f"seccomp={spec.seccomp.kind}", "no filter")
    if spec.selinux.process and seen.label != spec.selinux.process:
        yield Drift("ProcessLabel", spec.selinux.process, seen.label or "no label")
    if seen.outside_root in {0, own_uid} and own_uid:
        yield Drift("HostConfig.UsernsMode", "a subordinate id", f"root is {seen.outside_root}")
    yield from _namespace_drifts(spec, seen)
    yield from _user_drifts(spec, seen)
    yield from mount_drifts(spec, seen.mounts, seen.present, table)
    yield from _process_drifts(spec, seen)
    yield from _sysctl_drifts(spec, seen)
    yield from _limit_drifts(spec, seen)


def _root(seen: KernelView) -> Mounted:
    return [mount for mount in seen.mounts if mount.point == "/"][-1]


def _namespace_drifts(spec: ContainerSpec, seen: KernelView) -> Iterator[Drift]:
    for kind, name, field_name in (
        ("net", "network", "NetworkMode"),
        ("ipc", "ipc", "IpcMode"),
        ("pid", "pid", "PidMode"),
        ("uts", "uts", "UTSMode"),
        ("cgroup", "cgroup", "CgroupnsMode"),
    ):
        recorded = getattr(spec.namespaces, name)
        if kind in seen.shared and recorded != "host":
            yield Drift(f"HostConfig.{field_name}", recorded, "the host's")
    for kind in ("mnt", "user"):
        if kind in seen.shared:
            yield Drift("HostConfig", "private", f"the {kind} namespace is the host's")


def _user_drifts(spec: ContainerSpec, seen: KernelView) -> Iterator[Drift]:
    name = spec.process.user.partition(":")[0]
    if name.isdecimal() and int(name) and seen.uid == 0:
        yield Drift("Config.User", spec.process.user, "uid 0")


def weaker(spec: ContainerSpec, seen: KernelView) -> dict[int, str]:
    """Processes that may do what the container may not: by pid, what that is."""
    granted = frozenset(spec.privileges.capabilities)
    found = {}
    for one in seen.companions:
        more = sorted(cap.removeprefix("CAP_") for cap in one.capabilities - granted)
        rest = len(more) - _MOST_CAPABILITIES
        shown = " ".join(more[:_MOST_CAPABILITIES]) + (f" and {rest} more" if rest > 0 else "")
        parts = [f"capabilities {shown}"] if more else []
        if spec.privileges.no_new_privileges and not one.no_new_privileges:
            parts.append("new privileges")
        if spec.seccomp.kind != "unconfined" and not one.filtered:
            parts.append("no system call filter")
        if parts:
            found[one.pid] = f"process {one.pid} ({one.name}) has {', '.join(parts)}"
    return found


def _process_drifts(spec: ContainerSpec, seen: KernelView) -> Iterator[Drift]:
    for found in weaker(spec, seen).values():
        yield Drift("HostConfig", "the container's protections", found)


def _sysctl_drifts(spec: ContainerSpec, seen: KernelView) -> Iterator[Drift]:
    for name, value in spec.sysctls:
        found = seen.settings.get(name)
        if found is not None and found != " ".join(value.split()):
            yield Drift("HostConfig.Sysctls", f"{name}={value}", found)


def _limit_drifts(spec: ContainerSpec, seen: KernelView) -> Iterator[Drift]:
    for name, recorded, found in (
        ("Memory", spec.resources.memory, seen.memory),
        ("PidsLimit", spec.resources.pids_limit or 0, seen.pids),
    ):
        if recorded > 0 and found is not None and (found < 0 or found > recorded):
            shown = "no limit" if found < 0 else str(found)
            yield Drift(f"HostConfig.{name}", str(recorded), shown)


def body_as_seen(record: dict[str, Any], seen: KernelView) -> dict[str, Any]:
    """The inspect document with what the kernel shows in the place of what was recorded."""
    host = dict(record["HostConfig"])
    options = [
        option
        for option in host.get("SecurityOpt") or ()
        if not option.startswith(("no-new-privileges", "seccomp"))
    ]
    options.append("no-new-privileges" if seen.no_new_privileges else "no-new-privileges=false")
    if not seen.filtered:
        options.append("seccomp=unconfined")
    elif any(o.startswith("seccomp") for o in host.get("SecurityOpt") or ()):
        options += [o for o in host["SecurityOpt"] if o.startswith("seccomp")]
    host["SecurityOpt"] = options
    host["CapDrop"] = ["ALL"]
    host["CapAdd"] = [name.removeprefix("CAP_") for name in seen.capabilities["Bnd"]]
    host["ReadonlyRootfs"] = _root(seen).read_only
    for kind, name in (
        ("net", "NetworkMode"),
        ("ipc", "IpcMode"),
        ("pid", "PidMode"),
        ("uts", "UTSMode"),
        ("cgroup", "CgroupnsMode"),
    ):
        if kind in seen.shared:
            host[name] = "host"
    if seen.memory is not None:
        host["Memory"] = max(seen.memory, 0)
    if seen.pids is not None:
        host["PidsLimit"] = seen.pids if seen.pids >= 0 else 0
    config = {**(record.get("Config") or {}), "User": f"{seen.uid}:{seen.gid}"}
    return {**record, "Config": config, "HostConfig": host}
