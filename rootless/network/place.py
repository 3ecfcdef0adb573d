"""Where a running container's network is: how to reach it again without the launcher.

A helper that died is started again into the same namespaces, perhaps by a later
daemon. The descriptors that the launcher handed out are gone by then. They are
found again through /proc: the namespaces of the container's first process, and
the exit pipe among the descriptors of its shim.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass

from rootless.linux import procfs
from rootless.network.relay_main import RELAY

SLIRP = "slirp4netns"
"""What the program is called (``/proc/PID/comm``), and the mode of a network."""


class PlaceGone(Exception):
    """The container has ended, or its first process has left its namespaces."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Namespaces of the container and the read end of a pipe whose write end its shim holds."""

    netns_fd: int
    userns_fd: int
    exit_fd: int

    def numbers(self) -> set[int]:
        """All three."""
        return {self.netns_fd, self.userns_fd, self.exit_fd}


@dataclass(frozen=True, slots=True)
class Place:
    """Processes with start times (see ``HelperProcess``), and inode numbers of the descriptors."""

    init_pid: int = 0
    init_start: int = 0
    shim_pid: int = 0
    netns: int = 0
    userns: int = 0
    exit_pipe: int = 0


def find(fds: Descriptors, *, init_pid: int, shim_pid: int) -> Place:
    """The place that ``fds`` lead to; one that is never found again without an ``init_pid``."""
    if not init_pid:
        return Place()
    try:
        started = procfs.start_time(init_pid)
    except ProcessLookupError:
        return Place()
    inodes = (os.fstat(fd).st_ino for fd in (fds.netns_fd, fds.userns_fd, fds.exit_fd))
    return Place(init_pid, started, shim_pid, *inodes)


def strays(place: Place, directory: str, known: Container[int]) -> list[int]:
    """Helpers that serve this place, or were started with ``directory``, and are not ``known``.

    A daemon that was killed right after it had started one again left no note of it.
    """
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if pid in known:
            continue
        with contextlib.suppress(OSError):  # ended, or another user's
            name = procfs.stat(pid).comm
            if (
                # The relay shows its namespaces to nobody, but its command line to all.
                directory in procfs.cmdline(pid)
                if name == RELAY
                else name == SLIRP and os.stat(f"/proc/{pid}/ns/user").st_ino == place.userns
            ):
                found.append(pid)
    return found


@contextlib.contextmanager
def reopened(place: Place) -> Iterator[Descriptors]:
    """The descriptors again, above 2 and closed afterwards; PlaceGone when that cannot be."""
    with contextlib.ExitStack() as stack:
        try:
            if not place.init_pid:
                raise PlaceGone
            netns, userns = (
                _opened(stack, f"/proc/{place.init_pid}/ns/{name}", inode)
                for name, inode in (("net", place.netns), ("user", place.userns))
            )
            # Asked after both were opened: who has this number now had it all the time.
            if procfs.start_time(place.init_pid) != place.init_start:
                raise PlaceGone
            exit_fd = _opened(stack, _pipe_of(place), place.exit_pipe)
        except OSError as error:  # ended, or closed to this user
            raise PlaceGone from error
        yield Descriptors(netns, userns, exit_fd)


def _opened(stack: contextlib.ExitStack, path: str, inode: int) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    if os.fstat(fd).st_ino != inode:
        raise PlaceGone
    return fd


def _pipe_of(place: Place) -> str:
    """The shim's end of the exit pipe. Opened for reading it is the other end (proc(5))."""
    directory = f"/proc/{place.shim_pid}/fd"
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        with contextlib.suppress(FileNotFoundError):
            # The link's own mode tells what the descriptor is open for (proc(5)).
            writes = os.lstat(path).st_mode & stat.S_IWUSR
            status = os.stat(path)
            if writes and stat.S_ISFIFO(status.st_mode) and status.st_ino == place.exit_pipe:
                return path
    raise PlaceGone
