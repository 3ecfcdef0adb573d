"""Space set aside, so that on a full disk an engine starts, records ends and removes things."""

from __future__ import annotations

import os
from pathlib import Path

SIZE = 1 << 20
"""Bytes: some hundred transactions of the state database."""


def set_aside(path: Path) -> bool:
    """Let ``path`` have :data:`SIZE` bytes of the disk, whatever it holds; False without room."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    size = os.fstat(fd).st_size
    try:
        os.posix_fallocate(fd, 0, SIZE)
    except OSError:
        os.truncate(fd, size)  # part of it would only be in the way of others
        return False
    finally:
        os.close(fd)
    return True


def give_up(path: Path) -> bool:
    """Free what was set aside in a file of nothing else; False when there was none."""
    try:
        held = path.stat().st_size > 0
        os.truncate(path, 0)
    except OSError:
        return False
    return held
