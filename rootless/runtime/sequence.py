"""The order in which a sandbox is built: the one place that knows it."""

from __future__ import annotations

from dataclasses import fields, replace
from operator import attrgetter

from rootless.model.mounts import IdMap, MountSpec, RootfsMount
from rootless.model.plan import (
    ExecPlan,
    LandlockPlan,
    LaunchPlan,
    LogPlan,
    ProcessPlan,
    StdioPlan,
    Step,
)
from rootless.runtime import wire
from rootless.runtime.steps.filesystems import (
    AssembleTrees,
    CloneDevices,
    MakeFilesystems,
    OpenTerminal,
    PlaceDevices,
    ProtectPaths,
)
from rootless.runtime.steps.rootfs import EnterRootfs, MakePrivate, MakeRootReadOnly, MountRootfs
from rootless.runtime.steps.sources import CloneSource, MakePoint, MountImage, PlaceMount
from rootless.runtime.steps.system import (
    AttachInitProgram,
    CloneHostTree,
    JoinNamespace,
    MountForJoined,
    PlaceInitProgram,
    RaiseLoopback,
    SetHostname,
    ShareShm,
    WriteSysctls,
)

PREPARE = (
    MountRootfs,
    CloneSource,
    MountImage,
    MakePoint,
    CloneDevices,
    CloneHostTree,
    PlaceInitProgram,
    # Joining comes last on this side: from here on the shim is in another
    # container's namespaces, and new mounts of sysfs, mqueue and proc show those.
    JoinNamespace,
    MountForJoined,
    ShareShm,
)
"""Steps of the shim, in the engine's namespaces."""

SHARING = (CloneHostTree, JoinNamespace, MountForJoined, ShareShm)
"""Steps whose results the frame needs; with any of them nothing can be done ahead."""

FRAME = (
    MakePrivate,
    MakeFilesystems,
    AssembleTrees,
    WriteSysctls,
    ProtectPaths,
    RaiseLoopback,
)
"""Steps of init that are the same for most containers and need nothing of this one.

They run while the mounts are prepared, or before any container is asked for.
Settings come before /proc/sys turns read-only.
"""

ENTRY = (EnterRootfs, PlaceMount)
"""Steps of init that a spare does too when all mounts are known before; see :func:`entry_of`."""

ENTER = (
    *FRAME,
    EnterRootfs,
    SetHostname,
    PlaceDevices,
    AttachInitProgram,
    PlaceMount,
    OpenTerminal,
    MakeRootReadOnly,
)
"""Steps of init, in the container's namespaces; user, limits, credentials and seccomp follow."""

wire.register(IdMap, MountSpec, RootfsMount, LogPlan, LandlockPlan, ProcessPlan, StdioPlan)
wire.register(LaunchPlan, ExecPlan)
wire.register(*PREPARE, *ENTER)


def is_framed(plan: LaunchPlan) -> bool:
    """Whether init can do the frame's steps without anything from the builder."""
    return not any(isinstance(step, SHARING) for step in plan.prepare)


def frame_of(plan: LaunchPlan) -> tuple[object, ...]:
    """All that a frame is made from: two plans with an equal one can use the same."""
    steps = tuple(step for step in plan.enter if isinstance(step, FRAME))
    return (plan.owner, plan.maps, plan.namespaces, plan.nproc, plan.cgroup, steps)


_REST = attrgetter(*(field.name for field in fields(MountSpec) if field.name != "source"))
"""Everything about a mount but its source."""


def entry_of(plan: LaunchPlan) -> tuple[object, ...] | None:
    """What is mounted besides the root file system, the container's directory left out.

    None when that takes more than the directory, which a spare can have before
    any container is asked for, or when anything has to be done in between.
    """
    own = f"{plan.directory}/"
    for step in plan.prepare:
        if not isinstance(step, (MountRootfs, CloneSource)):
            return None
        if isinstance(step, CloneSource) and not step.mount.source.startswith(own):
            return None
    if not all(isinstance(step, (*FRAME, *ENTRY, SetHostname)) for step in plan.enter):
        return None
    return tuple(
        (step.index, step.mount.source.removeprefix(own), *_REST(step.mount))
        for step in plan.enter
        if isinstance(step, PlaceMount)
    )


def relocate(plan: LaunchPlan, rootfs: RootfsMount, directory: str) -> LaunchPlan:
    """``plan`` with this root file system, and the files of its directory from ``directory``."""
    own, new = f"{plan.directory}/", f"{directory}/"
    steps = [
        MountRootfs(rootfs) if isinstance(step, MountRootfs) else _relocated(step, own, new)
        for step in plan.prepare
    ]
    entered = [_relocated(step, own, new) for step in plan.enter]
    return replace(plan, directory=directory, prepare=tuple(steps), enter=tuple(entered))


def _relocated(step: Step, own: str, new: str) -> Step:
    if not isinstance(step, (CloneSource, PlaceMount)) or not step.mount.source.startswith(own):
        return step
    source = new + step.mount.source.removeprefix(own)
    return replace(step, mount=replace(step.mount, source=source))
