"""The order in which a sandbox is built: the one place that knows it."""

from __future__ import annotations

from rootless.model.plan import ExecPlan, LaunchPlan, LogPlan, ProcessPlan, StdioPlan
from rootless.model.spec import IdMap, MountSpec, RootfsMount
from rootless.runtime import wire
from rootless.runtime.steps.filesystems import (
    CloneDevices,
    MakeFilesystems,
    OpenTerminal,
    PlaceFilesystems,
    ProtectPaths,
)
from rootless.runtime.steps.rootfs import EnterRootfs, MakePrivate, MakeRootReadOnly, MountRootfs
from rootless.runtime.steps.sources import CloneSource, PlaceMount
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

ENTER = (
    MakePrivate,
    MakeFilesystems,
    EnterRootfs,
    SetHostname,
    PlaceFilesystems,
    AttachInitProgram,
    RaiseLoopback,
    # Settings and the user's mounts come before /proc/sys turns read-only and
    # before the root does; masks come after the user's mounts, so that no mount
    # can uncover what they hide.
    WriteSysctls,
    PlaceMount,
    ProtectPaths,
    OpenTerminal,
    MakeRootReadOnly,
)
"""Steps of init, in the container's namespaces; user, limits, credentials and seccomp follow."""

EARLY = (MakePrivate, MakeFilesystems)
"""Steps of init that need nothing from the shim, and run while it still prepares."""

wire.register(IdMap, MountSpec, RootfsMount, LogPlan, ProcessPlan, StdioPlan, LaunchPlan, ExecPlan)
wire.register(*PREPARE, *ENTER)
