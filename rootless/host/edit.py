"""Edits of system files: atomic, locked the way the shadow tools lock, tolerant of a crash."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from rootless.errors import Unavailable

_LOCK_SECONDS = 15.0


@contextlib.contextmanager
def shadow_lock(file: Path) -> Iterator[None]:
    """Hold ``FILE.lock`` as useradd and usermod do: a hard link to a file with our pid.

    A lock whose process is gone is stale and taken over. link(2) is what makes
    it atomic also on NFS.
    """
    lock = file.with_name(f"{file.name}.lock")
    own = file.with_name(f"{file.name}.{os.getpid()}")
    own.write_text(f"{os.getpid()}\0")
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                os.link(own, lock)
                break
            except FileExistsError:
                if _stale(lock):
                    lock.unlink(missing_ok=True)
                elif time.monotonic() > deadline:
                    raise Unavailable(
                        f"{file} is locked by another program ({lock})",
                        hint="wait for useradd or usermod to end, then try again",
                    ) from None
                else:
                    time.sleep(0.1)
    finally:
        own.unlink()
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _stale(lock: Path) -> bool:
    try:
        pid = int(lock.read_text().strip("\0\n "))
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def replace(file: Path, text: str) -> None:
    """Write ``text`` to a temporary name, sync, rename; keeps an existing file's mode and owner."""
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.rootless-{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        try:
            found = file.stat()
        except FileNotFoundError:
            os.fchmod(fd, 0o644)
        else:
            os.fchmod(fd, found.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(fd, found.st_uid, found.st_gid)
        os.write(fd, text.encode(errors="surrogateescape"))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_lines(file: Path) -> list[str]:
    """The lines without their ends; none when the file is absent."""
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return []


def add_line(file: Path, line: str) -> None:
    """Append a line unless it is there; the whole file is replaced at once, under its lock."""
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with shadow_lock(file):
        lines = read_lines(file)
        if line not in lines:
            replace(file, "".join(f"{item}\n" for item in [*lines, line]))


def remove_line(file: Path, line: str) -> None:
    """Remove the line where it still stands as written."""
    if not file.exists():
        return
    with shadow_lock(file):
        lines = read_lines(file)
        if line in lines:
            lines.remove(line)
            replace(file, "".join(f"{item}\n" for item in lines))
