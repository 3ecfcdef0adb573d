"""The shim of an exec: like a container's, without a log and without a builder.

An exec is short-lived, so one process does both parts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import NoReturn

from rootless.errors import Unavailable
from rootless.linux import process
from rootless.linux.procfs import id_map, start_time
from rootless.model.plan import ExecPlan
from rootless.runtime import exec_init, wire
from rootless.runtime.shim import connect_streams
from rootless.runtime.shim_denied import DeniedCalls
from rootless.runtime.shim_files import (
    ENDED_EARLY,
    Streams,
    forget_state,
    listen,
    prepare_label,
    prepare_process,
    read_answers,
    write_exit,
    write_state,
)
from rootless.runtime.shim_io import READ, Pump


class ExecShim:
    """One further process in a running container."""

    def __init__(self, plan: ExecPlan, reply: socket.socket) -> None:
        self.plan = plan
        self.reply = reply
        self.sync, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = -1
        self.pidfd = -1
        self.going = False
        self.ended = False
        self.denied: DeniedCalls | None = None

    def enter(self, last_capability: int) -> int:
        """Make the process, waiting before its program; the terminal's master or -1."""
        plan = self.plan
        prepare_label(plan.process)
        self.streams = Streams(plan.stdio)
        target = _open_target(plan)
        seccomp = -1
        if plan.process.seccomp:
            seccomp = os.open(plan.process.seccomp, os.O_RDONLY | os.O_CLOEXEC)
        self.pid = exec_init.enter(
            plan,
            target,
            self.sync,
            self.peer,
            stdio=list(self.streams.theirs),
            seccomp=seccomp,
            last_capability=last_capability,
        )
        self.pidfd = os.pidfd_open(self.pid)
        self.peer.close()
        for fd in (target, seccomp):
            if fd >= 0:
                os.close(fd)
        answer = wire.receive(self.sync)
        message = answer[0] if answer else ENDED_EARLY
        if answer is None or "error" in message:
            raise wire.failure_of(message)
        self.streams.give_to(id_map(plan.init_pid), message)
        self.streams.close_theirs()
        write_state(os.getpid(), self.pid)
        return answer[1][0] if answer[1] else -1

    def serve(self, pump: Pump, master: int) -> int:
        """Run until the process ended and return its wait status."""
        ours = self.streams.ours
        streams = [master] if master >= 0 else [fd for fd in (ours[1], ours[2], ours[0]) if fd >= 0]
        connect_streams(pump, streams, self.pidfd)
        pump.watch(self.pidfd, READ, lambda _e: self._on_exit())
        pump.watch(self.reply.fileno(), READ, lambda _e: self._on_reply(pump))
        pump.watch(self.sync.fileno(), READ, lambda _e: self._on_sync(pump))
        while not self.ended:
            pump.step()
        _, status = os.waitpid(self.pid, 0)
        self.pid = -1
        self._last_words(pump)
        pump.drain_outputs()
        return status

    def _on_exit(self) -> None:
        self.ended = True

    def _on_reply(self, pump: Pump) -> None:
        message = wire.receive(self.reply)
        pump.forget(self.reply.fileno())
        if message is None:
            if not self.going:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.reply.close()
            return
        self.going = True
        with contextlib.suppress(OSError):  # it died meanwhile, and its exit is reported
            wire.send(self.sync, {"go": True})

    def _on_sync(self, pump: Pump) -> None:
        answer = wire.receive(self.sync)
        if answer is not None and "listener" in answer[0]:
            denied = DeniedCalls(answer[1][0], read_answers(self.plan.process))
            pump.watch(answer[1][0], READ, lambda _e: denied.handle())
            self.denied = denied
            return
        pump.forget(self.sync.fileno())
        if answer is not None:
            self._tell(answer[0])
            self.going = False
        elif self.going:
            self._tell({"started": True})

    def _last_words(self, pump: Pump) -> None:
        """What the process said right before it ended may still wait in its socket."""
        self.sync.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while pump.watches(self.sync.fileno()):
                self._on_sync(pump)

    def _tell(self, message: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # a dead daemon reads exit.json when it is back
            wire.send(self.reply, message)
        self.reply.close()

    def give_up(self) -> None:
        """Undo what was begun."""
        if self.pid > 0:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        forget_state(os.getpid())


def run_exec(plan: ExecPlan, reply: socket.socket, *, last_capability: int) -> NoReturn:
    """The whole life of an exec's shim."""
    try:
        prepare_process()
        process.set_name("rootless-exec")
        shim = ExecShim(plan, reply)
        try:
            listener = listen(plan.directory)
            master = shim.enter(last_capability)
        except BaseException as error:
            wire.send(reply, wire.error_fields(error, "exec"))
            shim.give_up()
            os._exit(0)
        pump = Pump(listener, stdin_once=True)
        wire.send(reply, {"created": True, "shim_pid": os.getpid(), "init_pid": shim.pid})
        status = shim.serve(pump, master)
        if shim.going:
            denied = shim.denied.counts() if shim.denied else {}
            pump.finish(write_exit(status, oom_killed=False, denied=denied))
            pump.linger()
        else:
            forget_state(os.getpid())
    finally:
        os._exit(0)


def _open_target(plan: ExecPlan) -> int:
    """A pidfd of the container's first process, which must be the one the plan means."""
    gone = Unavailable(f"container {plan.container_id} is not running")
    try:
        pidfd = os.pidfd_open(plan.init_pid)
    except ProcessLookupError:
        raise gone from None
    if start_time(plan.init_pid) != plan.init_start:
        os.close(pidfd)
        raise gone
    return pidfd
