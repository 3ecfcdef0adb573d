"""Functions that run inside the engine's user namespace through the launcher's ``call``."""

from __future__ import annotations

import os
import signal

from rootless.errors import InvalidInput
from rootless.linux import inside, procfs


def kill(pid: int, start: int) -> None:
    """SIGKILL to the very process that started at ``start``; fine when it is gone."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Checked after the descriptor was opened: it names the process for good.
        if procfs.is_alive(pid, start):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)


def make_source(path: str, owner: int) -> None:
    """A missing source of ``-v``: parents are the user's, the last directory ``owner``'s.

    It is born as the owner's. To give it away afterwards would be to trust its
    name: a container that can write to the parent could put a directory of the
    user's there in between.
    """
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        os.makedirs(parent or "/", mode=0o755, exist_ok=True)
        above = os.open(parent or "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inside.create_as(owner)
            os.umask(0o022)
            os.mkdir(name, 0o755, dir_fd=above)
        finally:
            os.close(above)
    except FileExistsError:
        return
    except OSError as error:
        raise InvalidInput(
            f"error while creating mount source path '{path}': mkdir {path}: {error.strerror}"
        ) from None
