"""Bind mounts, volumes and tmpfs the user asked for."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, replace

from rootless.errors import Denied, HostUnsupported, InvalidInput, SyscallError, no_space
from rootless.linux import mounts
from rootless.linux.inroot import ensure_dir, ensure_like, make_own
from rootless.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2
from rootless.linux.rootfs import mount_rootfs
from rootless.model.mounts import MountSpec
from rootless.runtime.context import EngineContext, InitContext
from rootless.runtime.steps.base import EngineStep, InitStep
from rootless.runtime.steps.filesystems import refuse_proc
from rootless.runtime.steps.relabel import refuse_system

_SCRATCH = "/dev/.image"
"""Where an image is attached for a moment: /dev is a file system of the container's own."""


def attributes_of(mount: MountSpec) -> int:
    """The MOUNT_ATTR_… flags a mount asks for, without read-only."""
    flags = mounts.MOUNT_ATTR_NOSUID if mount.nosuid else 0
    flags |= mounts.MOUNT_ATTR_NODEV if mount.nodev else 0
    return flags | (mounts.MOUNT_ATTR_NOEXEC if mount.noexec else 0)


def _open_source(mount: MountSpec) -> int:
    """Open the source and, below it, the subpath, which must not lead out of a volume."""
    try:
        fd = os.open(mount.source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InvalidInput(
            f"invalid mount config for type {mount.type!r}: "
            f"bind source path does not exist: {mount.source}"
        ) from None
    except OSError as error:
        raise SyscallError("open", mount.source, error.errno or 0) from None
    if not mount.subpath:
        return fd
    try:
        return _open_beneath(fd, mount)
    finally:
        os.close(fd)


def _open_beneath(fd: int, mount: MountSpec) -> int:
    """The mount's subpath below ``fd``, by links as well as long as they stay there."""
    try:
        flags = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
        return openat2(fd, mount.subpath, os.O_PATH, resolve=flags)
    except SyscallError as error:
        where = f"{mount.subpath!r} of {mount.volume_name or mount.source}"
        if error.errno == errno.EXDEV:
            raise InvalidInput(
                f"path concatenation escapes the base directory, subpath: {where}"
            ) from None
        raise InvalidInput(
            f"cannot access path {where}: {os.strerror(error.errno)}",
            hint="the subpath must exist inside the volume or image",
        ) from None


def _clone(fd: int, mount: MountSpec) -> int:
    """The open source as a detached mount, with what is mounted below it unless told otherwise."""
    try:
        return mounts.clone_tree(fd, recursive=mount.recursive)
    except SyscallError as error:
        if mount.recursive or error.errno != errno.EINVAL:
            raise
        raise HostUnsupported(
            f"cannot mount {mount.source} alone: other file systems are mounted below it, which "
            "only root can leave out",
            hint="leave out bind-recursive=disabled, or mount a directory with no mounts below it",
        ) from None


def _label(source: int, mount: MountSpec) -> None:
    """Give the source and all below it the mount's SELinux label, by descriptors."""
    from rootless.linux import selinux

    if mount.type == "bind":
        refuse_system(source, mount.source)
    elif selinux.file_label(source) == mount.label:
        return  # a volume has it as a whole, or not at all
    selinux.label_tree(source, mount.label, mount.source)


@dataclass(frozen=True, slots=True)
class CloneSource(EngineStep):
    """Take a host directory or file as a detached mount with its final attributes."""

    index: int
    mount: MountSpec

    def describe(self) -> str:
        mode = "read-only" if self.mount.read_only else "read-write"
        label = f", labelled {self.mount.label}" if self.mount.label else ""
        return f"bind {self.mount.source} for {self.mount.target} ({mode}), by descriptor{label}"

    def apply(self, ctx: EngineContext) -> None:
        mount = self.mount
        source = _open_source(mount)
        try:
            self._check_identity(source)
            if mount.label:
                _label(source, mount)
            clone = _clone(source, mount)
        finally:
            os.close(source)
        try:
            flags = attributes_of(mount)
            kind = mount.propagation.removeprefix("r")
            mounts.set_attributes(
                clone, add=flags, propagation=kind, recursive=True, what=mount.target
            )
            if mount.read_only:
                mounts.set_attributes(
                    clone,
                    add=mounts.MOUNT_ATTR_RDONLY,
                    recursive=mount.recursive_read_only,
                    what=mount.target,
                )
        except BaseException:
            os.close(clone)
            raise
        ctx.fds[f"mount:{self.index}"] = clone

    def _check_identity(self, fd: int) -> None:
        """The file that is mounted must be the one the policy saw, not one swapped in since."""
        mount = self.mount
        if not mount.source_ino or mount.subpath:
            return
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) != (mount.source_dev, mount.source_ino):
            raise Denied(
                f"mount source {mount.source} was replaced after the policy admitted it",
                hint="start the container again once nobody changes the path",
            )


@dataclass(frozen=True, slots=True)
class MountImage(EngineStep):
    """Mount an image's layers as one tree, attached nowhere yet; nobody can write to it."""

    index: int
    mount: MountSpec

    def describe(self) -> str:
        return f"mount the files of an image for {self.mount.target} (read-only)"

    def apply(self, ctx: EngineContext) -> None:
        layers = self.mount.layers
        assert layers is not None
        if layers.label and len(layers.lowers) == 1:
            # One layer is no overlay, and only an overlay can be labelled as a whole.
            empty = f"{ctx.directory}/empty"
            os.makedirs(empty, mode=0o700, exist_ok=True)
            layers = replace(layers, lowers=(*layers.lowers, empty))
        mounted = mount_rootfs(layers)
        ctx.fds[f"mount:{self.index}"] = mounted.fd
        if mounted.server_pid is not None:
            ctx.helpers.append(mounted.server_pid)
        mounts.set_attributes(mounted.fd, add=attributes_of(self.mount), what=self.mount.target)


@dataclass(frozen=True, slots=True)
class MakePoint(EngineStep):
    """Make the mount point of a mount that lies in a directory of the user's, bound writable.

    The container's root is a subordinate id and could not (``-v .:/app -v /app/node_modules``).
    Only in what belongs to the user, who asked for it; a failure is told by
    :class:`PlaceMount`, which finds no mount point then.
    """

    parent: int
    """The number of the mount it lies in,"""
    path: str
    """where in it,"""
    index: int
    """and of the mount it is for."""

    def describe(self) -> str:
        return f"make the mount point {self.path} in the directory bound there, as the user"

    def apply(self, ctx: EngineContext) -> None:
        source = ctx.fds.get(f"mount:{self.index}")  # a tmpfs has none
        directory = source is None or stat.S_ISDIR(os.fstat(source).st_mode)
        with contextlib.suppress(SyscallError, OSError):
            make_own(ctx.fds[f"mount:{self.parent}"], self.path, directory=directory)


@dataclass(frozen=True, slots=True)
class PlaceMount(InitStep):
    """Attach a prepared source, or a new tmpfs, on its target inside the root."""

    index: int
    mount: MountSpec

    def describe(self) -> str:
        what = "a new tmpfs" if self.mount.type == "tmpfs" else self.mount.source
        return f"attach {what} on {self.mount.target}, resolved inside the root"

    def apply(self, ctx: InitContext) -> None:
        mount = self.mount
        fd = self._make_tmpfs() if mount.type == "tmpfs" else ctx.take(f"mount:{self.index}")
        if mount.type == "image" and mount.subpath:
            fd = self._part_of(ctx.root, fd)
        try:
            if mount.type == "tmpfs":
                point = ensure_dir(ctx.root, mount.target)
            else:
                point = ensure_like(ctx.root, mount.target, fd)
        except SyscallError as error:
            os.close(fd)
            what = f"cannot make the mount point {mount.target}"
            full = no_space(what, error)
            raise full or InvalidInput(f"{what}: {os.strerror(error.errno)}") from None
        try:
            self._refuse_file_over_directory(fd, point)
            refuse_proc(ctx.root, point, mount.target)
            mounts.move_mount(fd, point, mount.target)
        finally:
            os.close(point)
            os.close(fd)

    def _refuse_file_over_directory(self, fd: int, point: int) -> None:
        over = stat.S_ISDIR(os.fstat(point).st_mode)
        if over and not stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidInput(
                f"cannot mount the file {self.mount.source} over the directory "
                f"{self.mount.target} of the container",
                hint="mount a file over a file, a directory over a directory",
            )

    def _part_of(self, root: int, whole: int) -> int:
        """The subpath of an image as a mount of its own; closes ``whole``.

        Only of what is attached somewhere a part can be cloned (open_tree(2), before Linux 6.15).
        """
        scratch = ensure_dir(root, _SCRATCH)
        try:
            mounts.move_mount(whole, scratch, _SCRATCH)
            try:
                part = _open_beneath(whole, self.mount)
                try:
                    return mounts.clone_tree(part, recursive=False)
                finally:
                    os.close(part)
            finally:
                os.fchdir(whole)
                mounts.umount(".", mounts.MNT_DETACH)
                os.chdir("/")
        finally:
            os.close(whole)
            os.close(scratch)
            os.rmdir(_SCRATCH.lstrip("/"), dir_fd=root)

    def _make_tmpfs(self) -> int:
        mount = self.mount
        options: list[tuple[str, str | None]] = []
        if mount.size:
            options.append(("size", str(mount.size)))
        options.append(("mode", f"{mount.mode if mount.mode is not None else 0o1777:o}"))
        for option in mount.options:
            key, sep, value = option.partition("=")
            options.append((key, value if sep else None))
        flags = attributes_of(mount) | (mounts.MOUNT_ATTR_RDONLY if mount.read_only else 0)
        options += mounts.context_option(mount.label)
        return mounts.new_mount("tmpfs", options, attributes=flags, source="tmpfs")
