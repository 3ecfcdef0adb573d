"""Functions that run inside the engine's user namespace through the launcher's ``call``."""

from __future__ import annotations

import os
import signal

from rootless.linux import procfs


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
