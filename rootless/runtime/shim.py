"""The shim: one small process per container (or exec), forked by the launcher.

It makes the sandbox, owns the streams, the terminal, the log and the exit
status, and outlives the daemon. Files it leaves in its directory:

``shim.sock``
    where clients attach (``shim_io``);
``shim.json``
    ``{"shim_pid", "shim_start", "init_pid", "init_start"}``, start times in
    clock ticks since boot (proc_pid_stat(5)), so that a reused pid is noticed;
``exit.json``
    ``{"code", "finished_ns", "oom_killed", "denied"}``, written under a temporary
    name and renamed when the process ended. It is not synced: a machine that
    loses power loses the container with it, and recovery knows that case.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from typing import NoReturn

from rootless.errors import StartFailed, SyscallError, Unavailable
from rootless.linux import process
from rootless.linux.procfs import start_time
from rootless.linux.terminal import set_size
from rootless.model.plan import ExecPlan, LaunchPlan, ProcessPlan, StdioPlan
from rootless.model.spec import IdMap
from rootless.runtime import exec_init, sandbox, wire
from rootless.runtime.context import EngineContext
from rootless.runtime.shim_denied import DeniedCalls
from rootless.runtime.shim_io import STDERR, STDOUT, Log, Pump, signal_pidfd
from rootless.runtime.shim_log import JsonLog
from rootless.runtime.trace import mark, take


class Streams:
    """The pipes between process and shim; the process' ends are closed after the fork."""

    def __init__(self, plan: StdioPlan) -> None:
        self.ours = [-1, -1, -1]
        self.theirs = [-1, -1, -1]
        if plan.terminal:
            return
        if plan.stdin:
            self.theirs[0], self.ours[0] = os.pipe2(os.O_CLOEXEC)
        for number in (1, 2):
            self.ours[number], self.theirs[number] = os.pipe2(os.O_CLOEXEC)

    def close_theirs(self) -> None:
        """Close the process' ends in this process."""
        for number, fd in enumerate(self.theirs):
            if fd >= 0:
                os.close(fd)
                self.theirs[number] = -1

    def give_to(self, uid: int, gid: int) -> None:
        """Make the process' user their owner, so that it may open /dev/stdout again."""
        for fd in self.theirs:
            if fd >= 0:
                os.fchown(fd, uid, gid)


class Shim:
    """What a container's shim and an exec's shim share."""

    def __init__(self, directory: str, stdio: StdioPlan, reply: socket.socket) -> None:
        self.directory = directory
        self.stdio = stdio
        self.reply = reply
        self.sync, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.streams = Streams(stdio)
        self.pid = -1
        self.pidfd = -1
        self.running = False
        self.ended = False
        self.maps: tuple[IdMap, ...] = ()
        self.denied: DeniedCalls | None = None
        self.cgroup = ""
        self.answers = b""

    # -- before the process runs -------------------------------------------

    def listen(self) -> socket.socket:
        """Bind ``shim.sock`` in the working directory: the name stays short whatever the path."""
        os.chdir(self.directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("shim.sock")
        listener.bind("shim.sock")
        os.chmod("shim.sock", 0o600)
        listener.listen(64)
        return listener

    def outside(self, inside: int) -> int | None:
        """The engine's id for an id of the container; None when it is not mapped."""
        for item in self.maps:
            if item.inside <= inside < item.inside + item.size:
                return item.outside + inside - item.inside
        return None

    def await_ready(self) -> tuple[int, object]:
        """Wait until init stands before its execve: the terminal's master or -1, and its trace."""
        answer = wire.receive(self.sync)
        if answer is None:
            raise StartFailed(
                "the sandbox's first process ended before it could report why",
                step="init",
                exit_code=125,
                hint="see the daemon's log",
            )
        message, fds = answer
        if "error" in message:
            raise failure_of(message)
        uid, gid = self.outside(int(str(message["uid"]))), self.outside(int(str(message["gid"])))
        if uid is not None and gid is not None:
            self.streams.give_to(uid, gid)
        self.streams.close_theirs()
        return (fds[0] if fds else -1), message.get("trace")

    def write_state(self) -> None:
        """Leave ``shim.json``."""
        text = json.dumps(
            {
                "shim_pid": os.getpid(),
                "shim_start": start_time(os.getpid()),
                "init_pid": self.pid,
                "init_start": start_time(self.pid),
            }
        )
        write_file("shim.json", text)

    def join_cgroup(self, pid: int) -> None:
        """Move the process into the container's cgroup."""
        if not self.cgroup:
            return
        try:
            with open(f"{self.cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
        except OSError as error:
            raise SyscallError("write", f"{self.cgroup}/cgroup.procs", error.errno or 0) from None

    # -- the loop ----------------------------------------------------------

    def serve(self, pump: Pump, master: int) -> int:
        """Run until the process ended and return its wait status."""
        pump.send_signal = signal_pidfd(self.pidfd)
        if master >= 0:
            pump.add_output(master, STDOUT)
            pump.set_stdin(master, terminal=True)
            pump.resize = lambda rows, columns: set_size(master, rows, columns)
        else:
            pump.add_output(self.streams.ours[1], STDOUT)
            pump.add_output(self.streams.ours[2], STDERR)
            if self.streams.ours[0] >= 0:
                pump.set_stdin(self.streams.ours[0], terminal=False)
        pump.watch(self.pidfd, 1, lambda _e: self._on_exit())
        pump.watch(self.reply.fileno(), 1, lambda _e: self._on_reply(pump))
        pump.watch(self.sync.fileno(), 1, lambda _e: self._on_sync(pump))
        while not self.ended:
            pump.step()
        _, status = os.waitpid(self.pid, 0)
        self._last_words(pump)
        pump.drain_outputs()
        return status

    def _on_exit(self) -> None:
        self.ended = True

    def _on_reply(self, pump: Pump) -> None:
        message = wire.receive(self.reply)
        pump.forget(self.reply.fileno())
        if message is None:
            # Whoever asked is gone. Before ``go`` nobody relies on the process
            # and it is undone; afterwards it goes on (live restore).
            if not self.running:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.reply.close()
            return
        self.running = True
        try:
            wire.send(self.sync, {"go": True})
        except OSError:
            return  # init died meanwhile, and its exit is reported

    def _on_sync(self, pump: Pump) -> None:
        answer = wire.receive(self.sync)
        if answer is not None and "listener" in answer[0]:
            self.denied = DeniedCalls(answer[1][0], self.answers)
            denied = self.denied
            pump.watch(answer[1][0], 1, lambda _e: denied.handle())
            return
        pump.forget(self.sync.fileno())
        if answer is not None:
            self._tell(answer[0])
            self.running = False
            return
        if self.running:
            self._tell({"started": True})

    def _last_words(self, pump: Pump) -> None:
        """What init said right before it ended may still wait in its socket."""
        self.sync.setblocking(False)
        try:
            while self.sync.fileno() in pump.selector.get_map():
                self._on_sync(pump)
        except BlockingIOError:
            return

    def _tell(self, message: dict[str, object]) -> None:
        try:
            wire.send(self.reply, message)
        except OSError:
            return  # the daemon died: shim.json and exit.json tell its successor
        finally:
            self.reply.close()


def failure_of(message: dict[str, object]) -> StartFailed:
    """The error that the other side of a wire reported."""
    hint = message.get("hint")
    return StartFailed(
        str(message["error"]),
        step=str(message.get("step", "")),
        exit_code=int(str(message.get("exit_code", 125))),
        hint=str(hint) if hint else None,
        context={"code": message.get("code"), "errno": message.get("errno")},
    )


def read_answers(plan: ProcessPlan) -> bytes:
    """The filter that knows what a reported call is to be answered with; b'' for none."""
    if not plan.seccomp_original:
        return b""
    with open(plan.seccomp_original, "rb") as file:
        return file.read()


def write_file(name: str, text: str) -> None:
    """Write ``name`` in the working directory under a temporary name and rename it."""
    temporary = f".{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.replace(temporary, name)


def exit_code_of(status: int) -> int:
    """The shell's form of a wait status: 128 + signal for a killed process."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def oom_killed(cgroup: str) -> bool:
    """True when the kernel killed a process of the cgroup for memory (cgroup v2, memory.events)."""
    if not cgroup:
        return False
    try:
        with open(f"{cgroup}/memory.events", encoding="ascii") as file:
            return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def prepare_process(name: str) -> None:
    """A session of its own, and no signal from a terminal or a stopping user session."""
    os.setsid()
    process.set_name(name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _end(shim: Shim, pump: Pump, log: Log | None, status: int) -> None:
    """Record how the process ended and tell everybody."""
    text = json.dumps(
        {
            "code": exit_code_of(status),
            "finished_ns": time.time_ns(),
            "oom_killed": oom_killed(shim.cgroup),
            "denied": shim.denied.counts() if shim.denied else {},
        }
    )
    if log is not None:
        log.close()
    write_file("exit.json", text)
    pump.finish(text.encode() + b"\n")


def run_container(plan: LaunchPlan, reply: socket.socket, *, last_capability: int) -> NoReturn:
    """The whole life of a container's shim."""
    mark("shim forked")
    prepare_process("rootless-shim")
    shim = Shim(plan.directory, plan.stdio, reply)
    shim.maps, shim.cgroup = plan.maps, plan.cgroup
    shim.answers = read_answers(plan.process)
    context = EngineContext(plan.directory)
    try:
        try:
            listener = shim.listen()
            sandbox.make(shim, plan, context, last_capability)
            master, marks = shim.await_ready()
            shim.join_cgroup(shim.pid)
            mark("shim ready")
        except BaseException as error:
            wire.send(reply, wire.error_fields(error, "sandbox"))
            _give_up(shim, context)
            os._exit(0)
        log = (
            JsonLog(plan.log.path, plan.log.max_size, plan.log.max_files) if plan.log.path else None
        )
        pump = Pump(listener, log, stdin_once=plan.stdio.stdin_once)
        _report_created(shim, (take(), marks) if plan.trace else None)
        # Before ``go`` is heard, and while the daemon is busy with the answer.
        shim.write_state()
        status = shim.serve(pump, master)
        if shim.running:
            _end(shim, pump, log, status)
        else:
            forget_state()
        context.close()
        _stop_helpers(context)
    finally:
        os._exit(0)


def _report_created(shim: Shim, trace: object) -> None:
    """Tell the daemon that init waits; with it go the descriptors a network needs.

    The last one is the read end of a pipe that this shim holds open: a helper
    such as slirp4netns ends with it, whoever else dies before.
    """
    netns = os.open(f"/proc/{shim.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    userns = os.open(f"/proc/{shim.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    exit_read, _held_until_exit = os.pipe2(os.O_CLOEXEC)
    message: dict[str, object] = {
        "created": True,
        "shim_pid": os.getpid(),
        "init_pid": shim.pid,
        "trace": trace,
    }
    wire.send(shim.reply, message, (netns, userns, exit_read))
    for fd in (netns, userns, exit_read):
        os.close(fd)


def forget_state() -> None:
    """Remove what says that something runs here."""
    for name in ("shim.json", "shim.sock"):
        try:
            os.unlink(name)
        except FileNotFoundError:
            continue


def _give_up(shim: Shim, context: EngineContext) -> None:
    if shim.pid > 0:
        try:
            os.kill(shim.pid, signal.SIGKILL)
            os.waitpid(shim.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            shim.pid = -1
    context.close()
    _stop_helpers(context)
    forget_state()


def _stop_helpers(context: EngineContext) -> None:
    """End the programs that served the sandbox, and reap them.

    A FUSE server ends by itself when its mount is gone, which it is by now.
    """
    for pid in context.helpers:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def run_exec(plan: ExecPlan, reply: socket.socket, *, last_capability: int) -> NoReturn:
    """The whole life of an exec's shim."""
    prepare_process("rootless-exec")
    shim = Shim(plan.directory, plan.stdio, reply)
    shim.cgroup = plan.cgroup
    try:
        try:
            listener = shim.listen()
            shim.answers = read_answers(plan.process)
            target = _open_target(plan)
            shim.maps = read_maps(plan.init_pid)
            seccomp = -1
            if plan.process.seccomp:
                seccomp = os.open(plan.process.seccomp, os.O_RDONLY | os.O_CLOEXEC)
            shim.pid = exec_init.enter(
                plan,
                target,
                shim.sync,
                shim.peer,
                stdio=list(shim.streams.theirs),
                seccomp=seccomp,
                last_capability=last_capability,
            )
            shim.pidfd = os.pidfd_open(shim.pid)
            shim.peer.close()
            os.close(target)
            master, _ = shim.await_ready()
            shim.join_cgroup(shim.pid)
            shim.write_state()
        except BaseException as error:
            wire.send(reply, wire.error_fields(error, "exec"))
            _give_up(shim, EngineContext(plan.directory))
            os._exit(0)
        pump = Pump(listener, None, stdin_once=True)
        wire.send(reply, {"created": True, "shim_pid": os.getpid(), "init_pid": shim.pid})
        status = shim.serve(pump, master)
        shim.cgroup = ""
        if shim.running:
            _end(shim, pump, None, status)
        else:
            forget_state()
    finally:
        os._exit(0)


def _open_target(plan: ExecPlan) -> int:
    gone = Unavailable(f"container {plan.container_id} is not running")
    try:
        pidfd = os.pidfd_open(plan.init_pid)
    except ProcessLookupError:
        raise gone from None
    if start_time(plan.init_pid) != plan.init_start:
        os.close(pidfd)
        raise gone
    return pidfd


def read_maps(pid: int) -> tuple[IdMap, ...]:
    """The id map of a process, as the engine's namespace sees it."""
    with open(f"/proc/{pid}/uid_map", encoding="ascii") as file:
        rows = [line.split() for line in file]
    return tuple(IdMap(int(a), int(b), int(c)) for a, b, c in rows)
