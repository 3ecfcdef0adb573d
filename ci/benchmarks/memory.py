"""Proportional memory of what an engine keeps for idle containers, and of the idle engine."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import processes
from benchmarks.measure import BenchFailed, Series, output
from benchmarks.report import Goal, Line, lines
from benchmarks.world import IMAGE, World

CONTAINERS = 10
MIB = 1 << 20
PAYLOAD = "sleep 100000"
SETTLED = 2.0
"""Seconds after which what only a start needs is over, in either engine."""


def _engine(world: World) -> float:
    """PSS of the daemon and what it keeps without a container, the launcher included."""
    daemon = world.daemon_pid()
    if not daemon:
        raise BenchFailed("rootlessd does not run")
    return processes.total(processes.tree(daemon, processes.snapshot())) / MIB


def _kind(process: processes.Process) -> str:
    """What a helper is: the program behind a setuid or interpreter start is its name."""
    for known in ("slirp4netns", "conmon", "fuse-overlayfs", "catatonit", "podman"):
        if known in process.name or known.startswith(process.name):
            return known
    return process.name


def _helpers(
    argv: Sequence[str], env: dict[str, str], remove: Sequence[str]
) -> tuple[dict[str, float], float]:
    """MiB for each further idle container by kind of helper, its own process aside.

    And MiB of what the first one brings that all share, such as a bridge's.
    """

    def start() -> str:
        return output([*argv, "-d", IMAGE, *PAYLOAD.split()], env, seconds=60).strip()

    nobody = set(processes.own())
    ids = [start()]
    try:
        time.sleep(SETTLED)
        first = set(processes.own())
        ids += [start() for _ in range(CONTAINERS)]
        time.sleep(SETTLED)
        found: dict[str, float] = {}
        running = processes.own()
        ahead = _spare(running)
        counted = {
            pid: _kind(process)
            for pid, process in running.items()
            if pid not in nobody and pid not in ahead and not process.command.endswith(PAYLOAD)
        }
        for pid, kind in counted.items():
            if pid not in first:
                found[kind] = found.get(kind, 0.0) + processes.pss(pid) / MIB / CONTAINERS
        shared = [pid for pid, kind in counted.items() if pid in first and kind not in found]
        return found, sum(map(processes.pss, shared)) / MIB
    finally:
        output([*remove, *ids], env)


def _spare(running: dict[int, processes.Process]) -> set[int]:
    """The sandbox made ahead, its shim included: the engine's (:func:`_engine`), no container's."""
    inner = {pid for pid, process in running.items() if process.name == "rootless-spare"}
    return inner | {running[pid].parent for pid in inner}


def memory(world: World, rounds: int) -> list[Line]:
    """MiB for each of ten idle containers, by helper and in sum; and for the idle engine."""
    del rounds  # memory is not a matter of chance
    found: dict[str, Series] = {}

    def note(name: str, value: float) -> None:
        found[name] = Series([value])

    setups = (
        ("rootless", world.rootless_run(""), world.env, [world.rootless, "rm", "-f"]),
        (
            "podman",
            world.podman_run(""),
            world.podman_env,
            [*world.podman, "rm", "--force", "--time=0"],
        ),
    )
    for name, argv, env, remove in setups:
        try:
            if name == "rootless":
                note("daemon+launcher", _engine(world))
            parts, shared = _helpers(argv, env, remove)
        except BenchFailed as error:
            found[f"{name} sum"] = Series([], str(error))
            continue
        for kind, value in sorted(parts.items()):
            note(f"{name} {kind}", value)
        note(f"{name} sum", sum(parts.values()))
        note(f"{name} shared by all", shared)
        if name == "rootless":
            note("daemon+launcher 2", _engine(world))
    shims = [name for name in found if "shim" in name]
    goals = [
        Goal("rootless sum", "podman sum", 1),
        Goal("daemon+launcher", "", 80),
        Goal("daemon+launcher 2", "", 80),
        *(Goal(name, "", 1.5) for name in shims),
    ]
    goals = [g for g in goals if g.subject in found and (not g.against or g.against in found)]
    return lines("memory", "MB", found, goals)
