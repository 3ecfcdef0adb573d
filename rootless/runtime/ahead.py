"""A root file system that a spare has mounted before any container was asked for.

It is made of directories that belong to no container. The daemon lets a new
container have them (one exchange of names), which is how it comes to be the
container's: by the directories' inodes, whatever their path is now.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace

from rootless.errors import RootlessError
from rootless.model.plan import LaunchPlan
from rootless.model.spec import RootfsMount
from rootless.runtime.context import EngineContext
from rootless.runtime.steps.rootfs import MountRootfs


@dataclass(frozen=True, slots=True)
class Ahead:
    """A mounted root file system: what it is, which directories it writes to, its descriptor."""

    rootfs: RootfsMount
    inodes: tuple[tuple[int, int], ...]
    fd: int

    @classmethod
    def mount(cls, plan: LaunchPlan) -> Ahead | None:
        """Mount the one of ``plan``; None when that fails: the start will tell why."""
        step = _step_of(plan)
        context = EngineContext("")
        with contextlib.suppress(RootlessError, OSError):
            inodes = _inodes(step.rootfs)
            step.apply(context)
            return cls(step.rootfs, inodes, context.fds["rootfs"])
        return None

    def give_to(self, plan: LaunchPlan, context: EngineContext) -> bool:
        """Spare ``plan`` the mount when it means this one; whether it did."""
        wanted = _step_of(plan).rootfs
        if replace(wanted, upper=self.rootfs.upper, work=self.rootfs.work) != self.rootfs:
            return False
        with contextlib.suppress(FileNotFoundError):
            if _inodes(wanted) == self.inodes:
                context.fds["rootfs"] = self.fd
                return True
        return False

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


def _step_of(plan: LaunchPlan) -> MountRootfs:
    (step,) = (step for step in plan.prepare if isinstance(step, MountRootfs))
    return step


def _inodes(rootfs: RootfsMount) -> tuple[tuple[int, int], ...]:
    """Of the layers, too: one that was removed and came back has its path, and is another one."""
    paths = (rootfs.upper, rootfs.work, *rootfs.lowers)
    found = (os.stat(path, follow_symlinks=False) for path in paths)
    return tuple((each.st_dev, each.st_ino) for each in found)
