"""Run by ``ci/bench startup`` with the engine's Python: a launcher, and containers on demand."""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless.model.plan import LaunchPlan
    from tests.support.sandbox import Sandbox


def flatten(trace: object, begin: int) -> list[tuple[str, float]]:
    """Marks of launcher, shim and init as (name, microseconds since ``begin``)."""
    found: list[tuple[str, float]] = []

    def walk(value: object) -> None:
        if not isinstance(value, (list, tuple)):
            return
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            found.append((value[0], (value[1] - begin) / 1e3))
            return
        for item in value:
            walk(item)

    walk(trace)
    return found


async def main(source: str) -> None:
    """Serve one line of standard input after another."""
    sys.path.insert(0, source)
    from tests.support.sandbox import Sandbox

    base = Path(tempfile.mkdtemp(prefix="s-"))
    box = await Sandbox.open(base)
    try:
        seccomp = base / "seccomp.bpf"
        _write_filter(seccomp)
        loop = asyncio.get_running_loop()
        print(json.dumps({"ready": True}), flush=True)
        plan = await _planned(box, seccomp)
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(await _run(box, plan)), flush=True)
            plan = await _planned(box, seccomp)
    finally:
        await box.close()
        shutil.rmtree(base)


def _write_filter(path: Path) -> None:
    from rootless.resources import resource_path
    from rootless.seccomp.compile import compile_filter
    from rootless.seccomp.profile import parse_profile, resolve
    from tests.support.sandbox import FACTS

    profile = parse_profile(resource_path("profiles", "seccomp/default.json").read_text())
    resolved = resolve(profile, (), platform.machine(), FACTS.kernel)
    path.write_bytes(compile_filter(resolved).loaded)


async def _planned(box: Sandbox, seccomp: Path) -> LaunchPlan:
    """The next container's plan.

    As in the engine, containers without a limit on processes share an owner, and
    with it the sandbox that is made ahead, on directories made ahead.
    """
    from dataclasses import replace

    from rootless.model.mounts import IdMap
    from rootless.model.spec import UsernsSpec
    from rootless.runtime.planner import plan_container
    from tests.support.sandbox import FACTS

    userns = UsernsSpec("shared", (IdMap(0, 1, 60000),), 60001)
    spec = await box.spec("/bin/true", userns=userns)
    layout = box.layout(spec, seccomp_path=str(seccomp))
    plan = replace(plan_container(box.admitted(spec), FACTS, layout), trace=True)
    box.launcher.prepare(plan, ahead=True, enter=True)
    return plan


async def _run(box: Sandbox, plan: LaunchPlan) -> dict[str, object]:
    from rootless.runtime.launcher_client import entry_key
    from rootless.runtime.shim_client import ShimClient

    begin = time.monotonic_ns()
    created = await box.launcher.create(plan, key=entry_key(plan))
    ready = time.monotonic_ns()
    created.close_fds()
    await created.ready()
    stands = time.monotonic_ns()
    await created.go(listen=True)
    executed = time.monotonic_ns()
    shim = ShimClient(Path(plan.directory))
    shim.ending = created.ended
    status = await shim.wait()
    end = time.monotonic_ns()
    if status.code != 0:
        raise RuntimeError(f"true ended with {status}")
    trace = flatten(created.trace, begin)
    trace += [
        ("daemon: created", (ready - begin) / 1e3),
        ("daemon: sandbox stands", (stands - begin) / 1e3),
        ("daemon: executed", (executed - begin) / 1e3),
        ("daemon: exit status read", (end - begin) / 1e3),
    ]
    return {"seconds": (end - begin) / 1e9, "trace": trace}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
