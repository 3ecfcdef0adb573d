"""Which extended attributes pass between archives and disk.

An allow list. What is kept:

``user.*``
    data of the container's programs, except the names overlay file systems give
    a meaning: ``user.overlay.*`` in a layer could turn a file into a whiteout or
    redirect a directory to a host path (overlayfs documentation, "userxattr").
``security.capability``
    file capabilities, re-written for the root of the image's ids.  The kernel
    honours a version 3 attribute only in user namespaces whose root is that
    very id, or below one (capabilities(7), "Namespaced file capabilities"), so
    on the host and in the engine's own namespace such a file gives nothing.

Everything else is dropped: ``trusted.*`` (overlay again), ``security.selinux``
(labels come from the policy, not from an image), POSIX ACLs (they name ids
that nobody shifted; Docker does not keep them either).
"""

from __future__ import annotations

import struct

from rootless.archive.limits import IdShift

CAPABILITY = b"security.capability"
_RESERVED = (b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.")
_MAX_NAME = 255
"""XATTR_NAME_MAX."""
_MAX_VALUE = 65_536
"""XATTR_SIZE_MAX."""

# struct vfs_ns_cap_data of linux/capability.h: magic, two pairs of masks, root id.
_REVISION_MASK = 0xFF00_0000
_REVISION_2 = 0x0200_0000
_REVISION_3 = 0x0300_0000
_EFFECTIVE = 1
_V2 = struct.Struct("<5I")
_V3 = struct.Struct("<6I")


def to_disk(name: bytes, value: bytes, shift: IdShift) -> bytes | None:
    """The value to store for attribute ``name``, or None when it is dropped."""
    if len(name) > _MAX_NAME or len(value) > _MAX_VALUE or b"\0" in name:
        return None
    if name == CAPABILITY:
        return _capability_to_disk(value, shift)
    if not name.startswith(b"user.") or name == b"user.":
        return None
    return None if name.startswith(_RESERVED) else value


def _capability_to_disk(value: bytes, shift: IdShift) -> bytes | None:
    masks = _masks(value)
    if masks is None:
        return None
    magic, body = masks
    return _V3.pack(_REVISION_3 | (magic & _EFFECTIVE), *body, shift.to_engine(0))


def _masks(value: bytes) -> tuple[int, tuple[int, ...]] | None:
    if len(value) == _V2.size:
        magic, *body = _V2.unpack(value)
        wanted = _REVISION_2
    elif len(value) == _V3.size:
        magic, *body, _root = _V3.unpack(value)
        wanted = _REVISION_3
    else:
        return None  # Version 1 has 32-bit masks and no program writes it any more.
    return (magic, tuple(body)) if magic & _REVISION_MASK == wanted else None


def to_archive(name: bytes, value: bytes) -> bytes | None:
    """The value to write into an archive, or None when the attribute stays behind."""
    if name == CAPABILITY:
        masks = _masks(value)
        if masks is None:
            return None
        return _V2.pack(_REVISION_2 | (masks[0] & _EFFECTIVE), *masks[1])
    return value if name.startswith(b"user.") and not name.startswith(_RESERVED) else None
