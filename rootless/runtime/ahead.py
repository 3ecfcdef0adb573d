"""What a spare has mounted before any container was asked for.

The root file system, and files of the container's directory if init is to wait
in it. Both are of directories that belong to no container. The daemon lets a
new container have them (one exchange of names), which is how they come to be
the container's: by their inodes, whatever their path is now.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rootless.errors import RootlessError
from rootless.model.mounts import RootfsMount
from rootless.model.plan import LaunchPlan
from rootless.runtime.context import EngineContext
from rootless.runtime.steps.base import EngineStep
from rootless.runtime.steps.rootfs import MountRootfs
from rootless.runtime.steps.sources import CloneSource


@dataclass(frozen=True, slots=True)
class Ahead:
    """A mounted root file system: what it is, which inodes it is made of, descriptors by name."""

    rootfs: RootfsMount
    inodes: tuple[tuple[int, int], ...]
    fds: dict[str, int]

    @classmethod
    def mount(cls, plan: LaunchPlan) -> Ahead | None:
        """Do what ``plan`` says; None when that fails: the start will tell why.

        None as well when a container was given the directories meanwhile: the names
        led to others then, and what is mounted may be of both.
        """
        step = _step_of(plan)
        context = EngineContext("")
        with contextlib.suppress(RootlessError, OSError):
            inodes = (*_inodes(step.rootfs), *_sources(plan))
            for each in plan.prepare:
                assert isinstance(each, EngineStep)
                each.apply(context)
            if inodes == (*_inodes(step.rootfs), *_sources(plan)):
                return cls(step.rootfs, inodes, context.fds)
        context.close()
        return None

    def give_to(self, plan: LaunchPlan, context: EngineContext, *, entered: bool) -> bool:
        """Spare ``plan`` the mount when it means this one; whether it did.

        ``entered``: all of it, the files too, is what init is in.
        """
        wanted = _step_of(plan).rootfs
        if replace(wanted, upper=self.rootfs.upper, work=self.rootfs.work) != self.rootfs:
            return False
        with contextlib.suppress(FileNotFoundError):
            found = (*_inodes(wanted), *_sources(plan)) if entered else _inodes(wanted)
            if found == self.inodes:
                context.fds["rootfs"] = self.fds["rootfs"]
                return True
        return False

    def forget_files(self) -> None:
        """Close all but the root file system: init has them."""
        for name in [name for name in self.fds if name != "rootfs"]:
            os.close(self.fds.pop(name))

    def close(self) -> None:
        """Let go of it."""
        for fd in self.fds.values():
            os.close(fd)


def _step_of(plan: LaunchPlan) -> MountRootfs:
    (step,) = (step for step in plan.prepare if isinstance(step, MountRootfs))
    return step


def _inodes(rootfs: RootfsMount) -> tuple[tuple[int, int], ...]:
    """Of the layers, too: one that was removed and came back has its path, and is another one."""
    return _inodes_of((rootfs.upper, rootfs.work, *rootfs.lowers))


def _sources(plan: LaunchPlan) -> tuple[tuple[int, int], ...]:
    return _inodes_of(s.mount.source for s in plan.prepare if isinstance(s, CloneSource))


def _inodes_of(paths: Iterable[str]) -> tuple[tuple[int, int], ...]:
    found = (os.stat(path, follow_symlinks=False) for path in paths)
    return tuple((each.st_dev, each.st_ino) for each in found)
