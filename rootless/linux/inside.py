"""Acting in a container's name: with its ids, and with no right over any other.

Work on a container's files goes wrong when it is done with more rights than the
container has: whoever can write there may put another object under the name that
is about to be changed. So a worker that touches them becomes root of the
container's user namespace first. The kernel then refuses what the container's
own root might not do, whatever a name leads to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from rootless.errors import SyscallError
from rootless.linux import isolated, process
from rootless.model.mounts import IdMap

_RIGHTS = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP")
"""What archives need: owners, modes, and the capabilities of files."""


def enter_container(pidfd: int) -> int:
    """Join the user and mount namespace of a running container; its root as O_PATH descriptor.

    Both at once, so that they belong to one process (setns(2)). Raises SyscallError.
    """
    _prepare()
    flags = process.CLONE_NEWUSER | process.CLONE_NEWNS
    process.setns(pidfd, flags, "namespaces of the container")
    become_root()
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def enter_maps(maps: Sequence[IdMap]) -> None:
    """Move into new user and mount namespaces that know the ids of ``maps`` and no other.

    For a container that does not run. All mounts are private.
    """
    _prepare()
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    # An ancestor's root has to write the maps (user_namespaces(7)): a child that stays behind.
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(go_write)
            if os.read(go_read, 1):
                write_maps(os.getppid(), maps)
                status = 0
        finally:
            os._exit(status)
    os.close(go_read)
    try:
        # Undumpable, its files in /proc would belong to root of the host (proc(5)).
        process.prctl(process.PR_SET_DUMPABLE, 1, what="PR_SET_DUMPABLE")
        process.unshare(process.CLONE_NEWUSER, "user namespace")
        os.write(go_write, b"x")
    finally:
        os.close(go_write)
        _, status = os.waitpid(child, 0)
    if status:
        raise SyscallError("write", "uid_map of the container's ids", 1)
    become_root()
    process.unshare(process.CLONE_NEWNS, "mount namespace")


def write_maps(pid: int, maps: Sequence[IdMap]) -> None:
    """Write uid_map and gid_map of a process; each in one write (user_namespaces(7))."""
    text = "".join(f"{m.inside} {m.outside} {m.size}\n" for m in maps)
    for name in ("uid_map", "gid_map"):
        path = f"/proc/{pid}/{name}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise SyscallError("write", f"{path}: {text.strip()}", error.errno or 0) from None


def become_root() -> None:
    """Become uid and gid 0 of this user namespace, untraceable from within (CVE-2016-9962)."""
    try:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    except OSError as error:
        raise SyscallError("setresuid", "0", error.errno or 0) from None
    process.prctl(process.PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")


def limit_rights(*, mount_later: bool = False) -> None:
    """Keep what archives need; ``mount_later`` allows :func:`regain_mounting`."""
    mask = process.mask_of(_RIGHTS)
    kept = process.mask_of(("CAP_SYS_ADMIN",)) if mount_later else 0
    process.set_capabilities(mask, mask | kept, 0)


def regain_mounting() -> None:
    """The right to mount and unmount, which :func:`limit_rights` set aside."""
    mask = process.mask_of((*_RIGHTS, "CAP_SYS_ADMIN"))
    process.set_capabilities(mask, mask, 0)


def create_as(owner: int) -> None:
    """What this process makes from here on belongs to ``owner``; it may make it anywhere it could.

    There is no way back, so this is for a child of its own.
    """
    os.setresgid(-1, owner, -1)
    os.setresuid(-1, owner, -1)
    # The effective capabilities went with the uid; the permitted ones stayed (capabilities(7)).
    mask = process.mask_of(("CAP_DAC_OVERRIDE",))
    process.set_capabilities(mask, mask, 0)


def _prepare() -> None:
    _hold_links()
    # An import from here on might read the container's files.
    isolated.forbid_imports()
    process.prctl(process.PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")


_links: list[int] = []


def _hold_links() -> None:
    if not _links:
        _links.append(os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def path_of(fd: int) -> str:
    """The path of what ``fd`` was opened as, seen from this process' root.

    The engine's own /proc is asked: that of a container, in whose pid
    namespace this process is not, has no /proc/self for it.
    """
    if _links:
        return os.readlink(str(fd), dir_fd=_links[0])
    return os.readlink(f"/proc/self/fd/{fd}")
