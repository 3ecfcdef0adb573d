"""A container's user and network namespace, nested in one like the engine's, with an agent inside.

The agent runs Python source as the container's root and returns what it binds
to ``result``. It needs nothing of the engine but the kernel.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.network import helper

_AGENT = r"""
import json, os, sys
def serve():
    for line in sys.stdin:
        scope = {}
        try:
            exec(json.loads(line), scope)
            answer = {"result": scope.get("result")}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    os._exit(0)

ready_read, ready_write = os.pipe()
go_read, go_write = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(go_write)
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000 | 0x40000000):  # CLONE_NEWUSER | CLONE_NEWNET
        os._exit(3)
    os.write(ready_write, b"1")
    if os.read(go_read, 1) != b"1":
        os._exit(4)
    os.setgroups([]); os.setresgid(0, 0, 0); os.setresuid(0, 0, 0)
    print(json.dumps({"ready": True}), flush=True)
    serve()
os.read(ready_read, 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as file:
        file.write("0 1 1000")
print(json.dumps({"pid": pid}), flush=True)
os.write(go_write, b"1")
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture(autouse=True)
def _starter() -> Iterator[None]:
    """The process that starts helpers ends with each test."""
    yield
    helper.close_starter()


ENGINE_NAMESPACE = "unshare --user --mount --map-root-user --map-auto --keep-caps".split()

CONNECT = """
import socket
with socket.socket({family}) as s:
    s.settimeout(20)
    s.connect(({address!r}, {port}))
    s.sendall(b"out")
    s.shutdown(socket.SHUT_WR)
    result = s.recv(100).decode()
"""
"""Source for the agent: one TCP connection."""

WAIT_IPV6 = """
import time
result = ""
deadline = time.monotonic() + 60
while not result and time.monotonic() < deadline:
    with open("/proc/net/ipv6_route") as file:
        routed = any(
            words[1] == "00" and words[9] == "tap0" and int(words[4], 16)
            for words in map(str.split, file)
        )
    with open("/proc/net/if_inet6") as file:
        tap = [line.split() for line in file if line.split()[5] == "tap0"]
    tentative = any(int(words[4], 16) & 0x40 for words in tap)  # IFA_F_TENTATIVE
    if routed and not tentative:
        result = next((words[0] for words in tap if words[3] == "00"), "")
    time.sleep(0.05)
"""
"""Source for the agent: the global IPv6 address, once every address and the default route hold."""


class Refused(Exception):
    """What the source inside raised."""


class Sandbox:
    """The agent's side of the fixture; descriptors as the shim and the launcher hand them out."""

    def __init__(self, process: subprocess.Popen[str], pid: int) -> None:
        self._process = process
        self.pid = pid
        self.netns_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.userns_fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        self.exit_fd, self.shim_fd = os.pipe2(os.O_CLOEXEC)

    def fileno(self) -> int:
        """Readable when the agent has answered; for select."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def send(self, source: str) -> None:
        """Start running ``source`` inside."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(source) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """The result of what was sent."""
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def run(self, source: str) -> Any:
        """Run ``source`` inside and return its ``result``."""
        self.send(source)
        return self.receive()

    def end_shim(self) -> None:
        """Close the write end of the exit pipe, as the end of the shim does."""
        if self.shim_fd >= 0:
            os.close(self.shim_fd)
            self.shim_fd = -1

    def close(self) -> None:
        self.end_shim()
        for fd in (self.netns_fd, self.userns_fd, self.exit_fd):
            os.close(fd)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            assert self._process.wait(60) == 0
        except subprocess.TimeoutExpired:
            # What it runs never returned: the test has failed before.
            os.kill(self.pid, signal.SIGKILL)
            self._process.wait()
            raise


def open_sandbox(*, nested: bool = True) -> Sandbox:
    """A new pair of namespaces with an agent inside, in an engine's namespace when ``nested``."""
    process = subprocess.Popen(
        [*(ENGINE_NAMESPACE if nested else ()), sys.executable, "-I", "-c", _AGENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "user namespaces with subordinate ids do not work here: run rootless doctor"
    ready = json.loads(process.stdout.readline())
    assert ready == {"ready": True}
    return Sandbox(process, json.loads(line)["pid"])


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    opened = open_sandbox()
    yield opened
    opened.close()


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A private run-time directory."""
    path = tmp_path / "run"
    path.mkdir(0o700)
    return path


def own_address(family: int) -> str:
    """The address this machine would send from; no packet leaves."""
    target = ("192.0.2.77", 9) if family == socket.AF_INET else ("2001:db8::77", 9)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(target)
        except OSError:
            return ""
        return str(probe.getsockname()[0])
