"""One daemon per data root: the lock, the pid file, and who may run it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from rootless.errors import Conflict, Denied, RootlessError


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
        raise RootlessError(f"cannot make {path}: {error.strerror}") from error
    if found.st_uid != os.getuid():
        raise Denied(
            f"{path} belongs to uid {found.st_uid}, not to you",
            hint="choose another --data-root or --exec-root",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        # The directory is ours: closing it is what its owner wants.
        path.chmod(0o700)


class Lock:
    """An flock(2) that ends with the process, whatever ends it."""

    def __init__(self, path: Path, *, what: str) -> None:
        """Take it; Conflict when another daemon has it."""
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise Conflict(
                f"another rootlessd (pid {pid or 'unknown'}) already uses {what}",
                hint="stop it first, or give another --data-root",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go; the file stays, because removing it would race with the next daemon."""
        os.close(self._fd)
