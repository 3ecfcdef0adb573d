"""A further process in a running container: entering its namespaces and becoming the program."""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from rootless.errors import StartFailed
from rootless.linux import process, terminal
from rootless.linux.inside import become_root
from rootless.linux.isolated import forbid_imports
from rootless.model.plan import ExecPlan
from rootless.runtime import init, wire

_NAMESPACES = {
    "user": process.CLONE_NEWUSER,
    "mnt": process.CLONE_NEWNS,
    "pid": process.CLONE_NEWPID,
    "net": process.CLONE_NEWNET,
    "ipc": process.CLONE_NEWIPC,
    "uts": process.CLONE_NEWUTS,
    "cgroup": process.CLONE_NEWCGROUP,
    "time": process.CLONE_NEWTIME,
}


def foreign_namespaces(pid: int) -> int:
    """The flags of the namespaces in which ``pid`` is and this process is not.

    One that both share, such as the host's network, can and need not be
    entered: entering takes privilege over the namespace's owner (setns(2)).
    """
    flags = 0
    for name, flag in _NAMESPACES.items():
        theirs, ours = os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        if theirs.st_ino != ours.st_ino:
            flags |= flag
    return flags


def enter(
    plan: ExecPlan,
    target: int,
    sync: socket.socket,
    peer: socket.socket,
    *,
    stdio: list[int],
    seccomp: int,
    last_capability: int,
) -> int:
    """Fork a process inside the namespaces of ``target`` (a pidfd) and return its pid.

    All namespaces are entered in one setns(2) on the pidfd, so that they
    belong to one process at one moment. The pid namespace holds for children
    only, hence the second clone; it makes the child a sibling.
    """
    namespaces = foreign_namespaces(plan.init_pid)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    middle = process.clone(0, signal.SIGCHLD, cgroup=plan.cgroup)
    if middle == 0:
        try:
            os.close(read_end)
            sync.close()
            forbid_imports()
            # Undumpable before anything of the container can look at this
            # process: otherwise its root could trace it (CVE-2016-9962).
            process.prctl(process.PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")
            process.setns(target, namespaces, f"namespaces of {plan.container_id[:12]}")
            pid = process.clone(process.CLONE_PARENT, signal.SIGCHLD)
            if pid == 0:
                os.close(write_end)
                _run(plan, peer, stdio, seccomp, last_capability)
            os.write(write_end, str(pid).encode())
            os._exit(0)
        except BaseException as error:
            init.fail(peer, error, "setns")
    os.close(write_end)
    peer.close()  # the child's now: who is killed before a word (cgroup.kill) is heard to end
    text = os.read(read_end, 32)
    os.close(read_end)
    os.waitpid(middle, 0)
    if not text:
        answer = wire.receive(sync)
        message = answer[0] if answer else {"error": "the container cannot be entered"}
        raise StartFailed(
            str(message["error"]), step=str(message.get("step", "setns")), exit_code=126
        )
    return int(text)


def _run(
    plan: ExecPlan, sync: socket.socket, stdio: list[int], seccomp: int, last_capability: int
) -> NoReturn:
    try:
        become_root()
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        user = init.resolve_user(plan.process, root)
        init.enter_directory(plan.process, root, user)
        os.setsid()
        master = -1
        if plan.stdio.terminal:
            master, slave, _ = terminal.open_pair(root, *plan.stdio.size)
            stdio = [slave] * 3
        bpf = os.pread(seccomp, os.fstat(seccomp).st_size, 0) if seccomp >= 0 else b""
        stdio = init.with_null(stdio, root)
        init.take_on(plan.process, user, stdio, bpf, shim=sync, last_capability=last_capability)
        message: dict[str, object] = {"ready": True, "uid": user.uid, "gid": user.gid}
        wire.send(sync, message, (master,) if master >= 0 else ())
        if master >= 0:
            os.close(master)
        if wire.receive(sync) is None:
            os._exit(125)
        init.execute(plan.process, user, bpf, sync, shim=sync, last_capability=last_capability)
    except BaseException as error:
        init.fail(sync, error, "exec")
