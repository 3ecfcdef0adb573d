"""The user's session: run-time directory, lingering, cgroups."""

from __future__ import annotations

import stat
from pathlib import Path

from rootless.host.facts import Host
from rootless.host.result import CheckResult, Subject
from rootless.linux import cgroupfs

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


def runtime_dir(host: Host) -> CheckResult:
    """XDG_RUNTIME_DIR exists, is the user's own and private (XDG base directories)."""
    subject = Subject("runtime-dir", "XDG_RUNTIME_DIR", required=True)
    cost = "the daemon has no place for its socket"
    fix = f"sudo rootless setup --user {host.user}"
    path = host.runtime_dir
    try:
        found = host.path(path).stat()
    except OSError:
        return subject.missing(f"{path} does not exist", cost=cost, fix=fix)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != host.uid:
        return subject.missing(
            f"{path} is not a directory of {host.user}",
            cost=cost,
            fix=f"export XDG_RUNTIME_DIR=/run/user/{host.uid}",
        )
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        return subject.missing(
            f"{path} is open to others (mode {mode:04o})", cost=cost, fix=f"chmod 0700 {path}"
        )
    unset = "" if host.environ.get("XDG_RUNTIME_DIR") else " (the default, not set here)"
    return subject.found(path + unset)


def linger(host: Host) -> CheckResult:
    """With systemd: the user's services outlive the last logout."""
    subject = Subject("linger", "containers outlive the login")
    if not host.systemd:
        return subject.found("no systemd: nothing ends processes at logout")
    ok = host.path(f"/var/lib/systemd/linger/{host.user}").exists()
    return subject.judge(
        "lingering" if ok else "not lingering",
        ok=ok,
        cost="the daemon started by systemd ends, with its containers, at the last logout",
        fix=f"sudo loginctl enable-linger {host.user}",
    )


def cgroup_v2(host: Host) -> CheckResult:
    """A cgroup2 file system, alone or beside v1."""
    subject = Subject("cgroup-v2", "cgroup v2")
    root = cgroupfs.mount_point(host.read("/proc/self/mountinfo"))
    if root and not host.path(f"{root}/cgroup.procs").exists():
        root = ""  # covered by another mount
    hybrid = root.endswith("/unified")
    return subject.judge(
        f"{root}{' (hybrid: v1 keeps most controllers)' if hybrid else ''}" if root else "none",
        ok=bool(root),
        cost="no limits, no pause, and a slower kill",
        fix="boot with systemd.unified_cgroup_hierarchy=1",
    )


def controllers(host: Host) -> CheckResult:
    """Which controllers the user may set limits with."""
    subject = Subject("cgroup-delegation", "delegated cgroup controllers")
    found, where = _delegated(host)
    lacking = [name for name in CONTROLLERS if name not in found]
    fix = f"sudo rootless setup --user {host.user}, then log in again"
    if not where:
        detail = "no subtree is delegated to this session"
    else:
        detail = f"{' '.join(found) or 'none'} in {where}"
    return subject.judge(
        detail,
        ok=bool(where) and not lacking,
        cost="limits that need " + ", ".join(lacking or CONTROLLERS) + " are refused",
        fix=fix,
    )


def _delegated(host: Host) -> tuple[tuple[str, ...], str]:
    """Controllers and directory: our own session's, else the user manager's of systemd."""
    if host.live:
        facts = cgroupfs.find()
        if facts.delegated:
            return facts.controllers, facts.delegated
    root = cgroupfs.mount_point(host.read("/proc/self/mountinfo"))
    manager = f"{root}/user.slice/user-{host.uid}.slice/user@{host.uid}.service"
    path = host.path(manager)
    if root and path.is_dir() and path.stat().st_uid == host.uid:
        return cgroupfs.controllers_of(Path(path)), manager
    return (), ""
