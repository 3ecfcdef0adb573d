"""From an admitted spec to a launch plan: pure, and without a default of its own."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.linux import landlock, process
from rootless.linux.cgrouplimits import keeps_pids
from rootless.model.facts import HostFacts
from rootless.model.mounts import MountSpec
from rootless.model.plan import (
    ExecPlan,
    LandlockPlan,
    LaunchPlan,
    LogPlan,
    ProcessPlan,
    StdioPlan,
    Step,
)
from rootless.model.request import ExecRequest
from rootless.model.spec import AdmittedSpec, ContainerSpec
from rootless.runtime import sequence
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

_TTY_GID = 5
_CLONE_FLAGS = {
    "network": process.CLONE_NEWNET,
    "ipc": process.CLONE_NEWIPC,
    "pid": process.CLONE_NEWPID,
    "uts": process.CLONE_NEWUTS,
    "cgroup": process.CLONE_NEWCGROUP,
    "time": process.CLONE_NEWTIME,
}
_NS_FILES = {"network": "net", "ipc": "ipc", "pid": "pid", "uts": "uts", "cgroup": "cgroup"}


@dataclass(frozen=True, slots=True)
class ContainerLayout:
    """Where a container's files are, and what the engine looked up for this start.

    ``seccomp_path`` is a file of BPF instructions ('' without a filter) and
    ``seccomp_flags`` its flags; ``seccomp_original`` is the filter as the profile
    means it when the first one reports denied calls; ``seccomp_early`` when it
    may be loaded before init's last steps. ``etc_files`` are host
    path and target of hosts, hostname and resolv.conf. ``namespace_pids`` maps
    a namespace kind (``network``, ``ipc``, …) that is shared with a container to that
    container's first pid and start time. ``cgroup`` is the container's cgroup directory.
    """

    directory: str
    log: LogPlan = LogPlan()
    seccomp_path: str = ""
    seccomp_flags: int = 0
    seccomp_original: str = ""
    seccomp_early: bool = False
    cgroup: str = ""
    etc_files: tuple[tuple[str, str], ...] = ()
    namespace_pids: tuple[tuple[str, int, int], ...] = ()


def plan_container(admitted: AdmittedSpec, facts: HostFacts, layout: ContainerLayout) -> LaunchPlan:
    """The complete plan of one start."""
    spec = admitted.spec
    modes = _modes(spec)
    mounts = _mounts(spec, layout)
    return LaunchPlan(
        container_id=spec.id,
        directory=layout.directory,
        owner=spec.userns.owner,
        maps=spec.userns.maps,
        namespaces=_clone_flags(modes),
        stdio=StdioPlan(
            terminal=spec.process.terminal,
            stdin=spec.process.open_stdin,
            stdin_once=spec.process.stdin_once,
            size=spec.process.console_size,
        ),
        log=layout.log,
        process=_process(spec, layout),
        prepare=_in_order(sequence.PREPARE, _prepare(spec, modes, mounts, layout)),
        enter=_in_order(sequence.ENTER, _enter(spec, modes, mounts)),
        nproc=_process_limit(spec, facts),
        cgroup=layout.cgroup,
        oom_score_adj=spec.oom_score_adj,
    )


def plan_exec(
    admitted: AdmittedSpec,
    request: ExecRequest,
    layout: ContainerLayout,
    *,
    exec_id: str,
    directory: str,
    init_pid: int,
    init_start: int,
    env: tuple[str, ...],
) -> ExecPlan:
    """The plan of a further process; ``env`` is complete, ``request`` was admitted."""
    spec = admitted.spec
    capabilities = process.mask_of(spec.privileges.capabilities)
    return ExecPlan(
        container_id=spec.id,
        exec_id=exec_id,
        directory=directory,
        init_pid=init_pid,
        init_start=init_start,
        stdio=StdioPlan(
            terminal=request.tty,
            stdin=request.attach_stdin,
            stdin_once=True,
            size=request.console_size,
        ),
        process=ProcessPlan(
            args=request.cmd,
            env=env,
            cwd=request.working_dir or spec.process.cwd,
            user=request.user or spec.process.user,
            groups=spec.process.group_add,
            capabilities=capabilities,
            no_new_privileges=spec.privileges.no_new_privileges,
            seccomp=layout.seccomp_path,
            seccomp_flags=layout.seccomp_flags,
            seccomp_original=layout.seccomp_original,
            seccomp_early=layout.seccomp_early,
            forbid_root=spec.process.forbid_root,
            landlock=_landlock(spec),
            label=spec.selinux.process,
            rlimits=tuple((r.name, r.soft, r.hard) for r in spec.rlimits),
            make_cwd=False,
        ),
        cgroup=layout.cgroup,
    )


def describe(plan: LaunchPlan) -> tuple[tuple[str, str], ...]:
    """Name and description of every step, in order, for ``--dry-run``."""
    lines = [(type(step).__name__, step.describe()) for step in plan.prepare]
    maps = ", ".join(f"{m.inside}→{m.outside} ({m.size})" for m in plan.maps)
    lines.append(
        ("CloneInit", f"clone init into new namespaces owned by id {plan.owner}; ids {maps}")
    )
    lines += [(type(step).__name__, step.describe()) for step in plan.enter]
    return (*lines, *_describe_process(plan.process))


def _describe_process(plan: ProcessPlan) -> list[tuple[str, str]]:
    kept = [name for bit, name in enumerate(process.CAPABILITIES) if plan.capabilities >> bit & 1]
    lines = [
        (
            "ResolveUser",
            f"resolve user {plan.user or 'root'!r} in the image's own passwd and group",
        ),
        ("EnterWorkingDirectory", f"enter {plan.cwd} and check that it is inside"),
    ]
    lines += [("SetRlimits", f"{n}={s}:{h}") for n, s, h in plan.rlimits]
    if plan.no_new_privileges:
        lines.append(("SetNoNewPrivileges", "no program may gain privileges by execve"))
    if plan.landlock is not None:
        allowed = ", ".join(path for path, *_ in plan.landlock.paths) or "no path"
        lines.append(("Landlock", f"restrict files and TCP ports: {allowed}"))
    lines.append(("TakeCredentials", f"keep {', '.join(kept) or 'no capability'}"))
    if plan.label:
        lines.append(("SetLabel", f"run as {plan.label} from execve on"))
    if plan.seccomp:
        lines.append(("LoadSeccomp", "load the system call filter, last"))
    lines.append(("Exec", " ".join(plan.args)))
    return lines


def _modes(spec: ContainerSpec) -> dict[str, str]:
    names = spec.namespaces
    return {kind: str(getattr(names, kind)) for kind in _CLONE_FLAGS}


def _clone_flags(modes: dict[str, str]) -> int:
    flags = process.CLONE_NEWNS
    for kind, mode in modes.items():
        if mode == "private":
            flags |= _CLONE_FLAGS[kind]
    return flags


def _mounts(spec: ContainerSpec, layout: ContainerLayout) -> tuple[MountSpec, ...]:
    """The user's mounts and the generated files, parents before children.

    A generated file gives way to a mount of the user's on the same target.
    """
    taken = {mount.target.rstrip("/") for mount in spec.mounts}
    files = tuple(
        MountSpec("bind", target, source, recursive=False, label=spec.selinux.mount)
        for source, target in layout.etc_files
        if target not in taken
    )
    return tuple(sorted(files + spec.mounts, key=lambda m: m.target.rstrip("/").count("/")))


def _prepare(
    spec: ContainerSpec,
    modes: dict[str, str],
    mounts: tuple[MountSpec, ...],
    layout: ContainerLayout,
) -> list[Step]:
    steps: list[Step] = [MountRootfs(spec.rootfs)]
    steps += [
        MountImage(i, m) if m.type == "image" else CloneSource(i, m)
        for i, m in enumerate(mounts)
        if m.type != "tmpfs"
    ]
    steps += _points(mounts)
    if spec.devices:
        steps.append(CloneDevices(tuple((d.source, d.target) for d in spec.devices)))
    if modes["pid"] == "host":
        steps.append(CloneHostTree("proc", "/proc"))
    if modes["network"] == "host":
        steps.append(CloneHostTree("sysfs", "/sys"))
    if modes["ipc"] == "host":
        steps.append(CloneHostTree("shm", "/dev/shm"))
        steps.append(CloneHostTree("mqueue", "/dev/mqueue"))
    if spec.process.init_binary:
        steps.append(PlaceInitProgram(spec.process.init_binary))
    for kind, pid, start in layout.namespace_pids:
        container = modes[kind].partition(":")[2]
        steps.append(JoinNamespace(_NS_FILES[kind], pid, start, container))
    if modes["network"].startswith("container:"):
        steps.append(MountForJoined("sysfs"))
    if modes["pid"].startswith("container:"):
        steps.append(MountForJoined("proc"))
    if modes["ipc"].startswith("container:"):
        steps.append(MountForJoined("mqueue"))
        steps += [ShareShm(pid) for kind, pid, _ in layout.namespace_pids if kind == "ipc"]
    return steps


def _points(mounts: tuple[MountSpec, ...]) -> list[Step]:
    """The mount points to make in directories of the host that are bound writable."""
    numbers = {mount.target.rstrip("/"): index for index, mount in enumerate(mounts)}
    points: list[Step] = []
    for index, mount in enumerate(mounts):
        target = mount.target.rstrip("/")
        above = target.rpartition("/")[0]
        while above and above not in numbers:
            above = above.rpartition("/")[0]
        if above and mounts[numbers[above]].type == "bind" and not mounts[numbers[above]].read_only:
            points.append(MakePoint(numbers[above], target.removeprefix(f"{above}/"), index))
    return points


def _enter(spec: ContainerSpec, modes: dict[str, str], mounts: tuple[MountSpec, ...]) -> list[Step]:
    steps: list[Step] = [
        MakePrivate(),
        MakeFilesystems(
            proc=modes["pid"] == "private",
            sysfs=modes["network"] == "private",
            mqueue=modes["ipc"] == "private",
            cgroup=modes["cgroup"] == "private",
            shm=modes["ipc"] == "private" and spec.shm_size > 0,
            shm_size=spec.shm_size,
            tty_gid=_TTY_GID
            if any(m.inside <= _TTY_GID < m.inside + m.size for m in spec.userns.maps)
            else 0,
            label=spec.selinux.mount,
        ),
        AssembleTrees(),
        ProtectPaths(spec.masked_paths, spec.readonly_paths),
        EnterRootfs(),
    ]
    if spec.devices:
        steps.append(PlaceDevices(tuple(d.target for d in spec.devices)))
    if modes["uts"] == "private":
        steps.append(SetHostname(spec.hostname, spec.domainname))
    if modes["network"] == "private":
        steps.append(RaiseLoopback())
    if spec.process.init_binary:
        steps.append(AttachInitProgram())
    if spec.sysctls:
        steps.append(WriteSysctls(spec.sysctls))
    steps += [PlaceMount(i, m) for i, m in enumerate(mounts)]
    if spec.process.terminal:
        steps.append(OpenTerminal(*spec.process.console_size))
    if spec.rootfs.read_only:
        steps.append(MakeRootReadOnly(spec.process.cwd or "/"))
    return steps


def _in_order(order: tuple[type, ...], steps: list[Step]) -> tuple[Step, ...]:
    """``steps`` in the order of the sequence; the sort is stable among steps of one kind."""
    return tuple(sorted(steps, key=lambda step: order.index(type(step))))


def _process(spec: ContainerSpec, layout: ContainerLayout) -> ProcessPlan:
    args = spec.process.args
    if spec.process.init_binary:
        args = ("/dev/init", "--", *args)
    return ProcessPlan(
        args=args,
        env=spec.process.env,
        cwd=spec.process.cwd or "/",
        user=spec.process.user,
        groups=spec.process.group_add,
        capabilities=process.mask_of(spec.privileges.capabilities),
        no_new_privileges=spec.privileges.no_new_privileges,
        seccomp=layout.seccomp_path,
        seccomp_flags=layout.seccomp_flags,
        seccomp_original=layout.seccomp_original,
        seccomp_early=layout.seccomp_early,
        forbid_root=spec.process.forbid_root,
        landlock=_landlock(spec),
        label=spec.selinux.process,
        rlimits=tuple((r.name, r.soft, r.hard) for r in spec.rlimits),
    )


def _landlock(spec: ContainerSpec) -> LandlockPlan | None:
    """The ruleset of a container's processes, those of an exec too."""
    rules = spec.process.landlock
    if rules is None:
        return None
    files = rules.read is not None
    every = landlock.file_rights(rules.abi)
    paths = [(path, landlock.READ) for path in rules.read or ()]
    paths += [(path, every) for path in rules.write or ()]
    if files and spec.process.init_binary:
        paths.append(("/dev/init", landlock.READ))
    net = landlock.CONNECT_TCP if rules.connect is not None else 0
    net |= landlock.BIND_TCP if rules.bind is not None else 0
    ports = [(port, landlock.CONNECT_TCP) for port in rules.connect or ()]
    ports += [(port, landlock.BIND_TCP) for port in rules.bind or ()]
    return LandlockPlan(
        handled=landlock.attributes(rules.abi, every if files else 0, net),
        paths=tuple((path, access, access & landlock.ON_FILES) for path, access in paths),
        ports=tuple(ports),
    )


def _process_limit(spec: ContainerSpec, facts: HostFacts) -> int:
    """The limit on processes where no pids controller keeps it; 0 for none."""
    limit = spec.resources.pids_limit or 0
    if limit <= 0 or keeps_pids(facts.cgroup):
        return 0
    return limit
