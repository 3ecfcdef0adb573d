"""What a graph driver is, and what all of them share.

A driver plans in the daemon (pure: paths and options to a
:class:`~rootless.model.mounts.RootfsMount`) and prepares inside the engine's user
namespace. Mounting is ``linux.rootfs``, reading and removing are the same for
all drivers and need only the form of their whiteouts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rootless.errors import HostUnsupported, SyscallError
from rootless.linux.rootfs import open_dir
from rootless.model.facts import HostFacts
from rootless.model.mounts import IdMap, RootfsMount
from rootless.storage.copy import copy_metadata


class GraphDriver(Protocol):
    """One way to give a container a root file system over shared layers."""

    name: str
    maps_ids: bool
    """True when the mount can show other ids than are stored (``--userns=auto``)."""

    def supported(self, facts: HostFacts, *, layers: int = 1) -> str | None:
        """None when this host can mount an image of ``layers`` layers, else the reason why not."""

    def plan(
        self,
        container_dir: str,
        lowers: Sequence[str],
        *,
        id_maps: Sequence[IdMap] = (),
        volatile: bool = False,
        read_only: bool = False,
    ) -> RootfsMount:
        """The mount of a container whose directory is ``container_dir``; changes nothing.

        ``lowers`` are the layers' ``fs`` directories, topmost first. Raises
        HostUnsupported when ``id_maps`` are asked of a driver that maps no ids.
        """

    def prepare(self, mount: RootfsMount) -> None:
        """Make the directories of ``mount``, once, inside the engine's user namespace.

        Killed at any point, it can be run again.
        """


def refuse_maps(name: str, id_maps: Sequence[IdMap]) -> None:
    """Raise when a driver that maps no ids is asked to."""
    if id_maps:
        raise HostUnsupported(
            f"storage driver {name} cannot give a container its own id range",
            hint="use --storage-driver fuse-overlayfs (sudo apt install fuse-overlayfs)",
        )


def lowers_or_empty(container_dir: str, lowers: Sequence[str]) -> tuple[str, ...]:
    """The layers, or an empty directory for an image without any: overlays need one."""
    return tuple(lowers) or (f"{container_dir}/empty",)


def prepare_overlay(mount: RootfsMount) -> None:
    """Directories of an overlay: ``upper`` looks like the image's root, ``work`` is private."""
    for lower in mount.lowers:
        if lower.endswith("/empty"):
            make_dir(lower, 0o755)
            os.chown(lower, 1, 1)
    make_dir(mount.work, 0o700)
    make_dir(mount.upper, 0o700)
    with opened(mount.lowers[0]) as image, opened(mount.upper) as upper:
        copy_metadata(image, upper)


def make_dir(path: str, mode: int) -> None:
    """A directory with exactly ``mode``; one that exists stays."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise SyscallError("mkdir", path, error.errno or 0) from None
    os.chmod(path, mode)


@contextmanager
def opened(path: str) -> Iterator[int]:
    """An O_PATH descriptor of a directory, closed at the end."""
    fd = open_dir(path, "directory")
    try:
        yield fd
    finally:
        os.close(fd)
