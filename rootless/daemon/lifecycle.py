"""One daemon per data root: the lock, the pid file, and who may run it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from rootless.errors import Conflict, Denied, InvalidInput, RootlessError


def refuse_root(*, allow_root: bool) -> None:
    """Real root has nothing to gain here and everything to lose."""
    if os.getuid() == 0 and not allow_root and _owns_machine():
        raise Denied(
            "rootlessd refuses to run as root: an escape from a container would own this machine",
            hint="run it as an ordinary user, or add --allow-root if you know better",
        )


def _owns_machine() -> bool:
    """Root of the first user namespace, not of a container's (user_namespaces(7))."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            inside, outside, size = file.readline().split()
    except (OSError, ValueError):
        return True
    return (inside, outside) == ("0", "0") and int(size) > 1 << 16


def private_directory(path: Path) -> None:
    """Make ``path`` with mode 0700, or check that an existing one is ours alone to write."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise RootlessError(
            f"cannot make {path}: {error.strerror}",
            hint="choose another --data-root or --exec-root",
        ) from error
    if found.st_uid != os.getuid():
        raise Denied(
            f"{path} belongs to uid {found.st_uid}, not to you",
            hint="choose another --data-root or --exec-root",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        # The directory is ours: closing it is what its owner wants.
        path.chmod(0o700)


class Lock:
    """An flock(2) on a file with our pid; it ends with the process, whatever ends it."""

    def __init__(self, path: Path, *, what: str) -> None:
        """Take it; Conflict when another daemon has it."""
        self._path = path
        while True:
            self._fd = self._open(what)
            found = os.fstat(self._fd)
            try:
                there = path.stat()
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino):
                break
            # The daemon that ended just now removed the file that we had opened.
            os.close(self._fd)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _open(self, what: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise RootlessError(
                f"cannot write {self._path}: {error.strerror}",
                hint="give a --pidfile or --data-root in a directory of your own",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = os.pread(fd, 64, 0).decode(errors="replace").strip()
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            raise Conflict(
                f"another rootlessd (pid {pid or 'unknown'}) already uses {what}",
                hint="stop it first, or give another --data-root, --exec-root or --pidfile",
            ) from None
        except OSError as error:
            os.close(fd)
            raise RootlessError(f"cannot lock {self._path}: {error.strerror}") from error
        if text and not text.isdecimal():
            os.close(fd)
            raise InvalidInput(
                f"{self._path} holds something else than a process id, and is not overwritten",
                hint="give another --pidfile, or remove it",
            )
        return fd

    def release(self) -> None:
        """Remove the file while it is ours, and let go."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
