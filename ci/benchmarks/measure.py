"""Timing whole processes, and rounds that are fair to every contender."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

STDERR_LIMIT = 4096


class BenchFailed(Exception):
    """A contender does not work here; the text says why, in its own words if it has any."""


@dataclass
class Series:
    """Seconds (or another unit) of one contender; ``failure`` when it does not work here."""

    values: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        return min(self.values)


def timed(argv: Sequence[str], env: Mapping[str, str], *, expect: int = 0) -> float:
    """Seconds from spawning ``argv`` to its end; input and output are /dev/null.

    posix_spawn and a blocking wait: subprocess costs about a millisecond more.
    """
    read, write = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, write, 2),
    ]
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], list(argv), dict(env), file_actions=actions)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - begin
    os.close(write)
    os.set_blocking(read, False)
    try:
        said = os.read(read, STDERR_LIMIT).decode(errors="replace")
    except BlockingIOError:
        said = ""
    os.close(read)
    if os.waitstatus_to_exitcode(status) != expect:
        raise BenchFailed(failure_text(argv, os.waitstatus_to_exitcode(status), said))
    return seconds


def failure_text(argv: Sequence[str], code: int, said: str) -> str:
    """One line: the program, its exit status and the last line it wrote that is no hint."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("hint:")] or lines
    return f"{os.path.basename(argv[0])} ended with {code}: {lines[-1] if lines else 'no message'}"


def output(argv: Sequence[str], env: Mapping[str, str], *, seconds: float = 600) -> str:
    """Standard output of a command that must succeed."""
    try:
        done = subprocess.run(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchFailed(f"{os.path.basename(argv[0])}: {error}") from None
    if done.returncode != 0:
        raise BenchFailed(failure_text(argv, done.returncode, done.stderr))
    return done.stdout


Contender = Callable[[], float]


def interleave(
    contenders: Mapping[str, Contender], rounds: int, *, warm: int = 2
) -> dict[str, Series]:
    """Run A, B, C, A, B, C…; the first ``warm`` rounds do not count.

    A contender that fails once is out, with its reason; the others go on.
    """
    found = {name: Series() for name in contenders}
    for number in range(warm + rounds):
        for name, contender in contenders.items():
            series = found[name]
            if series.failure:
                continue
            try:
                value = contender()
            except BenchFailed as error:
                series.failure = str(error)
                continue
            if number >= warm:
                series.values.append(value)
    return found
