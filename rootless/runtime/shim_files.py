"""What a shim leaves in its directory, and the streams it owns.

``shim.sock``
    where clients attach (``shim_io``);
``shim.json``
    ``{"shim_pid", "shim_start", "init_pid", "init_start"}``, start times in
    clock ticks since boot (proc_pid_stat(5)), so that a reused pid is noticed;
``exit.json``
    ``{"code", "finished_ns", "oom_killed", "denied"}``, written under a temporary
    name and renamed when the process ended, or in the place of ``shim.json`` where a
    disk is full. It is not synced: a machine that
    loses power loses the container with it, and recovery knows that case.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from rootless.linux import process
from rootless.linux.procfs import start_time
from rootless.model.mounts import IdMap
from rootless.model.plan import ProcessPlan, StdioPlan

_SIGCHLD = 17
_ENOSPC = 28


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
        _close_all(self.theirs)

    def close_ours(self) -> None:
        """Close the shim's ends in this process."""
        _close_all(self.ours)

    def give_to(self, maps: tuple[IdMap, ...], message: dict[str, object]) -> None:
        """Make the process' user their owner, so that it may open /dev/stdout again.

        ``message`` has ``uid`` and ``gid`` as the container sees them.
        """
        uid = _outside(maps, int(str(message["uid"])))
        gid = _outside(maps, int(str(message["gid"])))
        if uid is None or gid is None:
            return
        for fd in self.theirs:
            if fd >= 0:
                os.fchown(fd, uid, gid)


def prepare_label(plan: ProcessPlan) -> None:
    """Take on the level of a labelled program before anything is made for it: its pipes.

    Whatever init needs for the label is loaded with it: later it can import nothing.
    """
    if plan.label:
        from rootless.linux import selinux

        selinux.take_level(selinux.level_of(plan.label))


def _close_all(fds: list[int]) -> None:
    for number, fd in enumerate(fds):
        if fd >= 0:
            os.close(fd)
            fds[number] = -1


def _outside(maps: tuple[IdMap, ...], inside: int) -> int | None:
    for item in maps:
        if item.inside <= inside < item.inside + item.size:
            return item.outside + inside - item.inside
    return None


def listen(directory: str) -> socket.socket:
    """Bind ``shim.sock`` in ``directory``, which becomes the working directory.

    So the name stays short whatever the path: an address holds 107 bytes (unix(7)).
    """
    os.chdir(directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink("shim.sock")
    previous = os.umask(0o177)
    listener.bind("shim.sock")
    os.umask(previous)
    listener.listen(64)
    return listener


def write_file(name: str, text: str) -> None:
    """Write ``name`` in the working directory under a temporary name and rename it."""
    temporary = f".{name}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, text)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.replace(temporary, name)


def _write_all(fd: int, text: str) -> None:
    """One write(2): a file of a line; a disk that fills up takes a part of it first."""
    data = text.encode()
    if os.write(fd, data) != len(data):
        raise OSError(_ENOSPC, "No space left on device")


def write_state(shim_pid: int, init_pid: int) -> None:
    """Leave ``shim.json``."""
    write_file(
        "shim.json",
        f'{{"shim_pid": {shim_pid}, "shim_start": {start_time(shim_pid)}, '
        f'"init_pid": {init_pid}, "init_start": {start_time(init_pid)}}}',
    )


def forget_state(shim_pid: int) -> None:
    """Remove what says that this shim serves the directory.

    A start that was begun again may have a shim here already: its files stay.
    """
    try:
        with open("shim.json", encoding="ascii") as file:
            if json.load(file)["shim_pid"] != shim_pid:
                return
    except (FileNotFoundError, ValueError):
        return  # a socket nobody listens on says nothing; the next shim replaces it
    for name in ("shim.json", "shim.sock"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def write_exit(status: int, *, oom_killed: bool, denied: dict[str, int]) -> bytes:
    """Leave ``exit.json`` for a wait status and return its content as one line."""
    # By hand: the encoder would take a shim time and memory at the end that it never had.
    killed = "true" if oom_killed else "false"
    counts = json.dumps(denied) if denied else "{}"
    text = (
        f'{{"code": {exit_code_of(status)}, "finished_ns": {time.time_ns()}, '
        f'"oom_killed": {killed}, "denied": {counts}}}'
    )
    try:
        write_file("exit.json", text)
    except OSError:
        _reuse_state(text)
    return text.encode() + b"\n"


def _reuse_state(text: str) -> None:
    """A full disk has no room for another file, but ``shim.json`` has a block, and has served."""
    try:
        fd = os.open("shim.json", os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write_all(fd, text)
            os.ftruncate(fd, len(text))
        finally:
            os.close(fd)
        os.replace("shim.json", "exit.json")
    except OSError:
        return  # whoever waits is told all the same


def exit_code_of(status: int) -> int:
    """The shell's form of a wait status: 128 + signal for a killed process."""
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def was_oom_killed(cgroup: str) -> bool:
    """True when the kernel killed a process of the cgroup for memory (cgroup v2, memory.events)."""
    if not cgroup:
        return False
    try:
        with open(f"{cgroup}/memory.events", encoding="ascii") as file:
            return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in file)
    except OSError:
        return False


def read_answers(plan: ProcessPlan) -> bytes:
    """The filter that knows what a reported call is to be answered with; b'' for none."""
    if not plan.seccomp_original:
        return b""
    with open(plan.seccomp_original, "rb") as file:
        return file.read()


def prepare_process() -> None:
    """A session of its own; signals of terminals and stopping sessions are ignored already."""
    os.setsid()
    process.default_signal(_SIGCHLD)


ENDED_EARLY: dict[str, object] = {
    "error": "the sandbox's first process ended before it could report why",
    "step": "init",
    "hint": "see the daemon's log",
}
