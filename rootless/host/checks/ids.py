"""Subordinate ids and the two helpers that map them."""

from __future__ import annotations

import os
import stat

from rootless.host.facts import Host
from rootless.host.result import CheckResult, Subject
from rootless.linux.subids import read_ranges

MINIMUM = 65_536
"""One image's worth of ids."""
WIDE = 1 << 20
"""Room for sixteen containers with a full range each, hundreds with a narrow one."""


def helper(host: Host, kind: str) -> CheckResult:
    """newuidmap or newgidmap is installed and privileged, and may gain its privilege."""
    name = f"new{kind}map"
    subject = Subject(name, f"{name} (Debian: uidmap)", required=True)
    cost = "no container can start: only this program may map subordinate ids"
    found = host.program(name)
    if not found:
        return subject.missing("not installed", cost=cost, fix="sudo apt-get install uidmap")
    path = host.path(found)
    mode = path.stat().st_mode
    capable = _has_file_capability(str(path))
    if not mode & stat.S_ISUID and not capable:
        return subject.missing(
            f"{found} is neither setuid root nor has file capabilities",
            cost=cost,
            fix="sudo apt-get install --reinstall uidmap",
        )
    if host.live and os.statvfs(path).f_flag & os.ST_NOSUID:
        return subject.missing(
            f"{found} lies on a file system mounted nosuid",
            cost=cost,
            fix="mount it without nosuid, or install uidmap elsewhere",
        )
    if "NoNewPrivs:\t1" in host.read("/proc/self/status"):
        return subject.missing(
            "this session has no_new_privs set, so setuid programs gain nothing",
            cost=cost,
            fix="log in again outside the sandbox or unit that sets NoNewPrivileges",
        )
    return subject.found(f"{found}, {'file capabilities' if capable else 'setuid'}")


def _has_file_capability(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def ranges(host: Host, kind: str) -> CheckResult:
    """/etc/subuid or /etc/subgid grants the user enough ids for an image."""
    file = f"/etc/sub{kind}"
    subject = Subject(f"sub{kind}", f"subordinate {kind}s in {file}", required=True)
    found = read_ranges(host.path(file), host.user, host.uid)
    total = sum(item.count for item in found)
    shown = ", ".join(f"{item.start}:{item.count}" for item in found)
    return subject.judge(
        f"{total} ids ({shown})" if found else f"no entry for {host.user}",
        ok=total >= MINIMUM,
        cost=f"no container can start: an image needs {MINIMUM} ids",
        fix=f"sudo rootless setup --user {host.user}",
    )


def width(host: Host) -> CheckResult:
    """Enough ids that many containers can have a range of their own."""
    subject = Subject("id-width", "room for ranges of their own (--userns=auto)")
    total = min(
        sum(item.count for item in read_ranges(host.path(f"/etc/sub{kind}"), host.user, host.uid))
        for kind in ("uid", "gid")
    )
    return subject.judge(
        f"{total} ids",
        ok=total >= WIDE,
        cost="only a few containers at a time can run with --userns=auto",
        fix=f"sudo rootless setup --user {host.user}  (grants {WIDE} ids)",
    )
