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
    from dataclasses import replace

    from rootless.model.plan import LaunchPlan
    from rootless.model.spec import ContainerSpec, IdMap, UsernsSpec
    from rootless.resources import resource_path
    from rootless.runtime.planner import plan_container
    from rootless.runtime.shim_client import ShimClient
    from rootless.seccomp.compile import compile_filter
    from rootless.seccomp.profile import parse_profile, resolve
    from tests.support.sandbox import FACTS, Sandbox

    base = Path(tempfile.mkdtemp(prefix="s-"))
    box = await Sandbox.open(base)
    try:
        seccomp = base / "seccomp.bpf"
        profile = parse_profile(resource_path("profiles", "seccomp/default.json").read_text())
        resolved = resolve(profile, (), platform.machine(), FACTS.kernel)
        seccomp.write_bytes(compile_filter(resolved).loaded)
        # As in the engine, containers without a limit on processes share an owner,
        # and with it the sandbox that is made ahead, on directories made ahead.
        userns = UsernsSpec("shared", (IdMap(0, 1, 60000),), 60001)

        async def planned() -> tuple[ContainerSpec, LaunchPlan]:
            spec = await box.spec("/bin/true", userns=userns)
            layout = box.layout(spec, seccomp_path=str(seccomp))
            plan = replace(plan_container(box.admitted(spec), FACTS, layout), trace=True)
            box.launcher.prepare(plan, ahead=True)
            return spec, plan

        loop = asyncio.get_running_loop()
        print(json.dumps({"ready": True}), flush=True)
        spec, plan = await planned()
        while await loop.run_in_executor(None, sys.stdin.readline):
            begin = time.monotonic_ns()
            created = await box.launcher.create(plan)
            ready = time.monotonic_ns()
            created.close_fds()
            await created.go(listen=True)
            executed = time.monotonic_ns()
            shim = ShimClient(base / spec.id)
            shim.ending = created.ended
            status = await shim.wait()
            end = time.monotonic_ns()
            if status.code != 0:
                raise RuntimeError(f"true ended with {status}")
            trace = flatten(created.trace, begin)
            trace += [
                ("daemon: created", (ready - begin) / 1e3),
                ("daemon: executed", (executed - begin) / 1e3),
                ("daemon: exit status read", (end - begin) / 1e3),
            ]
            spec, plan = await planned()
            print(json.dumps({"seconds": (end - begin) / 1e9, "trace": trace}), flush=True)
    finally:
        await box.close()
        shutil.rmtree(base)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
