"""Limits that the kernel keeps, on controllers that systemd delegated to the user."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import cgroupfs
from tests.support.engine import Engine

IMAGE = "rootless/busybox"
RUN = ("run", "--network", "none")
SPIN = ("sh", "-c", "while :; do :; done")


def _cgroup(ident: str) -> Path:
    """The container's own cgroup."""
    (found,) = Path(cgroupfs.find().delegated).rglob(ident)
    return found


def _inspect(engine: Engine, ident: str) -> dict[str, Any]:
    (found,) = json.loads(engine.ok("inspect", ident))
    assert isinstance(found, dict)
    return found


def _started(engine: Engine, *options: str, command: tuple[str, ...] = ("sleep", "9000")) -> str:
    return engine.ok(*RUN, "-d", *options, IMAGE, *command)


def _usage(directory: Path) -> int:
    """Microseconds of CPU."""
    return int((directory / "cpu.stat").read_text().split()[1])


@pytest.mark.short
def test_a_memory_hog_is_killed_and_inspect_says_so(engine: Engine) -> None:
    script = 'x=$(head -c 100000000 /dev/zero | tr "\\0" x); echo ${#x}'
    done = engine.run(*RUN, "--name", "hog", "--memory", "32m", "--memory-swap", "32m", IMAGE,
                      "sh", "-c", script)  # fmt: skip
    try:
        assert (done.returncode, done.stdout) == (137, "")
        state = _inspect(engine, "hog")["State"]
        assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    finally:
        engine.ok("rm", "hog")
    # The same with room for it ends well: it is the limit that killed.
    done = engine.run(*RUN, "--rm", "--memory", "600m", IMAGE, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "100000000\n")


@pytest.mark.short
def test_a_fork_bomb_stops_at_the_pids_limit(engine: Engine) -> None:
    bomb = "for i in $(seq 60); do sleep 100 & done; echo more"
    done = engine.run(*RUN, "--rm", "--pids-limit", "20", IMAGE, "sh", "-c", bomb)
    assert done.returncode != 0
    assert "fork" in done.stderr
    done = engine.run(*RUN, "--rm", "--pids-limit", "100", IMAGE, "sh", "-c", bomb)
    assert (done.returncode, done.stdout) == (0, "more\n")


def test_half_a_processor_is_half_a_processor(engine: Engine) -> None:
    ident = _started(engine, "--cpus", "0.5", command=SPIN)
    try:
        directory = _cgroup(ident)
        assert (directory / "cpu.max").read_text() == "50000 100000\n"
        time.sleep(5)
        first, begin = _usage(directory), time.monotonic()
        time.sleep(20)
        used = (_usage(directory) - first) / 1e6 / (time.monotonic() - begin)
        assert 0.4 <= used <= 0.6
    finally:
        engine.ok("rm", "-f", ident)


def test_a_container_is_on_the_processors_it_was_given(engine: Engine) -> None:
    read = ("grep", "Cpus_allowed_list", "/proc/self/status")
    told = engine.ok(*RUN, "--rm", "--cpuset-cpus", "1", IMAGE, *read)
    assert told.split() == ["Cpus_allowed_list:", "1"]


def test_limits_change_while_a_container_runs(engine: Engine) -> None:
    ident = _started(engine, "--memory", "64m", "--cpus", "0.5")
    try:
        directory = _cgroup(ident)
        engine.ok("update", "--memory", "96m", "--memory-swap", "128m", "--cpus", "1.5", ident)
        engine.ok("update", "--pids-limit", "33", ident)
        files = ("memory.max", "memory.swap.max", "cpu.max", "pids.max")
        assert [(directory / name).read_text().strip() for name in files] == [
            str(96 << 20), str(32 << 20), "150000 100000", "33",
        ]  # fmt: skip
        host = _inspect(engine, ident)["HostConfig"]
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (
            96 << 20, 1_500_000_000, 33,
        )  # fmt: skip
    finally:
        engine.ok("rm", "-f", ident)


def test_stats_are_what_the_kernel_counts(engine: Engine) -> None:
    ident = _started(engine, "--memory", "64m")
    try:
        directory = _cgroup(ident)
        row = json.loads(engine.ok("stats", "--no-stream", "--format", "json", ident))
        assert row["PIDs"] == (directory / "pids.current").read_text().strip() == "1"
        used, limit = row["MemUsage"].split(" / ")
        assert limit == "64MiB"
        current = int((directory / "memory.current").read_text())
        number, unit = re.fullmatch(r"([\d.]+)([KM]?i?B)", used).groups()  # type: ignore[union-attr]  # an AttributeError is a failure
        told = float(number) * {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]
        assert abs(told - current) < (1 << 20)
    finally:
        engine.ok("rm", "-f", ident)


def test_what_is_paused_stands_still_and_can_be_killed(engine: Engine) -> None:
    ident = _started(engine, command=SPIN)
    try:
        directory = _cgroup(ident)
        engine.ok("pause", ident)
        first = _usage(directory)
        time.sleep(5)
        assert _usage(directory) == first
        engine.ok("kill", ident)
        assert engine.ok("wait", ident) == "137"
    finally:
        engine.ok("rm", "-f", ident)


def test_a_container_sees_its_own_cgroup_and_cannot_change_it(engine: Engine) -> None:
    script = (
        "cat /proc/self/cgroup /sys/fs/cgroup/memory.max; find /sys/fs/cgroup -type d | wc -l; "
        "echo max >/sys/fs/cgroup/memory.max || mount -o remount,rw /sys/fs/cgroup || echo denied"
    )
    told = engine.ok(*RUN, "--rm", "--memory", "64m", IMAGE, "sh", "-c", script)
    assert told.splitlines() == ["0::/", str(64 << 20), "1", "denied"]


def test_nothing_is_left_after_the_daemon_was_killed(engine: Engine) -> None:
    ident = _started(engine, "--memory", "64m")
    engine.kill()
    engine.start()
    directory = _cgroup(ident)
    assert (directory / "memory.max").read_text().strip() == str(64 << 20)
    engine.ok("rm", "-f", ident)
    assert not directory.exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--oom-kill-disable",), "cgroup v2 always ends a process over its limit"),
        (("--kernel-memory", "32m"), "kernel"),
        (("--memory", "64m", "--memory-swap", "32m"), "memory"),
    ],
)
def test_what_the_kernel_cannot_do_is_refused(
    engine: Engine, options: tuple[str, ...], reason: str
) -> None:
    done = engine.run(*RUN, "--rm", *options, IMAGE, "true")
    assert done.returncode == 125
    assert reason in done.stderr.lower()


def test_writing_is_as_slow_as_its_limit(engine: Engine) -> None:
    options = ("--device-write-bps", "/dev/vda:1mb", "--device-read-iops", "/dev/vda:500")
    ident = _started(engine, *options, "-v", "written:/v")
    try:
        (line,) = (_cgroup(ident) / "io.max").read_text().splitlines()
        number = Path("/sys/class/block/vda/dev").read_text().strip()
        assert {number, "wbps=1048576", "riops=500"} <= set(line.split())
        write = ("dd", "if=/dev/zero", "of=/v/file", "bs=1M", "count=8", "conv=fsync")
        begin = time.monotonic()
        engine.ok("exec", ident, *write)
        # Never less, however fast the disk is; the first second's share may be given at once.
        assert time.monotonic() - begin >= 6
    finally:
        engine.ok("rm", "-f", ident)
        engine.ok("volume", "rm", "written")
