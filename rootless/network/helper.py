"""Helper programs that serve one container's network: started through ``sh``, outliving the daemon.

Their files are regular files (a pipe would break with the daemon), they have
a session of their own, and they are the daemon's grandchildren, so that ``sh``
keeps no thread for them. They end by themselves when the write end of the exit
pipe, held by the container's shim, closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

STOP_TIMEOUT = 2.0
"""Seconds between SIGTERM and SIGKILL."""

LOG_LIMIT = 64 << 10
"""Bytes; later messages are lost. A container can provoke messages without end."""


@dataclass(frozen=True, slots=True)
class HelperProcess:
    """A running helper program of one container's network.

    ``start_time`` is field 22 of /proc/PID/stat (clock ticks since boot); with
    ``pid`` it names the process for ever. ``pidfd`` is an open descriptor of the
    daemon's, to be given back with :func:`close`.
    """

    pid: int
    start_time: int
    pidfd: int


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)); ProcessLookupError when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name may hold spaces and parentheses; what follows the last ')' may not.
            return int(file.read().rpartition(")")[2].split()[19])
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error


_BACKGROUND = '"$@" & echo $! >/proc/self/fd/$0'
"""For /bin/sh: start the arguments and tell their process id.

The helper becomes the daemon's grandchild, because ``sh`` (the library) would
otherwise keep a thread that looks for its end every second. A second fork in
Python would do the same at four times the price, which is that of copying the
daemon's page tables.
"""


def _before_exec(fds: Iterable[int]) -> None:
    """Runs in ``sh``'s child just before exec."""
    # The socket is made by a subordinate id and used by the daemon: it needs
    # write permission for others. Its directory lets nobody but the daemon in.
    os.umask(0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_LIMIT, LOG_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for fd in fds:
        os.set_inheritable(fd, True)


async def launch(argv: list[str], fds: set[int], log_fd: int) -> HelperProcess:
    """Start ``argv`` through ``sh`` with the descriptors ``fds``.

    Its output goes to ``log_fd``, a regular file, and is cut at LOG_LIMIT. The
    descriptors stay the caller's. ProcessLookupError when it has ended already.

    ``sh`` is called in a thread: it blocks until exec, and where it finds a
    running event loop it reports to it later, even when that loop is closed.
    """
    job = asyncio.ensure_future(asyncio.to_thread(_launch, argv, fds, log_fd))
    try:
        pid = await asyncio.shield(job)
    except asyncio.CancelledError:
        # The thread is using the caller's descriptors: wait for it before they are closed.
        with contextlib.suppress(ProcessLookupError):
            process = _adopt(await job)
            kill(process, signal.SIGKILL)
            close(process)
        raise
    return _adopt(pid)


def _launch(argv: list[str], fds: set[int], log_fd: int) -> int:
    """The process id."""
    import sh

    pid_read, pid_write = os.pipe2(os.O_CLOEXEC)
    with open(pid_read, "rb") as told, open("/dev/null", "rb") as null:
        try:
            with open(log_fd, "wb", closefd=False) as log:
                passed = {*fds, pid_write}
                sh.Command("/bin/sh")(
                    *("-c", _BACKGROUND, str(pid_write), *argv),
                    _bg=True,
                    _bg_exc=False,
                    _in=null,
                    _out=log,
                    _err=log,
                    _env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C"},
                    _cwd="/",
                    _new_session=True,
                    _pass_fds=passed,
                    _preexec_fn=lambda: _before_exec(passed),
                )
        finally:
            os.close(pid_write)
        line = told.readline()
    if not line.strip().isdigit():
        raise ProcessLookupError(argv[0])
    return int(line)


async def readable(fd: int, timeout: float) -> bool:
    """True when ``fd`` became readable within ``timeout`` seconds; no thread is used."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


def _adopt(pid: int) -> HelperProcess:
    pidfd = os.pidfd_open(pid)
    try:
        return HelperProcess(pid, start_time(pid), pidfd)
    except BaseException:
        os.close(pidfd)
        raise


def reattach(pid: int, started: int) -> HelperProcess | None:
    """Find the helper of an earlier daemon again; None when it has ended.

    ``started`` is the start time noted when it was started: a process that was
    given the same number since has another one.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if start_time(pid) == started and not _ended(pidfd):
            return HelperProcess(pid, started, pidfd)
    except ProcessLookupError:
        pass
    os.close(pidfd)
    return None


def _ended(pidfd: int) -> bool:
    """True when the process has ended, also as a zombie that nobody has waited for."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def supervise(process: HelperProcess, on_exit: Callable[[], None]) -> None:
    """Call ``on_exit`` once, from the running event loop, when the helper ends."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(process.pidfd)
        on_exit()

    loop.add_reader(process.pidfd, ended)


def kill(process: HelperProcess, number: int) -> None:
    """Send a signal; a process that has ended is fine."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, number)


def close(process: HelperProcess) -> None:
    """Stop supervising and close the descriptor; the process goes on."""
    with contextlib.suppress(RuntimeError):  # no running loop: nothing can be supervised
        asyncio.get_running_loop().remove_reader(process.pidfd)
    os.close(process.pidfd)


async def stop(process: HelperProcess) -> None:
    """End the helper, wait for it and close its descriptor."""
    asyncio.get_running_loop().remove_reader(process.pidfd)
    kill(process, signal.SIGTERM)
    if not await readable(process.pidfd, STOP_TIMEOUT):
        kill(process, signal.SIGKILL)
        await readable(process.pidfd, STOP_TIMEOUT)
    os.close(process.pidfd)
