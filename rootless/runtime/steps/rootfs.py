"""The root file system: mounted by the engine, entered by init."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass

from rootless.errors import InvalidInput, SyscallError
from rootless.linux import mounts
from rootless.linux.inroot import ensure_dir, ensure_plain_dir
from rootless.linux.rootfs import mount_rootfs
from rootless.model.mounts import RootfsMount
from rootless.runtime.context import EngineContext, InitContext
from rootless.runtime.steps.base import EngineStep, InitStep


@dataclass(frozen=True, slots=True)
class MountRootfs(EngineStep):
    """Mount the layers as one tree, attached nowhere yet."""

    rootfs: RootfsMount

    def describe(self) -> str:
        return (
            f"mount the root file system with {self.rootfs.driver} from "
            f"{len(self.rootfs.lowers)} layers, owned by the engine's user namespace "
            "so that the container cannot change its options"
        )

    def apply(self, ctx: EngineContext) -> None:
        mounted = mount_rootfs(self.rootfs, defer_read_only=True)
        ctx.fds["rootfs"] = mounted.fd
        if mounted.server_pid is not None:
            ctx.helpers.append(mounted.server_pid)


@dataclass(frozen=True, slots=True)
class MakePrivate(InitStep):
    """Cut mount propagation, so that nothing mounted here is seen outside or the other way."""

    def describe(self) -> str:
        return "make every mount private: no mount event leaves or enters"

    def apply(self, ctx: InitContext) -> None:
        mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_PRIVATE)


@dataclass(frozen=True, slots=True)
class EnterRootfs(InitStep):
    """Make the root file system the root, with /proc, /sys and /dev, and drop the host's tree.

    The tree is attached over ``/`` and becomes the root with pivot_root(".",
    "."), which needs no directory for the old root (pivot_root(2), NOTES); the
    old root is then the topmost mount and goes with one lazy unmount.
    """

    def describe(self) -> str:
        return "move /proc, /sys and /dev into it, enter it with pivot_root, detach the host's tree"

    def apply(self, ctx: InitContext) -> None:
        rootfs, slash = ctx.take("rootfs"), ctx.root
        mounts.move_mount(rootfs, slash, "/")
        for name, target in (("proc", "/proc"), ("sysfs", "/sys"), ("dev", "/dev")):
            point = _own_directory(rootfs, target)
            mounts.move_mount(ctx.fds[name], point, target)
            os.close(point)
        os.close(slash)
        os.fchdir(rootfs)
        mounts.pivot_root(".", ".")
        mounts.umount(".", mounts.MNT_DETACH)
        os.chdir("/")
        ctx.root = rootfs


def _own_directory(rootfs: int, target: str) -> int:
    """Where /proc, /sys or /dev go: a symlink of the image's could put them elsewhere.

    /proc would then be whatever the image has there for all who look (CVE-2019-19921).
    """
    try:
        return ensure_plain_dir(rootfs, target)
    except SyscallError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        found = "a symbolic link" if error.errno == errno.ELOOP else "not a directory"
        raise InvalidInput(
            f"cannot mount {target}: the image's is {found}",
            hint=f"{target} must be a directory, or absent, in the image",
        ) from None


@dataclass(frozen=True, slots=True)
class MakeRootReadOnly(InitStep):
    """``--read-only``: after every mount point was made, and the working directory."""

    cwd: str

    def describe(self) -> str:
        return "make the root file system read-only"

    def apply(self, ctx: InitContext) -> None:
        # A directory that cannot be made cannot be entered later, and that is where it is said.
        with contextlib.suppress(SyscallError):
            os.close(ensure_dir(ctx.root, self.cwd))
        mounts.set_attributes(ctx.root, add=mounts.MOUNT_ATTR_RDONLY, what="/")
