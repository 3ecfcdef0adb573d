"""What a whole test run must not leave behind: processes, mounts, cgroups, temporary files."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rootless.linux import cgroupfs
from tests.support import processes


@dataclass(frozen=True)
class Snapshot:
    """The state before the first test."""

    processes: dict[int, str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]


def _mounts() -> frozenset[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        return frozenset(line.split()[4] for line in file)


def _cgroups() -> frozenset[str]:
    subtree = cgroupfs.find().delegated
    if not subtree:
        return frozenset()
    found = {directory for directory, _, _ in os.walk(subtree)}
    return frozenset(found - {f"{subtree}/{cgroupfs.ENGINE_LEAF}"})


def _files() -> frozenset[str]:
    """Entries of TMPDIR; pytest keeps its own, and cleans them by its own rules."""
    place = Path(tempfile.gettempdir())
    return frozenset(
        str(path)
        for path in place.iterdir()
        if not path.name.startswith("pytest-of-") and path.name not in ("cache", "hypothesis")
    )


def snapshot() -> Snapshot:
    """How things are now."""
    return Snapshot(processes.ours(), _mounts(), _cgroups(), _files())


def since(before: Snapshot) -> list[str]:
    """What is there now and was not ``before``.

    Temporary files are only ours where ci/test gave the run a directory of its own.
    """
    found = [f"process {text}" for text in processes.new_since(before.processes, seconds=5.0)]
    found += [f"mount {path}" for path in sorted(_mounts() - before.mounts)]
    if processes.supervisor():
        found += [_describe(path) for path in sorted(_cgroups() - before.cgroups)]
        found += [f"file {path}" for path in sorted(_files() - before.files)]
    return found


def _describe(cgroup: str) -> str:
    """A cgroup with its processes, and whose it is if an engine made it ahead."""
    owner = ""
    with contextlib.suppress(OSError):
        owner = os.fsdecode(os.getxattr(cgroup, "user.rootless.spare"))
    processes = Path(cgroup, "cgroup.procs").read_text().split()
    return f"cgroup {cgroup}, spare of {owner or 'nobody'}, processes: {processes}"
