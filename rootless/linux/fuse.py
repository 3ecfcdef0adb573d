"""fuse-overlayfs served on a detached mount.

The engine opens ``/dev/fuse`` and makes the mount itself (fsopen(2) in its user
namespace, FUSE_USERNS_MOUNT, Linux 4.18), then starts the server with
``/dev/fd/N`` as its mount point, libfuse's form for "already mounted": no
setuid fusermount3 runs and no mount point exists. The kernel ends the
connection when the last reference to the mount goes, and the server with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from rootless.errors import HostUnsupported, SyscallError, no_space
from rootless.linux import mounts, process
from rootless.model.mounts import IdMap, RootfsMount

PROGRAM = "fuse-overlayfs"
DEVICE = "/dev/fuse"

_ERROR_BYTES = 4096
_F_ADD_SEALS = 1033
_F_SEAL_SHRINK_GROW = 0x2 | 0x4
_FIRST_FD = 3
_SERVER_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_MKNOD",
    "CAP_SETFCAP",
)
"""All the server needs to act for any id of the container on its upper directory."""
_O_DIR = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


def mapping_option(maps: Sequence[IdMap]) -> str:
    """The value of ``uidmapping=`` and ``gidmapping=``: stored id, shown id, count, joined by ':'.

    Image id *i* is stored as engine id *i + 1* (docs/architecture.md, "Ids").
    """
    return ":".join(f"{m.inside + 1}:{m.outside}:{m.size}" for m in maps)


def mount_overlay(mount: RootfsMount) -> tuple[int, int]:
    """Mount ``mount`` and start its server: the mount's descriptor and the server's pid.

    Returns when the server has answered its first request. A server that fails
    raises HostUnsupported with the last line it said.
    """
    program = find_program()
    if program is None:
        raise HostUnsupported(f"{PROGRAM} is not installed", hint="sudo apt install fuse-overlayfs")
    directories = _open_directories(mount)
    try:
        device, tree = _detached_mount()
        try:
            log = _error_buffer()
            try:
                options = _options(mount, _FIRST_FD + 1)
                arguments = [program, "-f", "-o", options, f"/dev/fd/{_FIRST_FD}"]
                pid = _start(arguments, device, directories, log)
            except BaseException:
                os.close(log)
                raise
        except BaseException:
            os.close(tree)
            raise
        finally:
            os.close(device)
    finally:
        for fd in directories:
            os.close(fd)
    try:
        # Blocks until the server speaks; fails with ENOTCONN as soon as it has died, because
        # it holds the only descriptor of the connection.
        os.stat(tree)
    except OSError:
        os.close(tree)
        said = _last_words(log)
        kill_server(pid)
        what = f"fuse-overlayfs did not start: {said or 'it ended without a word'}"
        if mount.upper and _is_full(mount.upper):
            # Its own message is of what it could not make then.
            full = no_space(what, OSError(errno.ENOSPC, ""))
            assert full is not None
            raise full from None
        raise HostUnsupported(
            what,
            hint="rootless doctor",
        ) from None
    except BaseException:
        os.close(tree)
        kill_server(pid)
        raise
    finally:
        os.close(log)
    return tree, pid


def _is_full(path: str) -> bool:
    found = os.statvfs(path)
    return not found.f_bavail or (found.f_files > 0 and not found.f_favail)


def kill_server(pid: int) -> None:
    """End a server that is a child of the caller, and reap it."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def find_program() -> str | None:
    """The server's path in the places Debian installs to; the caller's PATH is not trusted."""
    for directory in ("/usr/local/bin", "/usr/bin", "/bin"):
        path = f"{directory}/{PROGRAM}"
        if os.access(path, os.X_OK):
            return path
    return None


def _open_directories(mount: RootfsMount) -> list[int]:
    """Descriptors of the lowers and, when there is one, of upper and work."""
    opened: list[int] = []
    paths = [*mount.lowers, *((mount.upper, mount.work) if mount.upper else ())]
    for path in paths:
        try:
            opened.append(os.open(path, _O_DIR | os.O_CLOEXEC))
        except OSError as error:
            for fd in opened:
                os.close(fd)
            raise SyscallError("open", path, error.errno or 0) from None
    return opened


def _detached_mount() -> tuple[int, int]:
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostUnsupported(
            f"{DEVICE} cannot be opened: {error.strerror}", hint="sudo rootless setup"
        ) from None
    options = (
        ("subtype", PROGRAM),
        ("fd", str(device)),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
        # The container's ids are not the mounter's; those of foreign user namespaces are still
        # kept out by the kernel (fuse_allow_current_process).
        ("allow_other", None),
        ("default_permissions", None),
    )
    try:
        tree = mounts.new_mount("fuse", options, source=PROGRAM)
    except SyscallError as error:
        os.close(device)
        raise SyscallError(
            error.call, error.target, error.errno, hint="FUSE in a user namespace needs Linux 4.18"
        ) from None
    return device, tree


def _error_buffer() -> int:
    """A memfd of fixed size for the server's standard error.

    A pipe would have to be read for ever and a file could be made to grow; this
    keeps the first 4 KiB and refuses the rest (fcntl(2), F_SEAL_GROW).
    """
    log = os.memfd_create("fuse-overlayfs-errors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(log, _ERROR_BYTES)
    fcntl.fcntl(log, _F_ADD_SEALS, _F_SEAL_SHRINK_GROW)
    return log


def _last_words(log: int) -> str:
    text = os.pread(log, _ERROR_BYTES, 0).rstrip(b"\0").decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("fuse-overlayfs: ") if lines else ""


def _start(arguments: list[str], device: int, directories: Sequence[int], log: int) -> int:
    last = process.last_capability()
    pid = os.fork()
    if pid == 0:
        _serve(arguments, device, directories, log, last)
    return pid


def _serve(
    arguments: list[str], device: int, directories: Sequence[int], log: int, last: int
) -> NoReturn:
    """The child: becomes the server, or writes one line to ``log`` and ends."""
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        # Everything moves above the places it is wanted at, so that no dup2 overwrites a source.
        floor = _FIRST_FD + 1 + len(directories)
        sources = [_lift(fd, floor) for fd in (device, *directories)]
        for target, source in ((0, null), (1, null), (2, _lift(log, floor))):
            os.dup2(source, target)
        for offset, source in enumerate(sources):
            os.dup2(source, _FIRST_FD + offset)
        process.close_from(floor)
        os.chdir("/")
        os.umask(0o022)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")
        mask = process.mask_of(_SERVER_CAPABILITIES)
        process.prctl(process.PR_CAP_AMBIENT, process.PR_CAP_AMBIENT_CLEAR_ALL, what="ambient")
        process.drop_bounding(mask, last)
        process.set_capabilities(mask, mask, 0)
        os.execve(arguments[0], arguments, {"PATH": "/usr/bin:/bin"})
    except BaseException as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(127)


def _lift(fd: int, floor: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor)


def _options(mount: RootfsMount, first: int) -> str:
    """The server's -o string; directories are descriptors it inherits, numbered from ``first``."""
    count = len(mount.lowers)
    lowers = ":".join(f"/proc/self/fd/{first + i}" for i in range(count))
    options = [f"lowerdir={lowers}"]
    if mount.upper:
        options.append(f"upperdir=/proc/self/fd/{first + count}")
        options.append(f"workdir=/proc/self/fd/{first + count + 1}")
    if mount.id_maps:
        mapping = mapping_option(mount.id_maps)
        options += [f"uidmapping={mapping}", f"gidmapping={mapping}"]
    if mount.volatile:
        options.append("volatile")
    return ",".join(options)
