"""Reading /proc/PID (proc(5)). A process that is gone raises ProcessLookupError."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from rootless.model.mounts import IdMap


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """From /proc/PID/stat. ``start`` is in clock ticks since boot; with the pid it names a process.

    ``utime`` and ``stime`` are clock ticks, ``rss`` is bytes.
    """

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    tty: int
    utime: int
    stime: int
    threads: int
    start: int
    rss: int


_PAGE = os.sysconf("SC_PAGESIZE")


def _read(pid: int, name: str, proc: str) -> str:
    """A file of /proc/PID as text; bytes that are not UTF-8 survive as surrogates."""
    try:
        with open(f"{proc}/{pid}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        # open() gives ENOENT and read() ESRCH when the process ends in between.
        if error.errno in (errno.ENOENT, errno.ESRCH):
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from None
        raise


def parse_stat(text: str) -> ProcessStat:
    """One line of /proc/PID/stat. The name may hold blanks and parentheses."""
    head, _, tail = text.rpartition(")")
    pid, _, comm = head.partition(" (")
    field = tail.split()
    return ProcessStat(
        pid=int(pid),
        comm=comm,
        state=field[0],
        ppid=int(field[1]),
        pgrp=int(field[2]),
        session=int(field[3]),
        tty=int(field[4]),
        utime=int(field[11]),
        stime=int(field[12]),
        threads=int(field[17]),
        start=int(field[19]),
        rss=int(field[21]) * _PAGE,
    )


def stat(pid: int, *, proc: str = "/proc") -> ProcessStat:
    """The process' stat line."""
    return parse_stat(_read(pid, "stat", proc))


def start_time(pid: int, *, proc: str = "/proc") -> int:
    """When the process started, in clock ticks since boot: (pid, start) is never reused."""
    return stat(pid, proc=proc).start


def is_alive(pid: int, start: int, *, proc: str = "/proc") -> bool:
    """Does the very process that started at ``start`` still run (a zombie does not)?"""
    try:
        found = stat(pid, proc=proc)
    except ProcessLookupError:
        return False
    return found.start == start and found.state not in "ZX"


def status(pid: int, *, proc: str = "/proc") -> dict[str, str]:
    """/proc/PID/status as a mapping, for example ``{"NoNewPrivs": "1"}``."""
    found = {}
    for line in _read(pid, "status", proc).splitlines():
        key, _, value = line.partition(":")
        found[key] = value.strip()
    return found


def id_map(pid: int, kind: str = "uid", *, proc: str = "/proc") -> tuple[IdMap, ...]:
    """/proc/PID/uid_map or gid_map as the reader's namespace sees it (user_namespaces(7))."""
    rows = (line.split() for line in _read(pid, f"{kind}_map", proc).splitlines())
    return tuple(IdMap(int(inside), int(outside), int(size)) for inside, outside, size in rows)


def cmdline(pid: int, *, proc: str = "/proc") -> tuple[str, ...]:
    """The arguments; empty for a zombie or a kernel thread."""
    text = _read(pid, "cmdline", proc)
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def all_pids(*, proc: str = "/proc") -> list[int]:
    """Every process that /proc shows, ascending."""
    return sorted(int(name) for name in os.listdir(proc) if name.isdigit())


def namespace(pid: int, kind: str, *, proc: str = "/proc") -> int:
    """The inode number that names the process' namespace of ``kind`` (pid, net, …).

    Following the link needs ptrace access to the process (namespaces(7));
    without it this raises PermissionError.
    """
    try:
        return os.stat(f"{proc}/{pid}/ns/{kind}").st_ino
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            raise ProcessLookupError(errno.ESRCH, f"no process {pid}") from None
        raise


def descendants(pid: int, *, proc: str = "/proc") -> list[int]:
    """Every process below ``pid``, nearest first, without ``pid``. Zombies are included."""
    children: dict[int, list[int]] = {}
    for candidate in all_pids(proc=proc):
        try:
            children.setdefault(stat(candidate, proc=proc).ppid, []).append(candidate)
        except ProcessLookupError:
            continue
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, [])]
        found += level
    return found


def pids_of_namespace(init: int, *, proc: str = "/proc") -> list[int]:
    """The processes of the pid namespace whose first process is ``init``, with ``init`` first.

    Orphans in a pid namespace are adopted by its init, and what joined from
    outside (exec) has a parent outside; so descendants come by parent, and the
    others by the length of ``NSpid`` and the namespace's inode.
    """
    inode = namespace(init, "pid", proc=proc)
    depth = len(status(init, proc=proc).get("NSpid", "").split())
    found = []
    for candidate in all_pids(proc=proc):
        try:
            ids = status(candidate, proc=proc).get("NSpid", "").split()
            if len(ids) >= depth and namespace(candidate, "pid", proc=proc) == inode:
                found.append(candidate)
        except (ProcessLookupError, PermissionError):
            continue
    return [init, *(p for p in found if p != init)]


def pid_inside(pid: int, *, proc: str = "/proc") -> int:
    """The process' pid in its own (innermost) pid namespace."""
    return int(status(pid, proc=proc)["NSpid"].split()[-1])


def pss(pid: int, *, proc: str = "/proc") -> int:
    """Proportional set size in bytes: shared pages count by the number of their users."""
    for line in _read(pid, "smaps_rollup", proc).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
