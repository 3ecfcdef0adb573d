"""The TLS endpoint: handshakes with a first request, and requests on a kept connection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import BenchFailed, Series, output
from benchmarks.report import Goal, Line, lines
from benchmarks.world import World

CLIENTS = 2
HANDSHAKES = 300
REQUESTS = 1000
SECONDS = 30.0

_HANDSHAKES = """
import http.client, json, ssl, sys, time
place, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
context = ssl.create_default_context(cafile=f"{place}/ca.pem")
context.load_cert_chain(f"{place}/cert.pem", f"{place}/key.pem")
for _ in range(count):
    connection = http.client.HTTPSConnection("localhost", port, context=context)
    connection.request("GET", "/_ping")
    assert connection.getresponse().read() == b"OK"
    connection.close()
"""
_KEPT = """
import http.client, json, socket, ssl, sys, time
place, port, path, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context(cafile=f"{place}/ca.pem")
context.load_cert_chain(f"{place}/cert.pem", f"{place}/key.pem")
far = http.client.HTTPSConnection("localhost", port, context=context)
near = http.client.HTTPConnection("localhost")
near.sock = socket.socket(socket.AF_UNIX)
near.sock.connect(path)
times = ([], [])
for _ in range(count):
    for connection, found in zip((far, near), times):
        begin = time.perf_counter()
        connection.request("GET", "/_ping")
        connection.getresponse().read()
        found.append(time.perf_counter() - begin)
print(json.dumps(times))
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Remote:
    """A second daemon, with certificates of its own, on a port of loopback."""

    def __init__(self, world: World) -> None:
        self._world = world
        base = world.base / "remote"
        for name in ("data", "config", "state", "run"):
            (base / name).mkdir(parents=True, mode=0o700)
        self.env = {
            **world.env,
            "XDG_DATA_HOME": str(base / "data"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_STATE_HOME": str(base / "state"),
            "XDG_RUNTIME_DIR": str(base / "run"),
        }
        self.client, self.port = base / "client", _free_port()
        self.socket = base / "run/rootless/rootless.sock"
        self._pki("init", "--no-passphrase", "--trust-domain", "bench.example")
        self._pki("issue", "server", "--install", "localhost")
        self._pki("issue", "client", "--role", "ci", "--out", str(self.client), "bench")
        self._log = open(base / "log", "wb")  # noqa: SIM115 - the daemon's while it lives
        self._daemon = subprocess.Popen(
            [
                *(str(world.place / "venv/bin/rootlessd"), "--tlsverify"),
                *("-H", f"tcp://127.0.0.1:{self.port}", "-H", f"unix://{self.socket}"),
            ],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self._await_ready()

    def _pki(self, *words: str) -> None:
        output([self._world.rootless, "pki", *words], self.env, seconds=60)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self._daemon.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise BenchFailed(f"the second daemon does not serve: {Path(self._log.name).read_text()}")

    def handshakes(self) -> float:
        """Seconds for one, with its request, of several clients at once."""
        argv = [sys.executable, "-c", _HANDSHAKES, str(self.client), str(self.port)]
        begin = time.perf_counter()
        clients = [subprocess.Popen([*argv, str(HANDSHAKES)], env=self.env) for _ in range(CLIENTS)]
        if any(client.wait() for client in clients):
            raise BenchFailed("a client of the second daemon failed")
        return (time.perf_counter() - begin) / (HANDSHAKES * CLIENTS)

    def kept(self) -> tuple[list[float], list[float]]:
        """Seconds of requests on kept connections: by TLS, by the Unix socket."""
        argv = [sys.executable, "-c", _KEPT, str(self.client), str(self.port), str(self.socket)]
        far, near = json.loads(output([*argv, str(REQUESTS)], self.env, seconds=120))
        return far, near

    def close(self) -> None:
        """End the daemon."""
        self._daemon.terminate()
        self._daemon.wait()
        self._log.close()


def remote(world: World, rounds: int) -> list[Line]:
    """Milliseconds; a handshake of 5 is 200 a second. No other engine does this without root."""
    remote = Remote(world)
    try:
        remote.handshakes()
        shaken = [remote.handshakes() for _ in range(rounds or 5)]
        far, near = remote.kept()
    finally:
        remote.close()
    found = {
        "handshake + request": Series(shaken),
        "kept, TLS": Series(far),
        "kept, Unix socket": Series(near),
        "TLS' share": Series([a - b for a, b in zip(far, near, strict=True)]),
    }
    goals = [Goal("handshake + request", "", 5), Goal("TLS' share", "", 1)]
    return lines("remote", "ms", found, goals, 1e3)
