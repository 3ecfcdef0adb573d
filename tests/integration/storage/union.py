"""What a union of layers shows, without a mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import ExitStack

from rootless.storage import merged
from rootless.storage.whiteouts import Whiteouts


def read(paths: Iterable[str], path: str, form: Whiteouts | None = None) -> bytes | None:
    """A regular file's content in the union of ``paths``, topmost first; None where none is."""
    with merged.open_union(paths, form) as root, ExitStack() as stack:
        result = merged.resolve(root, path, stack)
        if result is None or not stat.S_ISREG(result[0].status.st_mode):
            return None
        found, name = result
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=found.parent)
        with open(fd, "rb") as file:
            return file.read()
