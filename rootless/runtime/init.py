"""The container's first process, up to the moment it becomes the user's program.

It runs in a fork of the launcher, so nothing is imported here: once the
container's mount namespace is entered, an import would read the container's
files. :func:`isolated.forbid_imports` makes that impossible rather than unlikely.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from rootless.errors import RootlessError, StartFailed, SyscallError
from rootless.linux import libc, process, users
from rootless.linux.inroot import ensure_dir, read_file
from rootless.linux.inside import become_root
from rootless.linux.isolated import forbid_imports
from rootless.linux.openat2 import openat2
from rootless.linux.seccomp import load_filter
from rootless.linux.terminal import make_controlling
from rootless.model.plan import LaunchPlan, ProcessPlan
from rootless.runtime import wire
from rootless.runtime.confine import confine
from rootless.runtime.context import InitContext
from rootless.runtime.sequence import ENTRY, FRAME, is_framed
from rootless.runtime.steps.base import InitStep
from rootless.runtime.trace import mark, take

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


STREAMS = ("stdin", "stdout", "stderr")
"""Names under which the builder hands the process' streams over."""

_CHANGED_SIGNALS = (
    signal.SIGCHLD,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGXFSZ,  # by the interpreter, like SIGPIPE and SIGINT
)


def reset_signals() -> None:
    """Default dispositions and an empty mask: execve(2) keeps ignored and blocked signals."""
    for number in _CHANGED_SIGNALS:
        process.default_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def run(
    frame: LaunchPlan,
    sync: socket.socket,
    shim: socket.socket,
    *,
    spare: bool,
    enters: bool,
    template: bytes,
    last_capability: int,
) -> NoReturn:
    """Everything from the clone to execve(2); never returns.

    ``shim`` ends with the shim. ``sync`` speaks with the builder. Init hears
    ``mapped`` when the id maps are written, does the frame's steps as in
    ``frame``, enters the root file system with them if it ``enters`` one ahead,
    hears its own plan when it is a ``spare``, then of the descriptors
    that were prepared for it, says ``ready`` (with the terminal's master) when the
    sandbox stands, hears ``go``, and then says what went wrong or nothing:
    execve(2) closes the socket. ``template`` is a message like the one that a
    spare will hear, b'' for none: decoded once for nothing (``builder``).
    """
    ctx = InitContext(fds={}, last_capability=last_capability)
    step = "init"
    try:
        mark("init cloned")
        if wire.receive(sync) is None:
            os._exit(125)  # the builder is gone before it wrote the id maps
        mark("ids mapped")
        forbid_imports()
        become_root()
        os.umask(0o022)  # the engine's own would keep every other user out of what is made below
        late = frame.namespaces & (process.CLONE_NEWIPC | process.CLONE_NEWCGROUP)
        if late:
            process.unshare(late, "ipc and cgroup namespace")
        if not is_framed(frame):
            _receive_prepared(sync, ctx)
        done: tuple[type, ...] = FRAME
        for item in frame.enter:
            step = type(item).__name__
            if isinstance(item, FRAME):
                item.apply(ctx)
                mark(step)
        if enters and _enter_ahead(frame, sync, ctx):
            done += ENTRY
        if template:
            wire.decode(template, [])
        plan = _receive_plan(sync) if spare else frame
        if is_framed(frame):
            _receive_prepared(sync, ctx)
        mark("prepared")
        for item in plan.enter:
            step = type(item).__name__
            if not isinstance(item, done):
                assert isinstance(item, InitStep)
                item.apply(ctx)
                mark(step)
        _finish(plan.process, ctx, sync, shim)
    except BaseException as error:
        fail(sync, error, step)


def _enter_ahead(frame: LaunchPlan, sync: socket.socket, ctx: InitContext) -> bool:
    """Enter the root file system of ``frame`` and look up its user there, if it could be mounted.

    No program of the image runs before ``go``, so what is read here stays true.
    """
    _receive_prepared(sync, ctx)
    if "rootfs" not in ctx.fds:
        return False
    for item in frame.enter:
        if isinstance(item, ENTRY):
            item.apply(ctx)
    with contextlib.suppress(RootlessError):  # the start will tell
        ctx.user = _user_key(frame.process), resolve_user(frame.process, ctx.root)
    return True


def _receive_plan(sync: socket.socket) -> LaunchPlan:
    """The plan of the container that took this spare."""
    answer = wire.receive(sync)
    if answer is None:
        os._exit(125)  # the builder is gone, or nobody needed this spare
    plan = answer[0]["plan"]
    assert isinstance(plan, LaunchPlan)
    return plan


def _receive_prepared(sync: socket.socket, ctx: InitContext) -> None:
    """The descriptors that the builder prepared."""
    more = True
    while more:
        answer = wire.receive(sync)
        if answer is None:
            os._exit(125)  # the builder is gone
        message, fds = answer
        names = message["prepared"]
        assert isinstance(names, tuple)
        ctx.fds.update(zip(names, fds, strict=True))
        more = bool(message["more"])


def fail(sync: socket.socket, error: BaseException, step: str) -> NoReturn:
    """Report ``error`` to the shim and end."""
    try:
        wire.send(sync, wire.error_fields(error, step))
    except OSError:
        os._exit(125)  # the shim is gone: nobody is left to tell
    os._exit(125)


def _user_key(plan: ProcessPlan) -> tuple[object, ...]:
    """All that :func:`resolve_user` takes from the plan."""
    return (plan.user, plan.groups, plan.forbid_root)


def resolve_user(plan: ProcessPlan, root: int) -> users.ResolvedUser:
    """The process' ids, from the files of the root that ``root`` refers to."""
    passwd = read_file(root, "etc/passwd", users.MAX_FILE)
    group = read_file(root, "etc/group", users.MAX_FILE)
    found = users.resolve(plan.user, plan.groups, passwd, group)
    if plan.forbid_root and found.uid == 0:
        raise StartFailed(
            "the policy forbids uid 0, and the user resolves to it",
            step="ResolveUser",
            exit_code=125,
            hint="name another user with --user",
        )
    return found


def enter_directory(plan: ProcessPlan, root: int, owner: users.ResolvedUser) -> None:
    """Make the working directory when missing, enter it, and check that it is inside.

    getcwd(2) answers ``(unreachable)…`` for a directory outside the root: a
    descriptor leaked from the host could lead there (CVE-2024-21626).
    """
    del owner
    try:
        if plan.make_cwd:
            fd = ensure_dir(root, plan.cwd)
        else:
            fd = openat2(root, plan.cwd, os.O_PATH | os.O_DIRECTORY)
        os.fchdir(fd)
        os.close(fd)
        inside = os.getcwd().startswith("/")
    except (SyscallError, OSError) as error:
        code = error.errno or 0
        raise StartFailed(
            f"cannot enter the working directory {plan.cwd!r}: {os.strerror(code)}",
            step="EnterWorkingDirectory",
            exit_code=126,
        ) from None
    if not inside:
        raise StartFailed(
            f"the working directory {plan.cwd!r} is outside the container",
            step="EnterWorkingDirectory",
            exit_code=125,
        )


def _finish(
    plan: ProcessPlan, ctx: InitContext, sync: socket.socket, shim: socket.socket
) -> NoReturn:
    if ctx.user is not None and ctx.user[0] == _user_key(plan):
        user = ctx.user[1]
    else:
        user = resolve_user(plan, ctx.root)
    enter_directory(plan, ctx.root, user)
    os.setsid()
    stdio = [ctx.fds.get(name, -1) for name in STREAMS]
    if ctx.terminal_slave >= 0:
        stdio = [ctx.terminal_slave] * 3
    bpf = plan_filter(ctx)
    stdio = with_null(stdio, ctx.root)
    take_on(plan, user, stdio, bpf, shim=shim, last_capability=ctx.last_capability)
    mark("TakeCredentials")
    message: dict[str, object] = {
        "ready": True,
        "uid": user.uid,
        "gid": user.gid,
        "trace": take(),
    }
    master = (ctx.terminal_master,) if ctx.terminal_master >= 0 else ()
    wire.send(sync, message, master)
    if wire.receive(sync) is None:
        os._exit(125)  # nobody said go: the start was given up
    execute(plan, user, bpf, sync, shim=shim, last_capability=ctx.last_capability)


def with_null(stdio: list[int], root: int) -> list[int]:
    """``stdio`` with the container's own /dev/null for a stream nobody gave."""
    if min(stdio) >= 0:
        return stdio
    null = openat2(root, "/dev/null", os.O_RDWR)
    return [fd if fd >= 0 else null for fd in stdio]


def plan_filter(ctx: InitContext) -> bytes:
    """The seccomp program, which the shim left in an open file."""
    fd = ctx.fds.get("seccomp", -1)
    return os.pread(fd, os.fstat(fd).st_size, 0) if fd >= 0 else b""


def take_on(
    plan: ProcessPlan,
    user: users.ResolvedUser,
    stdio: list[int],
    bpf: bytes,
    *,
    shim: socket.socket,
    last_capability: int,
) -> None:
    """Take on the process' streams, limits and, with no_new_privs, credentials and filter.

    All that needs no ``go`` comes here, while the daemon is still busy. A
    profile of the user's might deny what is left to do, hence ``seccomp_early``.
    """
    if plan.label:
        from rootless.linux.selinux import set_exec_label  # loaded before: ``prepare_label``

        set_exec_label(plan.label)
    _take_streams(stdio, user, terminal=len(set(stdio)) == 1)
    for name, soft, hard in plan.rlimits:
        _set_limit(name, soft, hard)
    reset_signals()
    os.umask(0o022)
    if plan.no_new_privileges:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")
        if plan.landlock is not None:
            confine(plan.landlock)
        _take_credentials(plan, user, last_capability)
        _die_with(shim)
        if bpf and plan.seccomp_early:
            load_filter(bpf, flags=plan.seccomp_flags)


def execute(
    plan: ProcessPlan,
    user: users.ResolvedUser,
    bpf: bytes,
    sync: socket.socket,
    *,
    shim: socket.socket,
    last_capability: int,
) -> NoReturn:
    """Take the last steps: those that :func:`take_on` had to leave, and the program."""
    env = with_home(plan.env, user.home)
    program = _finder(plan.args[0], env)
    if not plan.no_new_privileges:
        # Without no_new_privs only CAP_SYS_ADMIN may load a filter (seccomp(2)),
        # so it comes before the capabilities go; as do Landlock's rules (landlock(7)).
        if plan.landlock is not None:
            confine(plan.landlock)
        if bpf:
            _load(bpf, plan, sync)
        _take_credentials(plan, user, last_capability)
        _die_with(shim)
    elif bpf and not plan.seccomp_early:
        _load(bpf, plan, sync)
    program(list(plan.args), env)


def _die_with(shim: socket.socket) -> None:
    """End with the shim; a change of ids takes the setting back, so it comes after (prctl(2)).

    The other end of ``shim`` belongs to the shim alone; what it may have said was heard
    before init had its mounts (``Builder.tell_helpers``).
    """
    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL, what="PR_SET_PDEATHSIG")
    if select.select([shim], [], [], 0)[0]:
        os._exit(125)  # the shim ended before the line above could bind us to it


def _load(bpf: bytes, plan: ProcessPlan, sync: socket.socket) -> None:
    listener = load_filter(bpf, flags=plan.seccomp_flags, listener=bool(plan.seccomp_original))
    if listener is not None:
        wire.send(sync, {"listener": True}, (listener,))
        os.close(listener)


def with_home(env: tuple[str, ...], home: str) -> dict[str, str]:
    """The environment as a mapping, later entries winning; HOME from passwd unless given."""
    result: dict[str, str] = {}
    for entry in env:
        key, _, value = entry.partition("=")
        result[key] = value
    if not result.get("HOME"):
        result["HOME"] = home
    return result


def _take_streams(stdio: list[int], user: users.ResolvedUser, *, terminal: bool) -> None:
    for target, fd in enumerate(stdio):
        # The program's streams must survive execve(2); dup2 clears the flag.
        if fd == target:
            os.set_inheritable(fd, True)
        else:
            os.dup2(fd, target)
    if terminal:
        os.fchown(0, user.uid, -1)
        make_controlling(0)
    # Everything else is close-on-exec by construction; this holds whatever a
    # library may have opened otherwise (close_range(2), CLOSE_RANGE_CLOEXEC).
    libc.syscall("close_range", 3, 0xFFFFFFFF, 4)


def _set_limit(name: str, soft: int, hard: int) -> None:
    # "locks" is 10 (asm-generic/resource.h), which the module has no name for.
    number = getattr(resource, f"RLIMIT_{name.upper()}", 10)
    wanted_hard = resource.RLIM_INFINITY if hard < 0 else hard
    wanted_soft = resource.RLIM_INFINITY if soft < 0 else soft
    try:
        resource.setrlimit(number, (wanted_soft, wanted_hard))
    except (ValueError, OSError):
        limit = resource.getrlimit(number)[1]
        raise StartFailed(
            f"cannot set ulimit {name} to {soft}:{hard}: the engine's own hard limit is {limit}",
            step="SetRlimits",
            exit_code=125,
            hint=f"ask for at most {limit}, or raise the user's limit in limits.conf(5)",
        ) from None


def _take_credentials(plan: ProcessPlan, user: users.ResolvedUser, last: int) -> None:
    known = (1 << (last + 1)) - 1
    keep = plan.capabilities & known
    process.drop_bounding(keep, last)
    try:
        os.setgroups(list(user.groups))
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        others = f" with groups {', '.join(map(str, user.groups))}" if user.groups else ""
        raise StartFailed(
            f"cannot become user {user.uid}:{user.gid}{others}: {os.strerror(error.errno or 0)}",
            step="TakeCredentials",
            exit_code=125,
            hint="each id must be inside the container's id range, which --userns=auto:size=N "
            "widens; see rootless inspect --format '{{.HostConfig.UsernsMode}}'",
        ) from None
    process.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL, what="PR_CAP_AMBIENT")
    granted = keep if user.uid == 0 else 0
    process.set_capabilities(granted, granted, 0)


def _finder(name: str, env: dict[str, str]) -> Callable[[list[str], dict[str, str]], NoReturn]:
    """How to execute ``name``: directly when it has a slash, else along the PATH of ``env``."""
    if "/" in name:
        candidates = [name]
    else:
        path = env.get("PATH", _DEFAULT_PATH)
        candidates = [f"{directory or '.'}/{name}" for directory in path.split(":")]

    def execute(args: list[str], environment: dict[str, str]) -> NoReturn:
        code = errno.ENOENT
        for candidate in candidates:
            try:
                os.execve(candidate, args, environment)
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                    code = error.errno or errno.EACCES
                if code == errno.E2BIG:
                    break
        raise _cannot_execute(name, code)

    return execute


def _cannot_execute(name: str, code: int) -> RootlessError:
    if code == errno.ENOENT and "/" not in name:
        reason = "executable file not found in $PATH"
    elif code == errno.ENOENT:
        reason = f"stat {name}: no such file or directory"
    else:
        reason = os.strerror(code).lower()
    return StartFailed(
        f'unable to start container process: exec: "{name}": {reason}',
        step="Exec",
        exit_code=127 if code == errno.ENOENT else 126,
    )
