"""Files that hold keys and certificates: written whole or not at all, and closed to others."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from rootless.errors import Denied, InvalidInput, NotFound, RootlessError
from rootless.linux import sync

MAX_FILE = 1 << 20
"""Bytes of a PEM file; a list of 20,000 revoked certificates has that."""


def read(path: Path, what: str, *, private: bool = False, limit: int = MAX_FILE) -> bytes:
    """A file's content; Denied when it is ``private`` and others can read it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"no {what}: {path} does not exist") from None
    except OSError as error:
        raise RootlessError(f"cannot read the {what} {path}: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput(f"the {what} {path} is not a file")
        if private:
            check_private(path, facts, f"the {what} {path}")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise InvalidInput(f"the {what} {path} has more than {limit} bytes")
    return data


def check_private(path: Path, facts: os.stat_result, named: str) -> None:
    """Denied unless ``path``, a file or directory, is the user's own and closed to all others.

    ``named`` is what the message calls it.
    """
    if facts.st_uid != os.getuid():
        raise Denied(
            f"{named} belongs to uid {facts.st_uid}, not to you",
            hint=f"sudo chown {os.getuid()} {path}",
        )
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        wanted = "700" if stat.S_ISDIR(facts.st_mode) else "600"
        raise Denied(
            f"{named} has mode {mode:04o}, which lets others at the key",
            hint=f"chmod {wanted} {path}",
        )


def private_directory(path: Path, what: str) -> None:
    """Make ``path`` with mode 0700, or check that what is there is the user's alone."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except OSError as error:
        raise RootlessError(f"cannot make the {what} {path}: {error.strerror}") from error
    check_private(path, facts, f"the {what} {path}")


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write ``path`` anew; killed at any point it is the former file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        sync.write_new(temporary, content, mode)
        os.chmod(temporary, mode)  # whatever the umask is
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RootlessError(f"cannot write {path}: {error.strerror}") from error
    sync.fsync_dir(path.parent)


def write_directory(path: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """A directory with ``files`` (content and mode), 0700; one that is there gets them one by one.

    The order is the mapping's: what makes use of the others comes last.
    """
    private_directory(path, "directory for the certificate")
    for name, (content, mode) in files.items():
        replace(path / name, content, mode)
