"""Ordering the next container's sandbox before it is asked for.

After a start the launcher is told to make a spare (``runtime.spare``) like it,
with its root file system on one of housekeeping's ready directories. The next
container of the kind gets that directory under its own name: its own one,
which nobody has used yet, becomes ready instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.engine.housekeeping import Housekeeping
from rootless.engine.spare_cgroup import SpareCgroup
from rootless.engine.unit import Unit
from rootless.errors import SyscallError
from rootless.linux.sync import exchange

if TYPE_CHECKING:
    from rootless.model.mounts import RootfsMount
    from rootless.model.plan import LaunchPlan
    from rootless.runtime.launcher_client import Launcher

QUIET = 0.015
"""Seconds without a start before one is made: not to compete with the next."""


@dataclass(frozen=True, slots=True)
class _Order:
    """What a spare was made like. ``directory`` is where its root file system writes to.

    One that ``entered`` it serves only a container that can have the directory.
    """

    key: bytes
    rootfs: RootfsMount
    directory: Path
    entered: bool


class Spares:
    """At most one spare waits; used from the event loop only."""

    def __init__(
        self,
        housekeeping: Housekeeping,
        cgroup: SpareCgroup,
        launcher: Callable[[], Launcher | None],
    ) -> None:
        """``launcher`` is the living one, None when there is none."""
        self._housekeeping = housekeeping
        self._cgroup = cgroup
        self._launcher = launcher
        self._timer: asyncio.TimerHandle | None = None
        self._order: _Order | None = None

    def claim(self, unit: Unit, plan: LaunchPlan) -> tuple[bytes, bool]:
        """Let ``unit`` have the directory that the spare has mounted, if it can serve its start.

        The key for ``Launcher.create``, and whether its files in /etc are mounted, too.
        """
        from rootless.runtime.launcher_client import entry_key, frame_key
        from rootless.runtime.wire import NO_KEY

        self.stop()
        order = self._order
        fresh, unit.fresh = unit.fresh, False
        if plan.cgroup != self._cgroup.path:
            return NO_KEY, False  # it waits in the cgroup of another
        if order is None:
            self._cgroup.give()
            return frame_key(plan), False
        key = entry_key(plan) if order.entered else frame_key(plan)
        rootfs = unit.record.spec.rootfs
        if (
            fresh
            and key == order.key
            and _placed(rootfs, order.directory) == order.rootfs
            and _is_untouched(rootfs.upper, order.rootfs.upper)
        ):
            with contextlib.suppress(SyscallError):
                exchange(order.directory, unit.directory)
                self._order = None
                self._cgroup.give()
                self._housekeeping.give_back(rootfs, unit.directory, order.directory)
                return key, order.entered
        if not order.entered:
            self._cgroup.give()
            self._drop_order()
            return key, False
        if plan.cgroup:  # it cannot wait for another in there
            self._cgroup.leave()
            self._drop_order()
        return NO_KEY, False

    def forget(self) -> None:
        """Serve nobody with the one that waits: layers are removed, perhaps some it has mounted.

        An image that comes again has other files under the same names.
        """
        self.stop()
        self._cgroup.leave()
        self._drop_order()

    def _drop_order(self) -> None:
        if self._order is not None:
            self._housekeeping.remove(self._order.directory)
            self._order = None

    def started(self, unit: Unit, plan: LaunchPlan) -> None:
        """Have one made like ``plan``, soon."""
        from rootless.runtime.launcher_client import frame_key
        from rootless.runtime.wire import NO_KEY

        self.stop()
        # A label is the container's alone, so that nothing mounted with it serves another.
        if frame_key(plan) != NO_KEY and not plan.process.label:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(QUIET, self._make, unit, plan)

    def stop(self) -> None:
        """Make none now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make(self, unit: Unit, plan: LaunchPlan) -> None:
        from rootless.runtime.launcher_client import entry_key, frame_key
        from rootless.runtime.sequence import relocate
        from rootless.runtime.steps.rootfs import MountRootfs
        from rootless.runtime.wire import NO_KEY

        self._timer = None
        launcher, rootfs = self._launcher(), unit.record.spec.rootfs
        if launcher is None:
            return
        if (waiting := self._order) is not None:
            if (
                self._cgroup.is_open()
                and waiting.key == entry_key(replace(plan, cgroup=self._cgroup.path))
                and _placed(rootfs, waiting.directory) == waiting.rootfs
            ):
                return
            self._drop_order()
        cgroup = self._cgroup.make(plan.cgroup, rootfs)
        if plan.cgroup and not cgroup:
            return
        plan = replace(plan, cgroup=cgroup)
        key = entry_key(plan)
        enter = key != NO_KEY
        directory = None
        if rootfs.driver == "overlay":
            directory = self._housekeeping.reserve(rootfs, unit.directory)
        if directory is not None:
            placed = _placed(rootfs, directory)
            self._order = _Order(key if enter else frame_key(plan), placed, directory, enter)
            plan = relocate(plan, placed, str(directory))
            if not enter:
                plan = replace(plan, prepare=(MountRootfs(placed),))
        # What that container alone was to know does not belong here.
        process = replace(plan.process, args=(), env=())
        launcher.prepare(
            replace(plan, process=process),
            ahead=directory is not None,
            enter=enter and directory is not None,
        )


def _placed(rootfs: RootfsMount, directory: Path) -> RootfsMount:
    return replace(
        rootfs,
        upper=f"{directory}/{os.path.basename(rootfs.upper)}",
        work=f"{directory}/{os.path.basename(rootfs.work)}",
    )


def _is_untouched(upper: str, like: str) -> bool:
    """Whether nothing is in ``upper`` and its attributes are still those of a ready one."""
    try:
        mine, theirs = os.stat(upper), os.stat(like)
        return not os.listdir(upper) and (mine.st_mode, mine.st_uid, mine.st_gid) == (
            theirs.st_mode,
            theirs.st_uid,
            theirs.st_gid,
        )
    except OSError:
        return False
