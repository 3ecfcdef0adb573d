"""Many containers and many clients at once on one daemon, and whether it grows."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.measure import BenchFailed, Series
from benchmarks.report import Goal, Line, lines
from benchmarks.world import IMAGE, World

MIB = 1 << 20
LISTED = 100
"""Containers when listing is timed."""
CONTAINERS = 200
CLIENTS = {"list": 34, "events": 33, "logs": 33}
SECONDS = 15.0
IDLE_SECONDS = 20.0
REQUESTS = 10_000
LIVES = 1_000
LANES = 4
"""Containers that live at once while the daemon's growth is measured."""
WARM = 200
"""Lives and requests before that: what is made once is no growth."""
TALK = ["sh", "-c", "while :; do echo tick; sleep 5; done"]


@dataclass
class Daemon:
    """Its socket and what it uses."""

    pid: int
    socket: str

    def memory(self) -> float:
        """PSS in MiB."""
        return processes.pss(self.pid) / MIB

    def descriptors(self) -> float:
        """How many are open."""
        return float(len(os.listdir(f"/proc/{self.pid}/fd")))

    def cpu(self) -> float:
        """Seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, daemon: Daemon) -> Client:
        return cls(*await asyncio.open_unix_connection(daemon.socket, limit=4 * MIB))

    def send(self, method: str, path: str, body: object = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: d\r\nContent-Length: {len(data)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        self.writer.write(head.encode() + data)

    async def answer(self) -> tuple[int, bytes]:
        """Status and body; of a chunked answer the head alone."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        for line in head.split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                return int(head.split(" ")[1]), await self.reader.readexactly(int(value))
        return int(head.split(" ")[1]), b""

    async def ask(self, method: str, path: str, body: object = None) -> bytes:
        """The body of an answer that is none of failure."""
        self.send(method, path, body)
        status, data = await self.answer()
        if status >= 400:
            raise BenchFailed(f"{method} {path}: {status} {data[:200].decode()}")
        return data

    def close(self) -> None:
        self.writer.close()


async def _start(client: Client, name: str, command: list[str]) -> None:
    body = {"Image": IMAGE, "Cmd": command, "HostConfig": {"NetworkMode": "none"}}
    await client.ask("POST", f"/containers/create?name={name}", body)
    await client.ask("POST", f"/containers/{name}/start")


async def _life(client: Client, daemon: Daemon, name: str) -> None:
    """Create, start, wait, read the log, remove."""
    body = {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
    await client.ask("POST", f"/containers/create?name={name}", body)
    waiting = await Client.connect(daemon)
    waiting.send("POST", f"/containers/{name}/wait?condition=next-exit")
    await waiting.answer()
    await client.ask("POST", f"/containers/{name}/start")
    await waiting.reader.readuntil(b"0\r\n\r\n")
    waiting.close()
    client.send("GET", f"/containers/{name}/logs?stdout=1")
    await client.answer()
    await client.reader.readuntil(b"0\r\n\r\n")
    await client.ask("DELETE", f"/containers/{name}")


async def _lives(daemon: Daemon, count: int, prefix: str) -> None:
    async def lane(number: int) -> None:
        client = await Client.connect(daemon)
        for index in range(number, count, LANES):
            await _life(client, daemon, f"{prefix}{index}")
        client.close()

    await asyncio.gather(*(lane(number) for number in range(LANES)))


async def _lists(daemon: Daemon, count: int) -> None:
    client = await Client.connect(daemon)
    for _ in range(count):
        await client.ask("GET", "/containers/json?all=1")
    client.close()


async def _at_once(daemon: Daemon) -> list[float]:
    """Seconds of each listing while others list, and follow events and logs."""
    taken: list[float] = []
    end = time.monotonic() + SECONDS

    async def lister() -> None:
        client = await Client.connect(daemon)
        while time.monotonic() < end:
            begin = time.perf_counter()
            await client.ask("GET", "/containers/json")
            taken.append(time.perf_counter() - begin)
        client.close()

    async def follower(path: str) -> None:
        client = await Client.connect(daemon)
        client.send("GET", path)
        try:
            async with asyncio.timeout(end - time.monotonic()):
                while await client.reader.read(65536):
                    continue
        except TimeoutError:
            client.close()

    logs = (f"/containers/load{n}/logs?follow=1&stdout=1" for n in range(CLIENTS["logs"]))
    await asyncio.gather(
        *(lister() for _ in range(CLIENTS["list"])),
        *(follower("/events") for _ in range(CLIENTS["events"])),
        *(follower(path) for path in logs),
    )
    return sorted(taken)


async def _growth(
    daemon: Daemon, work: Callable[[int], Awaitable[None]], count: int
) -> tuple[float, float]:
    """MiB and descriptors that the daemon has more after ``count`` of it."""
    await work(WARM)
    memory, descriptors = daemon.memory(), daemon.descriptors()
    await work(count)
    await asyncio.sleep(2)  # what is cleaned up behind the last one's back
    return daemon.memory() - memory, daemon.descriptors() - descriptors


async def _measure(daemon: Daemon) -> dict[str, dict[str, Series]]:
    found: dict[str, dict[str, Series]] = {"s": {}, "ms": {}, "MB": {}, "": {}}

    def note(unit: str, name: str, value: float) -> None:
        found[unit][name] = Series([value])

    client = await Client.connect(daemon)
    for number in range(LISTED):
        await _start(client, f"load{number}", TALK)
    taken = await _at_once(daemon)
    note("ms", "list median", taken[len(taken) // 2] * 1000)
    note("ms", "list p99", taken[int(len(taken) * 0.99)] * 1000)
    begin = time.monotonic()
    for number in range(LISTED, CONTAINERS):
        await _start(client, f"load{number}", TALK)
    note("s", "100 more", time.monotonic() - begin)
    await asyncio.sleep(2)
    cpu = daemon.cpu()
    await asyncio.sleep(IDLE_SECONDS)
    note("ms", "idle cpu, 1 s", (daemon.cpu() - cpu) / IDLE_SECONDS * 1000)
    note("MB", "daemon, 200", daemon.memory())
    memory, descriptors = await _growth(daemon, lambda n: _lists(daemon, n), REQUESTS)
    note("MB", "10,000 requests", memory)
    note("", "10,000 requests fds", descriptors)
    prefixes = iter("ab")
    memory, descriptors = await _growth(daemon, lambda n: _lives(daemon, n, next(prefixes)), LIVES)
    note("MB", "1,000 lives", memory)
    note("", "1,000 lives fds", descriptors)
    for number in range(CONTAINERS):
        await client.ask("DELETE", f"/containers/load{number}?force=1")
    client.close()
    return found


_GOALS = [
    Goal("list p99", "", 50),
    Goal("idle cpu, 1 s", "", 5),
    Goal("10,000 requests", "", 2),
    Goal("10,000 requests fds", "", 0),
    Goal("1,000 lives", "", 4),
    Goal("1,000 lives fds", "", 4),
]


def load(world: World, rounds: int) -> list[Line]:
    """The daemon alone, under load and after it."""
    del rounds
    pid = world.daemon_pid()
    if not pid:
        raise BenchFailed("rootlessd does not run")
    socket = f"{world.env['XDG_RUNTIME_DIR']}/rootless/rootless.sock"
    found = asyncio.run(_measure(Daemon(pid, socket)))
    made = []
    for unit, series in found.items():
        goals = [goal for goal in _GOALS if goal.subject in series]
        made += lines("load", unit, series, goals)
    return made
