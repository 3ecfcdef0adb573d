"""Helper programs that serve one container's network: started through ``sh``, outliving the daemon.

Their files are regular files (a pipe would break with the daemon), they have
a session of their own, and are children of no process of the engine
(``starter``). They end by themselves when the write end of the exit pipe, held
by the container's shim, closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass

from rootless.linux.procfs import start_time
from rootless.network.starter import Starter

STOP_TIMEOUT = 2.0
"""Seconds between SIGTERM and SIGKILL."""


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


_starter = Starter()


def open_starter() -> None:
    """Start what the first :func:`launch` would otherwise wait for."""
    _starter.open()


def close_starter() -> None:
    """End the process that starts helpers; they go on."""
    _starter.close()


async def launch(argv: list[str], fds: set[int], log_fd: int) -> HelperProcess:
    """Start ``argv`` through ``sh`` with the descriptors ``fds``.

    Its output goes to ``log_fd``, a regular file, and is cut at
    ``starter_main.LOG_LIMIT``. The descriptors stay the caller's. ProcessLookupError
    when it has ended already.
    """
    job = asyncio.ensure_future(_starter.start(argv, sorted(fds), log_fd))
    try:
        pid = await asyncio.shield(job)
    except asyncio.CancelledError:
        # It is being started: only its process id tells whom to end.
        with contextlib.suppress(ProcessLookupError):
            process = adopt(await job)
            kill(process, signal.SIGKILL)
            close(process)
        raise
    return adopt(pid)


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


def adopt(pid: int) -> HelperProcess:
    """The process that has this number now; ProcessLookupError when there is none."""
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


def ignore(process: HelperProcess) -> None:
    """The opposite of :func:`supervise`."""
    asyncio.get_running_loop().remove_reader(process.pidfd)


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
