"""Files of the user's that survive a crash while they are written."""

from __future__ import annotations

import os


def replace(path: str, data: bytes, *, mode: int) -> None:
    """Write ``path`` anew: temporary name beside it, fsync, rename."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
