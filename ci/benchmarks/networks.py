"""Bridge networks: what the hundredth container on one costs, and bytes through them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.measure import BenchFailed, Series, interleave, output, timed
from benchmarks.report import Goal, Line, lines
from benchmarks.world import IMAGE, World

CONTAINERS = 100
SAMPLE = 5
"""Starts at the beginning and at the end whose medians are compared."""
NETWORKS = 20
PORTS = 5
"""Published ports of each container: five hundred in all."""
PORT = 5000
NETWORK = "bench-net"
_SERVE = (
    f"mkfifo /tmp/open && exec 3<>/tmp/open && while true; do nc -l -p {PORT} <&3 >/dev/null; done"
)
"""With a standard input that never ends: nc would close its half of the connection."""
_SEND = "dd if=/dev/zero bs=1M count=1024 2>/dev/null | nc {} {}"


def networks(world: World, rounds: int) -> list[Line]:
    """The cost of a start on a full bridge; a gigabyte between containers and to the host."""
    found = _starts(world)
    goals = [Goal("last starts", "first starts", 1.5)]
    with _pair(world.rootless, world.env) as ours, _pair(world.podman, world.podman_env) as theirs:
        found |= interleave(
            {
                f"{name}-{where}": lambda ends=ends, where=where: ends.send(where)  # type: ignore[misc]  # bound now, not when it runs
                for where in ("to-container", "to-host")
                for name, ends in (("rootless", ours), ("podman", theirs))
            },
            rounds or 3,
            warm=1,
        )
    goals += [Goal(f"rootless-{w}", f"podman-{w}", 1) for w in ("to-container", "to-host")]
    return lines("networks", "s", found, goals)


def _starts(world: World) -> dict[str, Series]:
    """Seconds of the first and the last starts, all on one bridge beside others."""
    rootless, env = world.rootless, world.env
    others = [f"bench-other{number}" for number in range(NETWORKS - 1)]
    ports = [word for number in range(PORTS) for word in ("-p", str(8000 + number))]
    run = [rootless, "run", "-d", "--label", "bench", "--network"]
    try:
        for name in (NETWORK, *others):
            output([rootless, "network", "create", name], env, seconds=60)
        for name in (NETWORK, *others):  # each bridge is made with its first container
            output([*run, name, IMAGE, "sleep", "100000"], env, seconds=60)
        times = [
            timed([*run, NETWORK, *ports, IMAGE, "sleep", "100000"], env) for _ in range(CONTAINERS)
        ]
    finally:
        ids = output([rootless, "ps", "-aq", "--filter", "label=bench"], env).split()
        if ids:
            output([rootless, "rm", "-f", *ids], env)
        output([rootless, "network", "prune", "-f"], env)
    return {"first starts": Series(times[:SAMPLE]), "last starts": Series(times[-SAMPLE:])}


class _Ends:
    """A container that receives, one that sends, and a socket of the host's that receives."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], failure: str) -> None:
        self._command, self._env, self._failure = command, env, failure
        self._addresses: dict[str, tuple[str, int]] = {}

    def send(self, where: str) -> float:
        """Seconds for a gigabyte, with those of an exec."""
        if self._failure:
            raise BenchFailed(self._failure)
        host, port = self._addresses[where]
        argv = [*self._command, "exec", "bench-client", "sh", "-c", _SEND.format(host, port)]
        return timed(argv, self._env)

    def begin(self, listener: socket.socket) -> None:
        """Start the containers."""
        run = [*self._command, "run", "-d", "--network", NETWORK, "--name"]
        output([*self._command, "network", "create", NETWORK], self._env)
        output([*run, "bench-server", IMAGE, "sh", "-c", _SERVE], self._env)
        output([*run, "bench-client", IMAGE, "sleep", "100000"], self._env)
        where = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}'
        address = output([*self._command, "inspect", "-f", where, "bench-server"], self._env)
        self._addresses["to-container"] = (address.strip(), PORT)
        self._addresses["to-host"] = (_own_address(), listener.getsockname()[1])
        time.sleep(1)  # the server's shell is about to listen

    def end(self) -> None:
        """Remove what was started, as far as it was."""
        for words in (("rm", "-f", "bench-server", "bench-client"), ("network", "rm", NETWORK)):
            try:
                output([*self._command, *words], self._env)
            except BenchFailed as error:
                self._failure = self._failure or str(error)


@contextmanager
def _pair(command: str | Sequence[str], env: Mapping[str, str]) -> Iterator[_Ends]:
    words = [command] if isinstance(command, str) else command
    made = _Ends(words, env, "")
    with socket.create_server(("", 0)) as listener:
        threading.Thread(target=_receive, args=(listener,), daemon=True).start()
        try:
            made.begin(listener)
        except BenchFailed as error:
            made = _Ends(words, env, str(error))
        try:
            yield made
        finally:
            made.end()


def _receive(listener: socket.socket) -> None:
    buffer = bytearray(1 << 20)
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # closed: nobody sends any more
        with client:
            while client.recv_into(buffer):
                pass


def _own_address() -> str:
    """An address of this host that containers reach: loopback's they do not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])
