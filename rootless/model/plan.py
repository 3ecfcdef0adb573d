"""What the launcher executes: data only, produced by the planner.

A plan crosses the private socket between daemon and launcher
(``runtime.wire``). Its steps are subclasses of :class:`Step` that live in
``runtime.steps``; each knows how to apply and how to describe itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rootless.model.mounts import IdMap


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done on the way to the container's process."""

    def describe(self) -> str:
        """One line for ``rootless run --dry-run``: what is done and why."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class LogPlan:
    """Where output is written. ``path`` '' writes none; sizes in bytes, 0 for no limit.

    With ``more`` (JSON; see ``runtime.shim_logs``) it alone says what is written.
    """

    path: str = ""
    max_size: int = 0
    max_files: int = 1
    more: str = ""


@dataclass(frozen=True, slots=True)
class StdioPlan:
    """The process' standard streams. ``size`` is rows and columns of the terminal."""

    terminal: bool
    stdin: bool
    stdin_once: bool
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class LandlockPlan:
    """A Landlock ruleset: what it handles, as masks of landlock(7), and what it allows where.

    ``paths`` are the container's, each with the rights on a directory (and all below)
    and those on anything else; ``ports`` have theirs.
    """

    handled: tuple[int, ...]
    paths: tuple[tuple[str, int, int], ...]
    ports: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """The program and everything that is applied right before its execve(2).

    ``capabilities`` is a bit mask. ``seccomp`` names a file of raw BPF
    instructions, '' for no filter, loaded with ``seccomp_flags``. With
    ``seccomp_original`` the filter reports denied calls to the shim instead of
    answering them itself, and that file has the answers. ``seccomp_early``: it
    allows what init has left to do, so that it is loaded while the daemon is busy.
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    groups: tuple[str, ...]
    capabilities: int
    no_new_privileges: bool
    seccomp: str
    seccomp_flags: int = 0
    seccomp_original: str = ""
    seccomp_early: bool = False
    forbid_root: bool = False
    rlimits: tuple[tuple[str, int, int], ...] = ()
    make_cwd: bool = True
    landlock: LandlockPlan | None = None
    label: str = ""
    """SELinux label that the program gets, '' for none."""


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """One container's start.

    ``prepare`` runs in the shim, inside the engine's namespaces; ``enter`` runs
    in init, inside the container's. ``namespaces`` are the CLONE_NEW… flags.
    ``nproc`` bounds the processes of the container's user namespace (0: not).
    ``cgroup`` is the directory of the cgroup that init is born in, '' for the launcher's.
    """

    container_id: str
    directory: str
    owner: int
    maps: tuple[IdMap, ...]
    namespaces: int
    stdio: StdioPlan
    log: LogPlan
    process: ProcessPlan
    prepare: tuple[Step, ...] = field(default=())
    enter: tuple[Step, ...] = field(default=())
    nproc: int = 0
    cgroup: str = ""
    oom_score_adj: int = 0
    trace: bool = False
    """Say when the sandbox stands, and when each step was done (``ci/bench startup``, tests)."""


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """One further process in a running container.

    ``directory`` is the exec's own directory; ``init_pid`` and ``init_start``
    (clock ticks since boot, proc(5)) name the container's first process.
    """

    container_id: str
    exec_id: str
    directory: str
    init_pid: int
    init_start: int
    stdio: StdioPlan
    process: ProcessPlan
    cgroup: str = ""
