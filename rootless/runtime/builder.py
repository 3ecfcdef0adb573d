"""The builder: makes a container's sandbox and accompanies it until the program runs.

A short-lived child of the shim. Init is cloned with CLONE_PARENT and is the
shim's child from its first moment. The builder speaks JSON with the daemon (on
the request's reply socket) and with init; the shim only hears small packets:
kind and number, with descriptors.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from typing import NoReturn

from rootless.errors import StartFailed, SyscallError
from rootless.linux import process
from rootless.model.plan import LaunchPlan
from rootless.runtime import sandbox, sequence, wire
from rootless.runtime.ahead import Ahead
from rootless.runtime.context import EngineContext
from rootless.runtime.shim_files import (
    ENDED_EARLY,
    Streams,
    forget_state,
    listen,
    prepare_label,
    write_state,
)
from rootless.runtime.trace import mark, take

_LINGER_SECONDS = 0.05

NEWS = struct.Struct("=ii")
"""Kind and number of a message to the shim."""
END, INIT, HELPER, SANDBOX, HOLD, LISTENER, STARTED = range(7)
"""Kinds: the end of the stream; init's pid; a FUSE server's pid; the sandbox stands (with the root
file system, the shim's socket, the log's plan if it has one (then the number is 1), the streams,
and options); descriptors to hold, the first of them
leads to the daemon; a seccomp listener (with the original filter); the program runs."""


class Builder:
    """One start."""

    def __init__(self, plan: LaunchPlan, shim: socket.socket, orders: socket.socket | None) -> None:
        self.plan = plan
        self.shim = shim
        self.orders = orders
        self.sync, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.template = b""
        self.ahead: Ahead | None = None
        self.enters = False
        """Whether init is to wait in the root file system that is mounted ahead,"""
        self.entered = False
        """and whether it does."""
        self.pid = -1
        self.held: tuple[int, ...] = ()
        self.marks: object = None

    def die_with_shim(self) -> None:
        """End when the shim does: a container without one is not to come into being.

        A change of ids takes the setting back (prctl(2)), so it comes after the last one.
        """
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL, what="PR_SET_PDEATHSIG")
        if select.select([self.shim], [], [], 0)[0]:
            os._exit(0)  # it ended before

    def enter_ahead(self) -> None:
        """Give init the root file system that is mounted ahead, if it is, and what belongs to it.

        Init enters it while nobody waits: to change the root waits for the
        kernel's other processors (synchronize_rcu in pivot_root(2)).
        """
        sandbox.hand_over(self, {} if self.ahead is None else self.ahead.fds)
        if self.ahead is not None:
            self.entered = True
            self.ahead.forget_files()

    def take_order(self, plan: LaunchPlan, reply: socket.socket) -> bool:
        """Work for this request from now on; False when what was made does not fit it."""
        made, self.plan = self.plan, plan
        self.reply = reply
        self.context = EngineContext(plan.directory)
        given = False
        if self.ahead is not None:
            given = self.ahead.give_to(plan, self.context, entered=self.entered)
            if not given:
                self.ahead.close()
        if self.entered and not (given and sequence.entry_of(plan) == sequence.entry_of(made)):
            return False
        return sequence.frame_of(plan) == sequence.frame_of(made)

    def tell(self, kind: int, number: int = 0, *fds: int, text: str = "") -> None:
        """Send the shim a message."""
        data = [NEWS.pack(kind, number), text.encode("utf-8", "surrogateescape")]
        socket.send_fds(self.shim, data, fds)

    def build(self, last_capability: int) -> None:
        """Everything up to the point where init waits for ``go``."""
        prepare_label(self.plan.process)
        self.streams = Streams(self.plan.stdio)
        if self.entered:
            sandbox.finish(self)  # little is left to do, and init waits for it
        self.listener = listen(self.plan.directory)
        if self.pid < 0:
            sandbox.make(self, last_capability)
        else:
            self.report()
            if not self.entered:
                sandbox.finish(self)
        # While init works. Before ``go`` the state must be there: a daemon that
        # dies after it knows the container by nothing else.
        write_state(os.getppid(), self.pid)
        if self.plan.log.path:
            _touch(self.plan.log.path)
        terminal = self.plan.stdio.terminal
        if not terminal:
            self._hand_over([fd for fd in self._in_order(self.streams.ours) if fd >= 0])
        owner, master = self._await_ready()
        if terminal:
            self._hand_over(master)
        self.streams.give_to(self.plan.maps, owner)
        self.streams.close_theirs()
        mark("sandbox ready")
        if self.plan.trace:
            wire.send(self.reply, {"ready": (take(), self.marks)})

    def tell_helpers(self) -> None:
        """Give the shim the FUSE servers to adopt and to end; it answers each with a byte.

        Before init gets its mounts: it takes anything to read here for the shim's end.
        """
        while self.context.helpers:
            self.tell(HELPER, self.context.helpers.pop())
            # Only when the shim is ready to adopt it may this process end.
            self.shim.recv(1)

    @staticmethod
    def _in_order(streams: list[int]) -> tuple[int, int, int]:
        """As ``shim.connect_streams`` takes them."""
        stdin, stdout, stderr = streams
        return stdout, stderr, stdin

    def _hand_over(self, streams: list[int]) -> None:
        """Give the shim what it serves and holds: its socket, the streams and options for them.

        Before ``go``: a reader that comes late would mix up stdout and stderr.

        Whoever held the mounts last takes them down, and that waits for the
        kernel's other processors: better the shim than the container at its end.
        """
        plan = self.plan
        options = (
            plan.directory,
            "1" if plan.stdio.stdin_once else "0",
            plan.log.path,
            str(plan.log.max_size),
            str(plan.log.max_files),
            plan.cgroup,
        )
        self.tell(HOLD, 0, *self.held)
        rootfs, listener = self.context.fds["rootfs"], self.listener.fileno()
        log = [_in_memory(plan.log.more)] if plan.log.more else []
        self.tell(SANDBOX, len(log), rootfs, listener, *log, *streams, text="\0".join(options))
        for fd in log:
            os.close(fd)
        self.listener.close()
        self.streams.close_ours()

    def _await_ready(self) -> tuple[dict[str, object], list[int]]:
        answer = wire.receive(self.sync)
        message = answer[0] if answer else ENDED_EARLY
        if "error" in message or answer is None:
            raise wire.failure_of(message)
        self.marks = message.get("trace")
        return message, answer[1]

    def report(self) -> None:
        """Tell the daemon that init is there; with it go the descriptors a network needs.

        The daemon has its own share of work, and does it while the sandbox is made.

        The last one is the read end of a pipe whose other end init's shim
        holds: a helper such as slirp4netns ends with it, whoever else dies before.
        """
        netns = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        userns = os.open(f"/proc/{self.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        mounts = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        exit_read, exit_write = os.pipe2(os.O_CLOEXEC)
        message: dict[str, object] = {
            "created": True,
            "shim_pid": os.getppid(),
            "init_pid": self.pid,
        }
        wire.send(self.reply, message, (netns, userns, exit_read))
        self.held = (self.reply.fileno(), exit_write, mounts)

    def words_of_init(self) -> dict[str, object] | None:
        """Why init ended, if it has said so: then what failed here did because of it."""
        if self.pid > 0 and select.select([self.sync], [], [], 0)[0]:
            answer = wire.receive(self.sync)
            if answer is not None and "error" in answer[0]:
                return answer[0]
        return None

    def give_up(self) -> None:
        """Undo what the shim does not know of; it kills init when the builder ends."""
        with contextlib.suppress(OSError):
            self.tell_helpers()
        forget_state(os.getppid())

    def accompany(self) -> None:
        """Wait for ``go``, pass it on and report what became of it.

        When the daemon is gone before ``go``, nobody relies on the container
        and it is undone; afterwards it goes on without (live restore).
        """
        if wire.receive(self.reply) is None:
            raise StartFailed("the start was given up", step=wire.GIVEN_UP, exit_code=125)
        wire.send(self.sync, {"go": True})
        while (answer := wire.receive(self.sync)) is not None:
            message, fds = answer
            if "error" in message:
                raise wire.failure_of(message)
            original = os.open(self.plan.process.seccomp_original, os.O_RDONLY | os.O_CLOEXEC)
            self.tell(LISTENER, 0, fds[0], original)
            os.close(fds[0])
        # execve(2) closed init's end. The daemon is told first: if this process is killed
        # in between, the shim ends the program and everybody hears of that. The other way
        # round the program would run on, and the daemon wait for a word that never comes.
        with contextlib.suppress(OSError):  # a dead daemon finds shim.json when it is back
            wire.send(self.reply, {"started": True})
        self.tell(STARTED)
        # To take this process apart keeps a processor busy for a millisecond, which
        # the program needs now: later, or when the shim has nothing else to do.
        select.select([self.shim], [], [], _LINGER_SECONDS)


def run(
    data: bytes, fds: list[int], shim_fd: int, orders_fd: int, last_capability: int
) -> NoReturn:
    """The builder's whole life; its end without STARTED makes the shim undo everything.

    ``shim_fd`` is the socket to the shim, ``orders_fd`` a spare's, -1 for none.
    """
    mark("builder forked")
    try:
        shim = socket.socket(fileno=shim_fd)
        orders = socket.socket(fileno=orders_fd) if orders_fd >= 0 else None
        message = wire.decode(data, fds)
        plan = message["plan"]
        assert isinstance(plan, LaunchPlan)
        builder = Builder(plan, shim, orders)
        if orders is not None:
            # The name tells an idle spare (its builder and init) from a container's.
            process.set_name("rootless-spare")
            builder.template = data
            builder.enters = bool(message["enter"])
            sandbox.make_frame(builder, last_capability)
            _rehearse(data)
            if message["ahead"]:
                builder.ahead = Ahead.mount(plan)
            if builder.enters:
                builder.enter_ahead()
            order = wire.receive_raw(orders)
            orders.close()
            if order is None:
                os._exit(0)  # nobody needed it
            process.set_name("rootless-shim")
            _, fds = order
            with process.waking_elsewhere(builder.pid):
                wire.forward(builder.sync, *order)  # init decodes it at the same time
            plan = _plan_of(*order)
        if not builder.take_order(plan, socket.socket(fileno=fds[0])):
            os._exit(0)  # a spare, without a word: the daemon begins again, without one
        _build(builder, last_capability)
    finally:
        os._exit(0)


def _rehearse(template: bytes) -> None:
    """Do for nothing what the order will ask for first.

    Since init's clone every page is shared again, and the first write to one
    copies it: better while nobody waits.
    """
    plan = _plan_of(template, [])
    sequence.frame_of(plan)
    sequence.entry_of(plan)
    streams = Streams(plan.stdio)
    streams.close_theirs()
    streams.close_ours()


def _touch(path: str) -> None:
    """Make the log, which the shim opens with the first output, for those who look before."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise SyscallError("open", path, error.errno or 0) from None


def _in_memory(text: str) -> int:
    """A file with ``text``, which may be longer than a message."""
    fd = os.memfd_create("rootless-log", os.MFD_CLOEXEC)
    view = memoryview(text.encode())
    while view:
        view = view[os.write(fd, view) :]
    return fd


def _plan_of(data: bytes, fds: list[int]) -> LaunchPlan:
    plan = wire.decode(data, fds)["plan"]
    assert isinstance(plan, LaunchPlan)
    return plan


def _build(builder: Builder, last_capability: int) -> None:
    try:
        builder.build(last_capability)
        builder.accompany()
    except BaseException as error:
        message = builder.words_of_init() or wire.error_fields(error, "sandbox")
        builder.give_up()
        with contextlib.suppress(OSError):
            wire.send(builder.reply, message)
