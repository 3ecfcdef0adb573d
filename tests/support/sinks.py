"""Where containers' logs go: real journald and rsyslog, run as the test user, and bare sockets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60.0
_JOURNALD = Path("/lib/systemd/systemd-journald")
_JOURNALD_SCRIPT = """
mkdir -p "$1/systemd/journal" "$1/log/journal"
mount --bind "$1" /run
exec /lib/systemd/systemd-journald
"""
_RSYSLOG = """
global(workDirectory="{directory}" maxMessageSize="64k")
module(load="imudp") module(load="imtcp") module(load="imuxsock" SysSock.Use="off")
input(type="imudp" address="127.0.0.1" port="{port}")
input(type="imtcp" address="127.0.0.1" port="{port}")
input(type="imuxsock" Socket="{directory}/log" CreatePath="off" UseSysTimeStamp="off"
  UseSpecialParser="off" ParseHostname="on")
template(name="row" type="list" option.jsonf="on") {{
  property(outname="facility" name="syslogfacility-text" format="jsonf")
  property(outname="severity" name="syslogseverity-text" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="tag" name="syslogtag" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="pid" name="procid" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="version" name="protocol-version" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
}}
action(type="omfile" file="{directory}/rows" template="row")
"""


def wait_for(what: str, holds: Callable[[], Any]) -> Any:
    """What ``holds`` gives once that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}: {found}"
        time.sleep(0.02)
    return found


@dataclass
class Journal:
    """A running journald: its native socket, and what it has."""

    pid: int
    run: Path
    """Its ``/run``."""

    @property
    def socket(self) -> str:
        """The native protocol's socket."""
        return f"{self.run}/systemd/journal/socket"

    def read(self, container: str) -> list[dict[str, Any]]:
        """The records of a container, oldest first, as ``journalctl`` shows them."""
        done = subprocess.run(
            [
                *("nsenter", "--target", str(self.pid), "--user", "--mount"),
                *("--preserve-credentials", "journalctl", "--output", "json", "--all", "--quiet"),
                f"CONTAINER_ID_FULL={container}",
            ],
            capture_output=True,
            check=True,
            timeout=SECONDS,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def journald(run: Path) -> Iterator[Journal]:
    """systemd's journald in namespaces of its own, with ``run`` as ``/run``."""
    if not _JOURNALD.exists() or shutil.which("journalctl") is None:
        pytest.skip("host lacks systemd-journald")
    process = subprocess.Popen(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            _JOURNALD_SCRIPT,
            "sh",
            run,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        journal = Journal(process.pid, run)
        wait_for(
            "journald listens",
            lambda: process.poll() is not None or os.path.exists(journal.socket),
        )
        assert process.poll() is None, "journald ended"
        yield journal
    finally:
        process.kill()
        process.wait()


@dataclass
class Rsyslog:
    """A running rsyslogd, and what it understood."""

    directory: Path
    port: int

    def address(self, scheme: str) -> str:
        """The value of ``--log-opt syslog-address``."""
        if scheme.startswith("unix"):
            return f"{scheme}://{self.directory}/log"
        return f"{scheme}://127.0.0.1:{self.port}"

    def rows(self) -> list[dict[str, str]]:
        """The messages that were parsed, oldest first."""
        path = self.directory / "rows"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def rsyslogd(directory: Path) -> Iterator[Rsyslog]:
    """rsyslog on UDP, TCP and a datagram socket."""
    program = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip("host lacks rsyslogd")
    directory.mkdir(parents=True)
    server = Rsyslog(directory, free_port())
    config = directory / "conf"
    config.write_text(_RSYSLOG.format(directory=directory, port=server.port))
    output = (directory / "output").open("wb")
    process = subprocess.Popen(
        [program, "-n", "-f", str(config), "-i", str(directory / "pid")],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    try:
        wait_for(
            "rsyslogd listens",
            lambda: process.poll() is not None or _answers(server.port, directory / "log"),
        )
        assert process.poll() is None, (directory / "output").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(SECONDS)
        output.close()


def _answers(port: int, path: Path) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0 and path.exists()


class Listener:
    """A socket that takes what comes: ``data`` of streams, ``packets`` of datagrams.

    With ``reads`` False it accepts and reads nothing until :meth:`read`.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext | None = None, *, reads: bool = True
    ) -> None:
        self.sock = sock
        self.data = bytearray()
        self.packets: list[bytes] = []
        self.connections: list[socket.socket] = []
        self._context = context
        self._reading = threading.Event()
        if reads:
            self._reading.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.sock.getsockname()[1])

    def read(self) -> None:
        """Begin to read."""
        self._reading.set()

    def _run(self) -> None:
        try:
            if self.sock.type == socket.SOCK_DGRAM:
                self._reading.wait()
                while packet := self.sock.recv(1 << 20):
                    self.packets.append(packet)
                return
            while True:
                connection, _ = self.sock.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except OSError:
            return  # closed

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            self.connections.append(connection)
            self._reading.wait()
            while data := connection.recv(1 << 16):
                self.data += data
        except OSError:
            return
        finally:
            connection.close()

    def hang_up(self) -> None:
        """Close every connection, as a server that is restarted does."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.connections.clear()

    def close(self) -> None:
        """Listen no more."""
        self._reading.set()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self.sock.type == socket.SOCK_DGRAM:
            with socket.socket(self.sock.family, socket.SOCK_DGRAM) as last:
                last.sendto(b"", self.sock.getsockname())
        self.hang_up()
        self._thread.join(SECONDS)
        self.sock.close()


@contextmanager
def listening(
    kind: str = "tcp",
    where: Path | int = 0,
    *,
    context: ssl.SSLContext | None = None,
    reads: bool = True,
) -> Iterator[Listener]:
    """A :class:`Listener` on ``tcp``, ``udp``, ``unix`` or ``unixgram``."""
    family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
    stream = kind in ("tcp", "unix")
    sock = socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", where))
    else:
        sock.bind(str(where))
    if stream:
        sock.listen()
    listener = Listener(sock, context, reads=reads)
    try:
        yield listener
    finally:
        listener.close()
