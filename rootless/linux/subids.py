"""Subordinate ids: who owns which ranges, and mapping them (subuid(5), newuidmap(1))."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import HostUnsupported


@dataclass(frozen=True, slots=True)
class SubidRange:
    """``count`` host ids from ``start``."""

    start: int
    count: int


def read_ranges(path: Path, user: str, uid: int) -> tuple[SubidRange, ...]:
    """The ranges that ``path`` (/etc/subuid or /etc/subgid) grants to a user, in file order.

    An entry names the user or the numeric uid; malformed lines are skipped, as
    newuidmap does.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ()
    found = []
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) != 3 or parts[0] not in {user, str(uid)}:
            continue
        if parts[1].isdigit() and parts[2].isdigit() and int(parts[2]) > 0:
            found.append(SubidRange(int(parts[1]), int(parts[2])))
    return tuple(found)


def user_name(uid: int) -> str:
    """The user's name, or the number where there is no entry."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def engine_ranges(kind: str) -> tuple[SubidRange, ...]:
    """The caller's ranges for ``kind`` 'uid' or 'gid'; having none is an error with its fix."""
    uid = os.getuid()
    user = user_name(uid)
    ranges = read_ranges(Path(f"/etc/sub{kind}"), user, uid)
    if not ranges:
        raise HostUnsupported(
            f"cannot map {kind}s: /etc/sub{kind} has no entry for {user}",
            hint=f"sudo rootless setup --user {user}",
        )
    return ranges


def id_count() -> int:
    """Ids in the engine's user namespace: the user's own, and the smaller of the two grants."""
    return 1 + min(sum(r.count for r in engine_ranges(kind)) for kind in ("uid", "gid"))


def map_arguments(pid: int, own: int, ranges: tuple[SubidRange, ...], count: int) -> list[str]:
    """Arguments for newuidmap(1): 0 → ``own``, then the ranges without a gap, ``count`` ids."""
    arguments = [str(pid), "0", str(own), "1"]
    inside = 1
    for item in ranges:
        size = min(item.count, count - inside)
        if size <= 0:
            break
        arguments += [str(inside), str(item.start), str(size)]
        inside += size
    return arguments


def map_tool(kind: str) -> str:
    """The path of newuidmap or newgidmap."""
    name = f"new{kind}map"
    found = shutil.which(name) or shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise HostUnsupported(
            f"{name} is not installed, and without it no subordinate ids can be mapped",
            hint="sudo apt-get install uidmap",
        )
    return found
