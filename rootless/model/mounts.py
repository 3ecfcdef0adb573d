"""What a container's tree is made of: mounts, and the ids they show.

Part of the spec, and all of it that the launcher's processes need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class IdMap:
    """One line of uid_map(5): ``size`` ids from ``inside`` appear outside as ``outside``.

    ``outside`` ids are those of the engine's user namespace.
    """

    inside: int
    outside: int
    size: int


@dataclass(frozen=True, slots=True)
class RootfsMount:
    """How the root file system is mounted; made by a graph driver, executed by ``linux.rootfs``.

    ``lowers`` are absolute host paths, topmost first. ``upper`` and ``work`` are
    host paths of the container's own; for ``vfs``, ``upper`` is the whole tree
    and is bind-mounted. Files in ``lowers`` carry the image's ids + 1 in
    the engine's namespace (image root is engine id 1, a subordinate id).
    ``id_maps`` is only for fuse-overlayfs: image id → engine id of the container.
    ``nosuid`` goes with no_new_privs, under which no file raises rights anyway: a file whose
    capabilities the container does not have could not even be executed (capabilities(7),
    "Safety checking for capability-dumb binaries"), as Debian's ping. (A change of an SELinux
    label takes ``nosuid_transition`` there, beside the ``nnp_transition`` it needs anyway.)
    """

    driver: Literal["overlay", "fuse-overlayfs", "vfs"]
    lowers: tuple[str, ...]
    upper: str
    work: str
    volatile: bool = False
    read_only: bool = False
    id_maps: tuple[IdMap, ...] = ()
    size_limit: int = 0
    nosuid: bool = False
    label: str = ""
    """SELinux label of all its files, '' for none. fuse-overlayfs keeps no labels."""


@dataclass(frozen=True, slots=True)
class MountSpec:
    """One mount inside the container, final form.

    For ``bind``, ``volume`` and ``image``, ``source`` is an absolute host path whose symlinks
    were resolved at admission; the launcher opens it again and refuses if the
    opened file is another than the policy saw (``source_dev``, ``source_ino``).
    The ``subpath`` of an ``image`` is resolved in what its layers show together.
    A ``bind`` that re-appears read-only is recursive unless told otherwise.
    """

    type: Literal["bind", "volume", "tmpfs", "image", "proc", "sysfs", "devpts", "mqueue", "cgroup"]
    target: str
    source: str = ""
    read_only: bool = False
    recursive_read_only: bool = True
    recursive: bool = True
    propagation: str = "rprivate"
    nosuid: bool = True
    nodev: bool = True
    noexec: bool = False
    size: int = 0
    mode: int | None = None
    options: tuple[str, ...] = ()
    volume_name: str = ""
    subpath: str = ""
    copy_up: bool = False
    source_dev: int = 0
    source_ino: int = 0
    label: str = ""
    """SELinux label: that files of a bind or volume are given, or that all of a tmpfs have."""
    layers: RootfsMount | None = None
    """For ``image``: how its layers are mounted; ``source`` is the topmost of them then."""
