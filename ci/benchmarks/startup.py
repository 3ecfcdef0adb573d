"""The launcher's part of a start, step by step, and next to bubblewrap."""

from __future__ import annotations

import json
import statistics
import subprocess

from benchmarks.measure import BenchFailed, interleave, timed
from benchmarks.report import Goal, Line, lines
from benchmarks.world import World

TIMELINE: list[tuple[str, float]] = []
"""Filled by :func:`startup`: step, median microseconds since the request."""


class Probe:
    """A process with a warm launcher that starts one container a line it is sent."""

    def __init__(self, world: World) -> None:
        source = world.place / "src"
        self._process = subprocess.Popen(
            [world.python, "-B", str(source / "ci/benchmarks/probe.py"), str(source)],
            env={**world.env, "TMPDIR": str(world.base)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.traces: list[list[tuple[str, float]]] = []
        if self._read() != {"ready": True}:
            raise BenchFailed("the launcher probe did not get ready")

    def _read(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed("the launcher probe ended; its message is above")
        answer: dict[str, object] = json.loads(line)
        return answer

    def run(self) -> float:
        """Seconds from the request to the container's exit."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("run\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchFailed("the launcher probe ended; its message is above") from None
        answer = self._read()
        self.traces.append([(str(n), float(v)) for n, v in answer["trace"]])  # type: ignore[attr-defined]  # the probe's JSON
        return float(str(answer["seconds"]))

    def close(self) -> None:
        """End it; it removes its files."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _timeline(traces: list[list[tuple[str, float]]]) -> list[tuple[str, float]]:
    """Median of each step over the runs that have it, in order of time."""
    times: dict[str, list[float]] = {}
    for trace in traces:
        for name, value in trace:
            times.setdefault(name, []).append(value)
    return sorted(
        ((name, statistics.median(values)) for name, values in times.items()), key=lambda p: p[1]
    )


def startup(world: World, rounds: int) -> list[Line]:
    """Launcher (request to exit of ``true``) against bubblewrap and crun."""
    probe = Probe(world)
    try:
        found = interleave(
            {
                "launcher": probe.run,
                "bwrap": lambda: timed(world.bwrap(), world.env),
                "crun": lambda: timed(world.crun(), world.env),
            },
            rounds or 40,
            warm=5,
        )
    finally:
        probe.close()
    TIMELINE[:] = _timeline(probe.traces[5:])
    return lines("startup", "ms", found, [Goal("launcher", "bwrap", 1.5)], 1e3)
