"""Files that give whoever runs them rights: set-user-id, set-group-id, file capabilities.

Runs in the engine's user namespace. What one layer has is found by one walk and kept in its
record; what an image shows of them depends on the layers above, and is looked up.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack

from rootless.archive.names import show
from rootless.errors import SyscallError
from rootless.storage import merged, walk

MAX_RECORDED = 1000
"""Of one layer. One that has more is told by :data:`MORE` at the end of its list."""
MORE = ""
_SET_IDS = stat.S_ISUID | stat.S_ISGID
_CAPABILITY = "security.capability"


def _is_privileged(parent: int, name: bytes, status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    if status.st_mode & _SET_IDS:
        return True
    path = b"/proc/self/fd/%d/%s" % (parent, name)
    try:
        os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.ENOENT):
            return False
        raise SyscallError("getxattr", show(name), error.errno or 0) from None
    return True


def in_layer(path: str) -> list[str]:
    """The privileged files of the layer unpacked at ``path``, relative to it."""
    walk.raise_open_limit()
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found: list[str] = []
    try:
        for directory, fd, entries in walk.walk(root):
            for name, status in entries:
                if _is_privileged(fd, name, status):
                    if len(found) == MAX_RECORDED:
                        return [*found, MORE]
                    found.append(os.fsdecode(directory + b"/" + name if directory else name))
    finally:
        os.close(root)
    return found


def in_image(lowers: Sequence[str], candidates: Sequence[str]) -> list[str]:
    """Those of ``candidates`` that are privileged in the union of ``lowers`` (topmost first).

    Absolute and printable, sorted. A file that an upper layer removes or replaces, or takes the
    rights from, is none. A layer with too many to know counts as one that shows some.
    """
    shown = set()
    for candidate in candidates:
        if candidate == MORE:
            shown.add(f"(one of more than {MAX_RECORDED} files of a layer)")
        elif _shows(lowers, os.fsencode(candidate)):
            shown.add("/" + show(os.fsencode(candidate)))
    return sorted(shown)


def _shows(lowers: Sequence[str], path: bytes) -> bool:
    *parents, name = path.split(b"/")
    with merged.open_union(lowers) as directory, ExitStack() as stack:
        for parent in parents:
            found = merged.lookup(directory, parent)
            if found is None or not found.levels:
                return False
            directory = merged.enter(found, parent, stack)  # noqa: PLW2901 - one step down
        found = merged.lookup(directory, name)
        return found is not None and _is_privileged(found.parent, name, found.status)
