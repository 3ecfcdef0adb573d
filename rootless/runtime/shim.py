"""The shim: one small process per container, forked by the launcher.

It owns the streams, the terminal, the log and the exit status, and outlives
the daemon. Decoding the plan, building the sandbox and speaking with the
daemon is left to a child, the builder, which is gone once the program runs:
what a process touches after a fork becomes its own memory, and the shim stays
for the container's whole life. Hence also the few, plain constructs here.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from rootless.linux import bare, process
from rootless.linux.terminal import set_size
from rootless.runtime import builder, wire
from rootless.runtime.shim_denied import DeniedCalls
from rootless.runtime.shim_files import (
    forget_state,
    prepare_process,
    was_oom_killed,
    write_exit,
)
from rootless.runtime.shim_io import READ, STDERR, STDOUT, Pump
from rootless.runtime.shim_lines import Log
from rootless.runtime.shim_log import JsonLog
from rootless.runtime.shim_logfile import LogFile

_MAX_NEWS = 8192
_SHUT_WR = 1

CONTAINER = b"c"
"""Tag of a request for a container (``wire.send``)."""


def connect_streams(pump: Pump, fds: list[int], pidfd: int) -> None:
    """Let ``pump`` move the process' streams and send it signals.

    ``fds`` is a terminal's master alone, or stdout, stderr and perhaps stdin.
    """
    pump.send_signal = _sender(pidfd)
    if len(fds) == 1:
        master = fds[0]
        pump.set_stdin(master, terminal=True)
        pump.add_output(master, STDOUT)
        pump.resize = lambda rows, columns: set_size(master, rows, columns)
        return
    pump.add_output(fds[0], STDOUT)
    pump.add_output(fds[1], STDERR)
    if len(fds) > 2:
        pump.set_stdin(fds[2], terminal=False)


def _sender(pidfd: int) -> Callable[[int], None]:
    """A function that sends a signal to the process of ``pidfd`` (pidfd_send_signal(2))."""

    def send(signum: int) -> None:
        try:
            signal.pidfd_send_signal(pidfd, signal.Signals(signum) if signum < 32 else signum)
        except ProcessLookupError:
            return  # it has just ended

    return send


def _rehearse() -> None:
    """Do for nothing what the sandbox will ask for first; see ``builder``.

    Only that: what a silent container never asks for would be memory for good.
    """
    listener, peer = bare.packet_pair()
    pump = Pump(listener, stdin_once=False)
    output, program = os.pipe2(os.O_CLOEXEC)
    connect_streams(pump, [output, os.dup(output)], -1)
    pump.step(0)
    for fd in (program, *pump.outputs):
        os.close(fd)
    listener.close()
    peer.close()


class _Container:
    """What the shim knows of its container; filled by the builder's messages."""

    __slots__ = (
        "builder", "denied", "ended", "held", "helpers", "listener", "log_plan", "news", "options",
        "over", "pid", "pidfd", "pump", "rootfs", "started", "streams",
    )  # fmt: skip

    def __init__(self, news: bare.RawSocket, child: int) -> None:
        self.news = news
        self.builder = child
        self.pid = -1
        self.pidfd = -1
        self.options: list[str] = []
        self.rootfs = -1
        self.listener = -1
        self.log_plan = -1
        self.streams: list[int] = []
        self.helpers: list[int] = []
        self.held: list[int] = []
        self.started = False
        self.over = False
        self.ended = False
        self.denied: DeniedCalls | None = None
        self.pump: Pump | None = None

    def await_sandbox(self) -> bool:
        """Hear the builder until the sandbox stands; False when it failed."""
        while not self.over:
            if self.hear(None) == builder.SANDBOX:
                return True
        return False

    def hear(self, pump: Pump | None) -> int:
        """Handle one message of the builder and return its kind; END at its end."""
        data, fds = bare.receive(self.news, _MAX_NEWS)
        kind, value = builder.END, 0
        if data:
            kind, value = builder.NEWS.unpack_from(data)
        if kind == builder.INIT:
            self.pid = value
            self.pidfd = os.pidfd_open(value)
        elif kind == builder.HELPER:
            # The builder's FUSE server becomes this process' child when the builder ends.
            process.become_subreaper()
            self.news.send(b"+")
            self.helpers.append(value)
        elif kind == builder.SANDBOX:
            self.options = data[builder.NEWS.size :].decode("utf-8", "surrogateescape").split("\0")
            self.rootfs, self.listener, *self.streams = fds
            if value:
                self.log_plan = self.streams.pop(0)
        elif kind == builder.HOLD:
            self.held = fds
        elif kind == builder.LISTENER and pump is not None:
            self._report_denied(pump, *fds)
        elif kind == builder.STARTED:
            self.started = True
        elif kind == builder.END:
            self._builder_ended(pump)
        return kind

    def _builder_ended(self, pump: Pump | None) -> None:
        self.over = True
        if pump is not None:
            pump.forget(self.news.fileno())
        os.waitpid(self.builder, 0)
        if not self.started and self.pid > 0:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def _report_denied(self, pump: Pump, listener: int, original: int) -> None:
        """Count denied calls; ``original`` is an open file with the filter that answers."""
        denied = DeniedCalls(listener, os.pread(original, os.fstat(original).st_size, 0))
        os.close(original)
        pump.watch(listener, READ, lambda _events: denied.handle())
        self.denied = denied

    def open_log(self) -> Log:
        """The plain log, opened with the first output: a silent container does without."""
        _, _, path, max_size, max_files, _ = self.options
        return JsonLog(LogFile(path, int(max_size), int(max_files), self.say))

    def say(self, text: str) -> None:
        """Tell the daemon, this one and later ones, something about the log."""
        notice = json.dumps({"log": text}).encode()
        _tell_daemon(self.held[0], notice)
        if self.pump is not None:
            self.pump.notify(notice + b"\n")

    def on_exit(self) -> None:
        """The first process ended."""
        self.ended = True


def run_container(data: bytes, fds: list[int], orders: int, last_capability: int) -> NoReturn:
    """The whole life of a container's shim.

    ``data`` and ``fds`` are the request; for a spare, ``data`` is an order that
    tells what to make, and the request comes through the socket ``orders``.
    """
    try:
        prepare_process()
        spare = orders >= 0
        news, tell = bare.packet_pair()
        child = os.fork()
        if child == 0:
            news.close()
            builder.run(data, fds, tell.detach(), orders, last_capability)
        tell.close()
        if orders >= 0:
            os.close(orders)
        for fd in fds:
            os.close(fd)
        container = _Container(news, child)
        if spare:
            _rehearse()
        if container.await_sandbox():
            _serve(container)
        _clean_up(container)
        if container.started and container.pump is not None:
            container.pump.linger()
    finally:
        os._exit(0)


def _serve(container: _Container) -> None:
    directory, stdin_once, _, _, _, cgroup = container.options
    os.chdir(directory)
    listener = bare.RawSocket(fileno=container.listener)
    pump = Pump(listener, stdin_once=stdin_once == "1")
    container.pump = pump
    if container.log_plan >= 0:
        pump.log = _composed(container)
    elif container.options[2]:
        pump.open_log = container.open_log
    connect_streams(pump, container.streams, container.pidfd)
    news = container.news.fileno()
    pump.watch(container.pidfd, READ, lambda _events: container.on_exit())
    pump.watch(news, READ, lambda _events: _hear(container, pump))
    while not container.ended:
        pump.step()
    _, status = os.waitpid(container.pid, 0)
    container.pid = -1
    pump.drain_outputs()
    while not (container.started or container.over):
        container.hear(pump)  # the builder knows whether the program ever ran
    if pump.log is not None:
        pump.log.close()
    if container.started:
        denied = container.denied.counts() if container.denied else {}
        text = write_exit(status, oom_killed=was_oom_killed(cgroup), denied=denied)
        _tell_daemon(container.held[0], text)
        pump.finish(text)


def _composed(container: _Container) -> Log:
    """A log that is more than a plain file; its drivers are loaded by those that need them."""
    from rootless.runtime.shim_logs import open_log

    assert container.pump is not None
    return open_log(container.log_plan, container.pump, container.say)


def _tell_daemon(reply: int, text: bytes) -> None:
    """Tell the end where the start was told; a later daemon asks on its own (``shim_io``)."""
    try:
        os.write(reply, wire.raw(text))
    except OSError:
        return  # it is gone


def _hear(container: _Container, pump: Pump) -> None:
    container.hear(pump)


def _clean_up(container: _Container) -> None:
    """Reap what is left. The root file system goes last: unmounting may sync the disk."""
    if container.pid > 0:
        os.kill(container.pid, signal.SIGKILL)
        os.waitpid(container.pid, 0)
    if not container.over:
        container.news.shutdown(_SHUT_WR)  # what the builder may wait for
    while not container.over:
        container.hear(None)
    if container.options and not container.started:
        forget_state(os.getpid())
    for fd in container.held:
        os.close(fd)
    if container.rootfs >= 0:
        os.close(container.rootfs)
    for pid in container.helpers:
        # A FUSE server ends with its mount, when all is written; a signal could only lose data.
        os.waitpid(pid, 0)
