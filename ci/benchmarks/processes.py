"""Which processes belong to an engine, and their proportional memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.measure import BenchFailed


@dataclass(frozen=True)
class Process:
    """One process. ``command`` is its command line, ``name`` its short name."""

    pid: int
    parent: int
    name: str
    command: str


def snapshot() -> dict[int, Process]:
    """Every living process, zombies aside."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                text = file.read()
            with open(f"/proc/{entry}/cmdline", "rb") as raw:
                command = raw.read().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # it ended meanwhile
        name = text[text.index("(") + 1 : text.rindex(")")]
        state, parent = text.rpartition(")")[2].split()[:2]
        if state != "Z" and command:
            found[int(entry)] = Process(int(entry), int(parent), name, command)
    return found


def tree(root: int, processes: dict[int, Process]) -> list[Process]:
    """``root`` and everything below it."""
    found = [processes[root]] if root in processes else []
    for process in found:
        found += [p for p in processes.values() if p.parent == process.pid]
    return found


def own() -> dict[int, Process]:
    """Every process below the supervisor that started us.

    It is a subreaper, so daemons and what they orphan are below it too; a busy
    machine's other processes are not.
    """
    return {process.pid: process for process in tree(os.getppid(), snapshot())}


def pss(pid: int) -> int:
    """Proportional set size in bytes (proc(5), smaps_rollup); 0 for one that has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) << 10
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError as error:
        raise BenchFailed(f"the memory of process {pid} cannot be read: {error}") from None
    return 0


def total(processes: Iterable[Process]) -> int:
    """Sum of PSS in bytes."""
    return sum(pss(process.pid) for process in processes)
