"""The builder's part of a sandbox: clone init, map its ids, prepare its mounts."""

from __future__ import annotations

import os
import resource
import signal
from typing import TYPE_CHECKING

from rootless.errors import RootlessError, StartFailed, SyscallError
from rootless.linux import process
from rootless.linux.inside import write_maps
from rootless.model.plan import Step
from rootless.runtime import init, sequence, wire
from rootless.runtime.context import EngineContext
from rootless.runtime.steps.base import EngineStep
from rootless.runtime.steps.rootfs import MountRootfs
from rootless.runtime.trace import mark

if TYPE_CHECKING:
    from rootless.runtime.builder import Builder

_INIT = 1

_FDS_A_MESSAGE = 200
"""SCM_RIGHTS takes at most 253 descriptors (unix(7))."""


def make(builder: Builder, last_capability: int) -> None:
    """Build everything up to the point where init waits for ``go``.

    Mounts are prepared while init, already cloned, makes its own file systems:
    two processors share the work. Only what shares namespaces has them prepared
    before: the builder enters those, and a FUSE server must not be born in
    another container's pid namespace.
    """
    if sequence.is_framed(builder.plan):
        make_frame(builder, last_capability)
        builder.report()
        finish(builder)
        return
    _prepare(builder.plan.prepare, builder.context)
    make_frame(builder, last_capability)
    builder.report()
    _finish_prepared(builder)


def make_frame(builder: Builder, last_capability: int) -> None:
    """Clone init and let it do the steps of the frame (``sequence.FRAME``)."""
    builder.pid = _clone_init(builder, last_capability)
    builder.die_with_shim()
    builder.tell(_INIT, builder.pid)
    mark("clone returned")
    builder.peer.close()
    write_maps(builder.pid, builder.plan.maps)
    wire.send(builder.sync, {"mapped": True})


def finish(builder: Builder) -> None:
    """Prepare the mounts of the container, unless init is in them, and give init what it lacks."""
    if not builder.entered:
        _prepare(builder.plan.prepare, builder.context)
    _finish_prepared(builder)


def _finish_prepared(builder: Builder) -> None:
    plan, fds = builder.plan, builder.context.fds
    builder.tell_helpers()
    if plan.oom_score_adj:
        _set_oom_score(builder.pid, plan.oom_score_adj)
    if plan.process.seccomp:
        fds["seccomp"] = os.open(plan.process.seccomp, os.O_RDONLY | os.O_CLOEXEC)
    for name, fd in zip(init.STREAMS, builder.streams.theirs, strict=True):
        if fd >= 0:
            fds[name] = fd
    hand_over(builder, {n: fd for n, fd in fds.items() if n != "rootfs" or not builder.entered})
    for name in init.STREAMS:
        fds.pop(name, None)


def _prepare(steps: tuple[Step, ...], context: EngineContext) -> None:
    for step in steps:
        assert isinstance(step, EngineStep)
        if isinstance(step, MountRootfs) and "rootfs" in context.fds:
            continue  # the spare has it
        try:
            step.apply(context)
        except RootlessError as error:
            raise StartFailed(
                error.message,
                step=type(step).__name__,
                exit_code=125,
                hint=error.hint,
                context=error.context,
            ) from None
        mark(type(step).__name__)


def hand_over(builder: Builder, fds: dict[str, int]) -> None:
    """Send init what was prepared, in as many messages as it takes, at least one."""
    names = list(fds)
    for start in range(0, max(len(names), 1), _FDS_A_MESSAGE):
        part = names[start : start + _FDS_A_MESSAGE]
        message: dict[str, object] = {
            "prepared": part,
            "more": start + _FDS_A_MESSAGE < len(names),
        }
        try:
            wire.send(builder.sync, message, tuple(fds[n] for n in part))
        except OSError:
            return  # init ended early; what it reported is read next


def _clone_init(builder: Builder, last_capability: int) -> int:
    """Clone init into new namespaces, as the id that owns the container's user namespace.

    The namespace belongs to the effective uid of its maker, and the limit on
    processes it passes on is the maker's RLIMIT_NPROC (user_namespaces(7),
    Linux 5.14): both are set for the moment of the clone and put back.
    """
    plan = builder.plan
    if plan.namespaces & process.CLONE_NEWTIME:
        # clone(2) has no room for this flag; it holds for the next child
        # (time_namespaces(7)), and takes the privilege that goes away below.
        process.unshare(process.CLONE_NEWTIME, "time namespace")
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    os.setresuid(-1, plan.owner, -1)
    try:
        if plan.cgroup:
            process.act_on_files_as(0)  # the cgroup's are the user's
        # Changing ids made the process undumpable, and /proc/PID/uid_map of an
        # undumpable child belongs to global root (proc(5)).
        process.prctl(process.PR_SET_DUMPABLE, 1, what="PR_SET_DUMPABLE")
        if plan.nproc:
            resource.setrlimit(resource.RLIMIT_NPROC, (_at_most(plan.nproc, limits[1]), limits[1]))
        # The ipc namespace is made by init itself once it is root: its mqueue
        # file system takes the maker's uid, which has no mapping yet here. And a
        # cgroup namespace would begin at the builder's cgroup, not at init's.
        later = process.CLONE_NEWIPC | process.CLONE_NEWCGROUP | process.CLONE_NEWTIME
        flags = plan.namespaces & ~later | process.CLONE_NEWUSER | process.CLONE_PARENT
        pid = process.clone(flags, signal.SIGCHLD, cgroup=plan.cgroup)
        if pid == 0:
            resource.setrlimit(resource.RLIMIT_NPROC, limits)
            builder.sync.close()
            if builder.orders is not None:
                builder.orders.close()
            init.run(
                plan,
                builder.peer,
                builder.shim,
                spare=builder.orders is not None,
                enters=builder.enters,
                template=builder.template,
                last_capability=last_capability,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
        os.setresuid(-1, 0, -1)
        process.prctl(process.PR_SET_DUMPABLE, 1, what="PR_SET_DUMPABLE")
    return pid


def _at_most(wanted: int, hard: int) -> int:
    """``wanted``, unless the user's own limit is lower: that one holds in any case."""
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _set_oom_score(pid: int, score: int) -> None:
    path = f"/proc/{pid}/oom_score_adj"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)
    except PermissionError:
        # proc_pid_oom_score_adj(5): lowering takes CAP_SYS_RESOURCE on the host.
        raise StartFailed(
            f"cannot set oom-score-adj {score}: no user may go below the engine's own score",
            step="OomScore",
            exit_code=125,
            hint="leave --oom-score-adj out, or ask for 0 or more",
        ) from None
    except OSError as error:
        raise SyscallError("write", path, error.errno or 0) from None
