"""How "removed in this layer" is written on disk, one class per form.

Layers are written in the one form that both native overlay (``userxattr``) and
fuse-overlayfs read: a character device 0/0 for a removed name, which a user
namespace may create since Linux 5.8 (mknod(2), whiteouts are no devices), and
``user.overlay.opaque=y`` for a directory that hides the layers below. Both were
tried on Linux 6.18 with fuse-overlayfs 1.10; tests/integration/storage holds them to it.

What fuse-overlayfs itself writes into an upper directory differs: it marks
opaque directories with ``user.fuseoverlayfs.opaque`` and a file
``.wh..wh..opq``. An upper directory therefore belongs to one driver for life.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Protocol

from rootless.errors import SyscallError
from rootless.linux.openat2 import RESOLVE_NO_SYMLINKS, openat2

OVERLAY_OPAQUE = "user.overlay.opaque"
FUSE_OPAQUE = "user.fuseoverlayfs.opaque"

_FUSE_PREFIX = b".wh."
_PRIVATE = ("user.overlay.", "user.fuseoverlayfs.", "user.containers.", "trusted.")


class Whiteouts(Protocol):
    """Reading one form; ``archive.whiteout.WhiteoutReader`` is a part of it.

    ``complete`` is True when a tree of this form holds all of the container's
    files and not only what it changed.
    """

    complete: bool

    def is_removed(self, parent: int, name: bytes, status: os.stat_result) -> bool:
        """True when ``name`` in directory ``parent`` marks a removed name."""

    def is_opaque(self, directory: int) -> bool:
        """True when ``directory`` hides what layers below have there."""

    def is_mark(self, name: bytes) -> bool:
        """True for a name that belongs to the form itself and is no content."""


def is_private_xattr(name: str) -> bool:
    """True for attributes that drivers keep for themselves and no archive carries."""
    return name.startswith(_PRIVATE)


def is_device_mark(status: os.stat_result) -> bool:
    """True for a character device 0/0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _has_mark(directory: int, attribute: str) -> bool:
    try:
        # By /proc, because the descriptor may be O_PATH, which fgetxattr(2) refuses.
        return os.getxattr(f"/proc/self/fd/{directory}", attribute) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EOPNOTSUPP):
            return False
        raise SyscallError("getxattr", attribute, error.errno or 0) from None


class LayerWhiteouts:
    """The form of layers and of native overlay's upper directories.

    Also an ``archive.whiteout.WhiteoutWriter`` for one extraction; call
    :meth:`finish` when it is complete.
    """

    complete = False

    def __init__(self) -> None:
        self._opaque: list[str] = []

    def is_removed(self, parent: int, name: bytes, status: os.stat_result) -> bool:
        """See :class:`Whiteouts`."""
        del parent, name
        return is_device_mark(status)

    def is_opaque(self, directory: int) -> bool:
        """See :class:`Whiteouts`."""
        return _has_mark(directory, OVERLAY_OPAQUE)

    def is_mark(self, name: bytes) -> bool:
        """See :class:`Whiteouts`."""
        del name
        return False

    def remove(self, parent: int, name: bytes) -> None:
        """Hide ``name`` of lower layers in directory ``parent``."""
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
        except OSError as error:
            raise SyscallError(
                "mknod",
                f"whiteout {os.fsdecode(name)}",
                error.errno or 0,
                hint="whiteouts in a user namespace need Linux 5.8",
            ) from None

    def opaque(self, directory: int) -> None:
        """Hide everything lower layers have in ``directory``."""
        _mark_opaque(directory)
        self._opaque.append(os.readlink(f"/proc/self/fd/{directory}"))

    def finish(self, root: int) -> None:
        """Make opaque directories of the layer ``root`` mean the same to every driver.

        fuse-overlayfs may still merge a subdirectory of an opaque directory
        (its issue 425), so those are marked as well; the kernel lists, but does
        not find, whiteouts inside an opaque directory (its issue 306), and there
        they say nothing, so they go.
        """
        top = os.readlink(f"/proc/self/fd/{root}")
        for path in self._opaque:
            relative = os.path.relpath(path, top)
            try:
                opened = openat2(
                    root, relative, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS
                )
            except SyscallError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a later entry of the archive replaced the directory
                raise
            try:
                _settle(opened)
            finally:
                os.close(opened)
        self._opaque.clear()


def _mark_opaque(directory: int) -> None:
    try:
        os.setxattr(f"/proc/self/fd/{directory}", OVERLAY_OPAQUE, b"y")
    except OSError as error:
        raise SyscallError(
            "setxattr",
            OVERLAY_OPAQUE,
            error.errno or 0,
            hint="the data root needs a file system with user.* attributes (ext4, xfs, btrfs)",
        ) from None


def _settle(directory: int) -> None:
    for _, names, files, here in os.fwalk(b".", dir_fd=directory, follow_symlinks=False):
        _mark_opaque(here)
        del names
        for name in files:
            if is_device_mark(os.stat(name, dir_fd=here, follow_symlinks=False)):
                os.unlink(name, dir_fd=here)


class FuseWhiteouts:
    """The form of fuse-overlayfs' upper directories."""

    complete = False

    def is_removed(self, parent: int, name: bytes, status: os.stat_result) -> bool:
        """See :class:`Whiteouts`."""
        del parent, name
        return is_device_mark(status)

    def is_opaque(self, directory: int) -> bool:
        """See :class:`Whiteouts`."""
        return _has_mark(directory, FUSE_OPAQUE) or _has_mark(directory, OVERLAY_OPAQUE)

    def is_mark(self, name: bytes) -> bool:
        """See :class:`Whiteouts`; the program never shows such names to a container."""
        return name.startswith(_FUSE_PREFIX)


class NoWhiteouts:
    """A complete tree, as driver vfs keeps it: nothing in it means anything else."""

    complete = True

    def is_removed(self, parent: int, name: bytes, status: os.stat_result) -> bool:
        """See :class:`Whiteouts`."""
        del parent, name, status
        return False

    def is_opaque(self, directory: int) -> bool:
        """See :class:`Whiteouts`; a complete tree lets nothing show through."""
        del directory
        return True

    def is_mark(self, name: bytes) -> bool:
        """See :class:`Whiteouts`."""
        del name
        return False


def of_driver(driver: str) -> Whiteouts:
    """The form of ``driver``'s upper directories."""
    if driver == "fuse-overlayfs":
        return FuseWhiteouts()
    return NoWhiteouts() if driver == "vfs" else LayerWhiteouts()
