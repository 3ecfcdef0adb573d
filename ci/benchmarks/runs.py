"""Whole processes: run, many runs, exec, the bare command line, bytes through a container."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.measure import BenchFailed, interleave, output, timed
from benchmarks.report import Goal, Line, lines
from benchmarks.world import IMAGE, World

MANY = 50
AT_ONCE = 8
THROUGHPUT_BYTES = 1 << 30
_CHUNK = (b"0123456789abcdef" * 8)[:127] + b"\n"
_CHUNK *= (1 << 20) // len(_CHUNK)
"""Text, because the log of the container is text: binary data would measure its escapes."""


def run(world: World, rounds: int) -> list[Line]:
    """``run --rm IMAGE true`` without and with a network, against Podman, crun, bubblewrap."""

    def rootless(network: str) -> float:
        return timed([*world.rootless_run(network), IMAGE, "true"], world.env)

    def podman(network: str) -> float:
        return timed([*world.podman_run(network), IMAGE, "true"], world.podman_env)

    found = interleave(
        {
            "rootless": lambda: rootless("none"),
            "podman": lambda: podman("none"),
            "crun": lambda: timed(world.crun(), world.env),
            "bwrap": lambda: timed(world.bwrap(), world.env),
            "rootless-slirp": lambda: rootless(""),
            "podman-slirp": lambda: podman(""),
        },
        rounds or 20,
    )
    goals = [
        Goal("rootless", "podman", 1 / 6),
        Goal("rootless", "crun", 2),
        Goal("rootless-slirp", "podman-slirp", 1 / 4),
    ]
    return lines("run", "ms", found, goals, 1e3)


def _batch(one: Callable[[], float], at_once: int) -> float:
    """Seconds for all containers of a batch."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(one) for _ in range(MANY)]:
            future.result()
    return time.perf_counter() - begin


def many(world: World, rounds: int) -> list[Line]:
    """Fifty containers one after another, and by eight clients at once."""

    def rootless() -> float:
        return timed([*world.rootless_run("none"), IMAGE, "true"], world.env)

    def podman() -> float:
        return timed([*world.podman_run("none"), IMAGE, "true"], world.podman_env)

    found = interleave(
        {
            "rootless-50": lambda: _batch(rootless, 1),
            "podman-50": lambda: _batch(podman, 1),
            "rootless-50-by-8": lambda: _batch(rootless, AT_ONCE),
            "podman-50-by-8": lambda: _batch(podman, AT_ONCE),
        },
        rounds or 3,
        warm=1,
    )
    goals = [
        Goal("rootless-50", "podman-50", 1 / 4),
        Goal("rootless-50-by-8", "podman-50-by-8", 1 / 4),
    ]
    return lines("many", "s", found, goals)


def _started(argv: Sequence[str], env: dict[str, str]) -> str:
    """The id of a container started in the background, '' when that failed."""
    try:
        return output([*argv, IMAGE, "sleep", "100000"], env, seconds=60).strip()
    except BenchFailed:
        return ""


def exec_(world: World, rounds: int) -> list[Line]:
    """``exec C true`` in a running container."""
    ours = _started([*world.rootless_run("none"), "-d"], world.env)
    theirs = _started([*world.podman_run("none"), "-d"], world.podman_env)
    try:
        found = interleave(
            {
                "rootless": lambda: timed([world.rootless, "exec", ours, "true"], world.env),
                "podman": lambda: timed([*world.podman, "exec", theirs, "true"], world.podman_env),
            },
            rounds or 20,
        )
    finally:
        for argv, env in (
            ([world.rootless, "rm", "-f", ours], world.env),
            ([*world.podman, "rm", "-f", "--time=0", theirs], world.podman_env),
        ):
            if argv[-1]:
                output(argv, env)
    return lines("exec", "ms", found, [Goal("rootless", "podman", 1 / 4)], 1e3)


def cli(world: World, rounds: int) -> list[Line]:
    """``rootless version`` against the bare interpreter, the daemon running."""
    found = interleave(
        {
            "rootless version": lambda: timed([world.rootless, "version"], world.env),
            "python -I -c pass": lambda: timed([world.python, "-I", "-c", "pass"], world.env),
            "podman version": lambda: timed([*world.podman, "version"], world.podman_env),
        },
        rounds or 30,
    )
    return lines("cli", "ms", found, [Goal("rootless version", "python -I -c pass", 3)], 1e3)


def _through(argv: Sequence[str], env: dict[str, str]) -> float:
    """Seconds for a gigabyte through ``cat`` in a container; every byte must come back."""
    begin = time.perf_counter()
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        source = process.stdin

        def feed() -> None:
            try:
                for _ in range(THROUGHPUT_BYTES // len(_CHUNK)):
                    source.write(_CHUNK)
                source.close()
            except BrokenPipeError:
                pass  # the container ended early: the count below says so

        with ThreadPoolExecutor(1) as pool:
            feeding = pool.submit(feed)
            count = 0
            buffer = bytearray(len(_CHUNK))
            fd = process.stdout.fileno()
            while size := os.readv(fd, [buffer]):
                count += size
            feeding.result()
        said = process.stderr.read().decode(errors="replace").strip()
    if count != THROUGHPUT_BYTES or process.returncode:
        raise BenchFailed(f"{argv[0]}: {count} of {THROUGHPUT_BYTES} bytes came back: {said}")
    return time.perf_counter() - begin


def throughput(world: World, rounds: int) -> list[Line]:
    """A gigabyte in and out of ``run -i``."""
    found = interleave(
        {
            "rootless": lambda: _through(
                [*world.rootless_run("none"), "-i", IMAGE, "cat"], world.env
            ),
            "podman": lambda: _through(
                [*world.podman_run("none"), "-i", IMAGE, "cat"], world.podman_env
            ),
        },
        rounds or 3,
        warm=1,
    )
    return lines("throughput", "s", found, [])
