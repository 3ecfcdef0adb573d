"""Floods: nothing is lost, memory is bounded, a slow reader stops its own container only."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from rootless.linux import procfs
from tests.integration.cli.test_run import Terminal
from tests.support.engine import Engine
from tests.support.processes import until_stalled

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
QUIET = ("--network", "none", "--log-driver", "none")
MIB = 1 << 20


def _pipes(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _memory(pid: int, field: str) -> int:
    """Bytes that /proc/PID/status has under ``field``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"process {pid} has no {field}")


def _feed(stream: IO[bytes], count: int, digest: hashlib._Hash) -> None:
    """``count`` MiB of random bytes, never twice the same."""
    block = os.urandom(MIB)
    for number in range(count):
        piece = number.to_bytes(8, "big") + block[8:]
        digest.update(piece)
        stream.write(piece)
    stream.close()


def _shim(engine: Engine, name: str) -> int:
    init = int(engine.ok("inspect", "-f", "{{.State.Pid}}", name))
    return procfs.stat(init).ppid


@pytest.mark.parametrize("command", ["run", "exec"])
def test_a_quarter_gigabyte_in_both_directions_at_once(engine: Engine, command: str) -> None:
    if command == "exec":
        engine.ok("run", "-d", "--name", "both", *QUIET, IMAGE, "sleep", "1000")
        words = ["exec", "-i", "both", "cat"]
    else:
        words = ["run", "--rm", "-i", *QUIET, IMAGE, "cat"]
    client = engine.popen(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    sent, received = hashlib.sha256(), hashlib.sha256()
    writer = threading.Thread(target=_feed, args=(_pipes(client.stdin), 256, sent))
    writer.start()
    while piece := _pipes(client.stdout).read(MIB):
        received.update(piece)
    writer.join()
    _pipes(client.stdout).close()
    assert client.wait(60) == 0
    assert received.hexdigest() == sent.hexdigest()
    if command == "exec":
        engine.ok("rm", "-f", "both")


def test_a_slow_reader_costs_no_memory_and_stops_nobody_else(engine: Engine) -> None:
    client = engine.popen("run", "--name", "slow", *QUIET, IMAGE, "yes", stdout=subprocess.PIPE)
    out = _pipes(client.stdout)
    assert out.read(2) == b"y\n"
    shim = _shim(engine, "slow")
    assert engine.daemon is not None
    watched = {shim: 8 * MIB, engine.daemon.pid: 24 * MIB}
    before = {pid: _memory(pid, "VmRSS") for pid in watched}
    for _ in range(8):
        until_stalled(shim)
        assert engine.ok("run", "--rm", *QUIET, IMAGE, "echo", "on") == "on"
        piece = out.read(8 * MIB)
        assert piece == b"y\n" * (4 * MIB)
    grown = {pid: _memory(pid, "VmHWM") - before[pid] for pid in watched}
    assert all(grown[pid] < bound for pid, bound in watched.items()), grown
    out.close()
    assert client.wait(60) == -signal.SIGPIPE
    engine.ok("rm", "-f", "slow")


def test_input_that_is_not_read_costs_no_memory(engine: Engine) -> None:
    client = engine.popen(
        "run", "--name", "deaf", "-i", *QUIET, IMAGE, "sh", "-c", "echo up; exec sleep 1000",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert _pipes(client.stdout).readline() == b"up\n"
    shim = _shim(engine, "deaf")
    assert engine.daemon is not None
    watched = {shim: 8 * MIB, engine.daemon.pid: 24 * MIB}
    before = {pid: _memory(pid, "VmRSS") for pid in watched}
    source = _pipes(client.stdin).fileno()
    os.set_blocking(source, False)
    sent, full = 0, 0
    while full < 20:
        assert sent < 64 * MIB
        try:
            sent += os.write(source, bytes(65536))
            full = 0
        except BlockingIOError:
            full += 1
            time.sleep(0.02)
    grown = {pid: _memory(pid, "VmHWM") - before[pid] for pid in watched}
    assert all(grown[pid] < bound for pid, bound in watched.items()), grown
    engine.ok("rm", "-f", "deaf")
    client.communicate(timeout=60)


def test_a_log_is_whole_after_a_flood_with_rotation(engine: Engine) -> None:
    """Two streams at once; every line is in one of the files, in order."""
    lines = 150_000
    engine.ok(
        "run", "--name", "flood", "--network", "none",
        "--log-opt", "max-size=1m", "--log-opt", "max-file=100", IMAGE,
        "sh", "-c", f"seq 1 {lines} & seq 1 {lines} >&2; wait",
        timeout=110,
    )  # fmt: skip
    ident = engine.ok("inspect", "-f", "{{.Id}}", "flood")
    paths = list((engine.data / "containers" / ident).glob("*-json.log*"))
    paths.sort(key=lambda path: -int(path.suffix[1:]) if path.suffix != ".log" else 0)
    assert len(paths) > 10
    assert all(path.stat().st_size <= MIB for path in paths)
    found: dict[str, list[str]] = {"stdout": [], "stderr": []}
    for path in paths:
        for line in path.read_bytes().splitlines():
            entry = json.loads(line)
            found[entry["stream"]].append(entry["log"])
    wanted = [f"{number}\n" for number in range(1, lines + 1)]
    assert found["stdout"] == wanted
    assert found["stderr"] == wanted
    shown = engine.run("logs", "flood", timeout=110)
    assert shown.stdout == shown.stderr == "".join(wanted)
    engine.ok("rm", "flood")


def test_detaching_from_a_flood(engine: Engine) -> None:
    terminal = Terminal(engine, "run", "--name", "loud", "-it", *QUIET, IMAGE, "yes")
    try:
        terminal.until(b"y\r\ny\r\n")
        terminal.type(b"\x10\x11")
        while terminal.client.poll() is None:
            if select.select([terminal.master], [], [], 0.05)[0]:
                os.read(terminal.master, 65536)
        assert terminal.client.returncode == 0
        assert terminal.restored
        assert engine.ok("inspect", "-f", "{{.State.Running}}", "loud") == "true"
        # Nobody is attached: the output flows, into nothing.
        shim = _shim(engine, "loud")
        text = Path(f"/proc/{shim}/io").read_text
        read = int(text().split()[1])
        while int(text().split()[1]) < read + MIB:
            time.sleep(0.02)
    finally:
        terminal.close()
        engine.run("rm", "-f", "loud")


def test_two_clients_see_the_same_bytes(engine: Engine) -> None:
    """One feeds and reads, the other only reads; both get everything."""
    engine.ok("run", "-d", "-i", "--name", "echo", *QUIET, IMAGE, "cat")
    pipe = subprocess.PIPE
    first = engine.popen("attach", "echo", stdin=pipe, stdout=pipe)
    second = engine.popen("attach", "--no-stdin", "echo", stdout=pipe, stdin=subprocess.DEVNULL)
    feed = _pipes(first.stdin)
    # The second hears something: from here on it is attached.
    while not select.select([_pipes(second.stdout)], [], [], 0.05)[0]:
        feed.write(b"\0")
        feed.flush()
    feed.write(b"\1")
    feed.flush()
    size = 32
    digests = [hashlib.sha256(), hashlib.sha256()]

    def follow(stream: IO[bytes], digest: hashlib._Hash) -> None:
        while stream.read(1) != b"\1":
            pass
        for _ in range(size):
            digest.update(stream.read(MIB))

    readers = [
        threading.Thread(target=follow, args=(_pipes(client.stdout), digest))
        for client, digest in zip((first, second), digests, strict=True)
    ]
    for reader in readers:
        reader.start()
    sent = hashlib.sha256()
    _feed(feed, size, sent)
    for reader in readers:
        reader.join()
    engine.ok("rm", "-f", "echo")
    for client in (first, second):
        assert _pipes(client.stdout).read() == b""
        _pipes(client.stdout).close()
        assert client.wait(60) == 137
    assert {digest.hexdigest() for digest in digests} == {sent.hexdigest()}
