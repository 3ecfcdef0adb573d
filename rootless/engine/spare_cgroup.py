"""The cgroup of the spare sandbox, and the container id that it is named by.

To move a process from one cgroup to another waits for the kernel's other
processors (5 ms on an idle machine), and its cgroup namespace would begin where
it came from. So the init of a spare is born in its container's cgroup, which
bears the id of a container that does not exist yet: the next one that is created
with the same root file system gets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import replace

from rootless import ids
from rootless.linux import cgroupfs
from rootless.model.mounts import RootfsMount

_MARK = "user.rootless.spare"
"""Extended attribute with the data root whose daemon made the cgroup."""


class SpareCgroup:
    """At most one waits. Paths are absolute, '' where no cgroup is delegated."""

    def __init__(self, owner: str, remove: Callable[[str], asyncio.Task[object]]) -> None:
        """``owner`` is the data root; ``remove`` ends and removes a cgroup in the background."""
        self._owner = owner
        self._remove = remove
        self._kind: RootfsMount | None = None
        self._offered = False
        self._leaving: dict[str, asyncio.Task[object]] = {}
        self.path = ""

    def next_id(self, rootfs: RootfsMount) -> str:
        """The id for a new container with such a root file system, whatever its directories."""
        if self._offered and _kind(rootfs) == self._kind:
            self._offered = False
            return os.path.basename(self.path)
        return ids.new_id()

    def is_open(self) -> bool:
        """Whether the next container of its kind can still get it."""
        return self._offered or not self.path

    def make(self, like: str, rootfs: RootfsMount) -> str:
        """One beside ``like``, the cgroup of a container with ``rootfs``; the one before is left.

        '' when there is none, or none to be had now: the start will tell why.
        """
        self.leave()
        if like:
            path = f"{os.path.dirname(like)}/{ids.new_id()}"
            with contextlib.suppress(OSError):
                cgroupfs.make(path)
                self.path, self._kind, self._offered = path, _kind(rootfs), True
                # Last: a kernel without such attributes only leaves it behind a killed daemon.
                os.setxattr(path, _MARK, os.fsencode(self._owner))
        return self.path

    def give(self) -> None:
        """It is a container's from now on."""
        self.path, self._offered = "", False

    def leave(self) -> None:
        """End what waits there; whose id it is waits for :meth:`gone`.

        It has to go: once killed, a cgroup kills whatever is born in it by
        clone3(2), as its makers were never in it (kernel/cgroup/cgroup.c, kill_seq).
        """
        path = self.path
        self.give()
        if path:
            task = self._leaving[path] = self._remove(path)
            task.add_done_callback(lambda _: self._leaving.pop(path, None))

    async def gone(self, path: str) -> None:
        """What was made in ``path`` for another container has left it."""
        if path in self._leaving:
            await asyncio.wait([self._leaving[path]])


def _kind(rootfs: RootfsMount) -> RootfsMount:
    # The id is needed before the privileges are known; the start compares all of it.
    return replace(rootfs, upper="", work="", nosuid=False)


def leftovers(delegated: str, owner: str) -> list[str]:
    """Those that daemons of the data root ``owner`` made below ``delegated`` and left there."""
    found = []
    for path, _, _ in os.walk(delegated):
        with contextlib.suppress(OSError):
            if os.getxattr(path, _MARK) == os.fsencode(owner):
                found.append(path)
    return found
