"""Changing who owns a file without losing what a change of owner clears."""

from __future__ import annotations

import errno
import os
import stat
import struct

from rootless.archive.limits import IdShift
from rootless.errors import SyscallError
from rootless.storage.idranges import SHARED_SIZE
from rootless.storage.shift import RangeShift

_CAPABILITY = "security.capability"
_ROOT_ID = struct.Struct("<I")
_V3_BYTES = 24
"""struct vfs_ns_cap_data: magic, four masks, the root's id (capabilities(7))."""


def shift(parent: int, name: bytes, before: IdShift, after: IdShift) -> bool:
    """Give ``name`` in ``parent`` the same image owner in form ``after``; False when unchanged.

    chown(2) clears set-id bits and file capabilities; both are put back, the
    latter for the root of the new range.
    """
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return False
    try:
        return _shift(fd, before, after)
    except OSError as error:
        raise SyscallError("chown", os.fsdecode(name), error.errno or 0) from None
    finally:
        os.close(fd)


def _shift(fd: int, before: IdShift, after: IdShift) -> bool:
    status = os.fstat(fd)
    uid, gid = _moved(status.st_uid, before, after), _moved(status.st_gid, before, after)
    if (uid, gid) == (status.st_uid, status.st_gid):
        return False
    # The link in /proc leads to the very inode, a symlink included, and no further.
    path = f"/proc/self/fd/{fd}"
    if stat.S_ISLNK(status.st_mode):
        os.chown(path, uid, gid)
        return True
    capability = _capability(path)
    os.chown(path, uid, gid)
    os.chmod(path, stat.S_IMODE(status.st_mode))
    if capability is not None and len(capability) == _V3_BYTES:
        value = capability[: -_ROOT_ID.size] + _ROOT_ID.pack(after.to_engine(0))
        os.setxattr(path, _CAPABILITY, value)
    return True


def _moved(engine_id: int, before: IdShift, after: IdShift) -> int:
    """The new owner: unchanged for ids that are not of form ``before``."""
    if isinstance(before, RangeShift):
        held = before.holds(engine_id)
    else:
        held = before.offset <= engine_id < before.offset + SHARED_SIZE
    return after.to_engine(before.to_image(engine_id)) if held else engine_id


def _capability(path: str) -> bytes | None:
    try:
        return os.getxattr(path, _CAPABILITY)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EOVERFLOW):
            return None
        raise
