"""The launcher: a single-threaded fork server inside the engine's user namespace.

It is started by the daemon with a SOCK_SEQPACKET socket, whose descriptor is
its first argument, and first puts itself into the engine's namespaces: new ones, whose id maps
newuidmap(1) and newgidmap(1) write, or those of an earlier launcher or a shim that lives
(``--enter``, their descriptors). It then executes itself again, because a process that changed
its user namespace keeps a memory map owned by the old one, and its children's
/proc files would be closed to it.

Everything is imported before the first request. A request is one message whose
first descriptor is the reply socket; a forked child serves it, and the
launcher itself never answers.
"""

from __future__ import annotations

# What shims never touch comes first, to be on pages that they never write to.
import dataclasses as _dataclasses  # noqa: F401 - loaded before the first fork
import gc
import importlib
import json as _json  # noqa: F401 - loaded before the first fork
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from rootless.errors import RootlessError, SyscallError
from rootless.linux import process
from rootless.linux import rootfs as _rootfs  # noqa: F401 - loaded before the first fork
from rootless.model.plan import ExecPlan
from rootless.runtime import sequence as _sequence  # noqa: F401 - registers the steps
from rootless.runtime import wire
from rootless.runtime.shim import CONTAINER
from rootless.runtime.shim_files import exit_code_of
from rootless.runtime.spare import Spare
from rootless.runtime.zygote import SPARE, Zygote

IGNORED = (
    signal.SIGCHLD,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGPIPE,
)
"""The launcher and its shims take no orders from terminals and reap nobody by default."""


def command(*arguments: str) -> list[str]:
    """The command line of a launcher: isolated, without site-packages, from this very tree."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import sys; sys.path.insert(0, {root!r}); "
        "from rootless.runtime.launcher import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def _enter_new_namespaces() -> None:
    """Make the engine's user and mount namespace, with ids mapped by the setuid helpers.

    The helpers must run outside; a child that was forked before waits for the
    namespace and runs them.
    """
    # Only this first stage needs it; what serves later stays small without.
    from rootless.linux import subids

    count = subids.id_count()
    tools = {kind: subids.map_tool(kind) for kind in ("uid", "gid")}
    ranges = {kind: subids.engine_ranges(kind) for kind in ("uid", "gid")}
    own = {"uid": os.getuid(), "gid": os.getgid()}
    target = os.getpid()
    made_read, made_write = os.pipe2(os.O_CLOEXEC)
    helper = os.fork()
    if helper == 0:
        os.close(made_write)
        if os.read(made_read, 1) != b"x":
            os._exit(1)
        for kind, tool in tools.items():
            arguments = subids.map_arguments(target, own[kind], ranges[kind], count)
            if os.spawnv(os.P_WAIT, tool, [tool, *arguments]) != 0:
                os._exit(1)
        os._exit(0)
    os.close(made_read)
    process.unshare(process.CLONE_NEWUSER | process.CLONE_NEWNS, "user and mount namespace")
    os.write(made_write, b"x")
    os.close(made_write)
    _, status = os.waitpid(helper, 0)
    if status != 0:
        raise RootlessError(
            "newuidmap or newgidmap refused the id map of the engine's user namespace",
            hint=f"sudo rootless setup --user {subids.user_name(own['uid'])}",
        )


def _enter_namespaces(user: int, mounts: int) -> None:
    process.setns(user, process.CLONE_NEWUSER, "the engine's user namespace")
    process.setns(mounts, process.CLONE_NEWNS, "the engine's mount namespace")
    for fd in (user, mounts):
        os.close(fd)


def _become_engine_root() -> None:
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        os.setgroups([])
    except OSError as error:
        raise SyscallError("setresuid", "0", error.errno or 0) from None


def _make_zygote(sock: socket.socket, last_capability: int) -> Zygote:
    """Fork the zygote, before anything is there that a shim does not need."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    return Zygote(sock, last_capability)


def _serve(
    sock: socket.socket,
    zygote: Zygote,
    functions: dict[str, Callable[..., object]],
    last_capability: int,
) -> None:
    from rootless.runtime import exec_shim as _exec_shim  # noqa: F401 - before the first fork

    gc.freeze()
    spare = Spare()
    while True:
        request = wire.receive_raw(sock)
        if request is None:
            return
        data, fds = request
        tag = wire.tag_of(data)
        if tag in (CONTAINER, SPARE):
            try:
                if tag == SPARE:
                    spare.make(data, zygote)
                elif not spare.use(data, fds):
                    zygote.fork_shim(data, fds)
            except BrokenPipeError:
                return  # without its zygote it is of no use: the daemon starts another launcher
        elif os.fork() == 0:
            sock.close()
            spare.drop()
            zygote.close()
            process.default_signal(signal.SIGCHLD)
            _handle(data, fds, functions, last_capability)
        for fd in fds:
            os.close(fd)


def _handle(
    data: bytes,
    fds: list[int],
    functions: dict[str, Callable[..., object]],
    last_capability: int,
) -> NoReturn:
    message = wire.decode(data, fds)
    reply = socket.socket(fileno=fds[0])
    try:
        kind = message["op"]
        plan = message.get("plan")
        if kind == "exec" and isinstance(plan, ExecPlan):
            from rootless.runtime import exec_shim

            exec_shim.run_exec(plan, reply, last_capability=last_capability)
        elif kind == "call":
            arguments = message["arguments"]
            assert isinstance(arguments, dict)
            result = functions[str(message["function"])](**arguments)
            wire.send(reply, {"result": result})
        elif kind == "spawn":
            _spawn(message, fds[1:], reply)
    except BaseException as error:
        wire.send(reply, wire.error_fields(error))
    finally:
        os._exit(0)


def _spawn(message: dict[str, object], fds: list[int], reply: socket.socket) -> None:
    """Run a program with the given descriptors and report its end.

    The program dies with this watcher, and the watcher kills it when nobody
    waits for the answer any more.
    """
    argv, targets = message["argv"], message["targets"]
    assert isinstance(argv, tuple)
    assert isinstance(targets, tuple)
    watcher = os.getpid()
    child = os.fork()
    if child == 0:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watcher:
            os._exit(1)
        # Descriptors move up first, so that no target is overwritten before it is used.
        high = [(target, os.dup(fd)) for target, fd in zip(targets, fds, strict=True)]
        for number in IGNORED:
            signal.signal(number, signal.SIG_DFL)
        for target, fd in high:
            os.dup2(fd, int(target))
        process.close_from(max([2, *(int(t) for t in targets)]) + 1)
        os.execv(str(argv[0]), [str(a) for a in argv])
    for fd in fds:
        os.close(fd)
    wire.send(reply, {"pid": child})
    pidfd = os.pidfd_open(child)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.register(reply, select.POLLIN)
    for fd, _ in poller.poll():
        if fd != pidfd:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    wire.send(reply, {"exit": exit_code_of(status)})


def _functions(modules: list[str]) -> dict[str, Callable[..., object]]:
    """The callable functions of ``modules``, named ``storage.tree.remove_tree`` and so on."""
    found: dict[str, Callable[..., object]] = {}
    for name in modules:
        module = importlib.import_module(f"rootless.{name}")
        for key, value in vars(module).items():
            if callable(value) and not key.startswith("_") and value.__module__ == module.__name__:
                found[f"{name}.{key}"] = value
    return found


def main(arguments: list[str]) -> None:
    """Entry point: ``FD [--enter FD,FD | --inside] MODULE…``."""
    number = arguments.pop(0)
    sock = socket.socket(fileno=int(number))
    try:
        if arguments[:1] != ["--inside"]:
            if arguments[:1] == ["--enter"]:
                _enter_namespaces(*map(int, arguments[1].split(",")))
                arguments = arguments[2:]
            else:
                _enter_new_namespaces()
            _become_engine_root()
            sock.set_inheritable(True)
            argv = command(number, "--inside", *arguments)
            os.execv(argv[0], argv)
        sock.set_inheritable(False)
        process.leave_session_keyring()
        process.set_name("rootless-launch")
        process.prctl(process.PR_SET_DUMPABLE, 1)
        last_capability = process.last_capability()
        zygote = _make_zygote(sock, last_capability)
        functions = _functions(arguments[1:])
        _report(sock, {"ready": True, "pid": os.getpid()})
    except RootlessError as error:
        _report(sock, wire.error_fields(error))
        sys.exit(1)
    _serve(sock, zygote, functions, last_capability)


def _report(sock: socket.socket, message: dict[str, object]) -> None:
    """Tell the daemon how the start went; without a daemon there is nothing to do at all."""
    try:
        wire.send(sock, message)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
