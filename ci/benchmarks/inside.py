"""The inner part of ci/bench, as the unprivileged user: prepare, measure, print."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import load, memory, networks, policy, pull, remote, report, runs, startup
from benchmarks.measure import BenchFailed
from benchmarks.world import World

Benchmark = Callable[[World, int], list[report.Line]]

BENCHMARKS: dict[str, Benchmark] = {
    "startup": startup.startup,
    "run": runs.run,
    "many": runs.many,
    "exec": runs.exec_,
    "memory": memory.memory,
    "pull": pull.pull,
    "cli": runs.cli,
    "policy": policy.policy,
    "throughput": runs.throughput,
    "networks": networks.networks,
    "load": load.load,
    "remote": remote.remote,
}


def run(place: Path, names: list[str], rounds: int) -> int:
    """Run the named benchmarks; 1 when this engine could not run at all, else 0."""
    world = World(place, os.environ)
    rows: list[report.Line] = []
    try:
        problems = {"rootless": world.prepare_rootless(), "podman": world.prepare_podman()}
        for name, problem in problems.items():
            if problem:
                print(f"{name} does not work here: {problem}", file=sys.stderr, flush=True)
        for name in names:
            print(f"==> {name}", file=sys.stderr, flush=True)
            try:
                found = BENCHMARKS[name](world, rounds)
            except BenchFailed as error:
                found = [report.Line(name, "-", "", None, None, 0, str(error), ())]
            rows += found
            print(report.table(found), file=sys.stderr, flush=True)
    finally:
        world.close()
    timeline = startup.TIMELINE
    print(report.table(rows))
    if timeline:
        print("\nstart-up, step by step (median of microseconds since the request)")
        for step, value in timeline:
            print(f"{value:>9.0f}  {step}")
    text = json.dumps(report.document(rows, timeline), indent=1)
    (place / "w/results.json").write_text(text + "\n")
    return 1 if problems["rootless"] else 0
