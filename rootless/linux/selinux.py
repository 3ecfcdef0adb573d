"""SELinux as an engine without root meets it: labels of processes, files and mounts.

The label of a program is written to ``/proc/self/attr/exec`` and taken on by the next
execve(2). A pipe carries the label of whoever made it, so that a container could not
write to one of its shim's: whoever makes it takes on the container's level before
(``/proc/self/attr/current``, processes of one thread only). Sources: Linux,
security/selinux/hooks.c; libselinux, setexeccon(3), setcon(3), security_check_context(3).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from rootless.errors import HostUnsupported, InvalidInput, SyscallError
from rootless.linux import libc

ATTRIBUTE = "security.selinux"
"""The extended attribute that is a file's label, which ends with a NUL byte."""
PROCESS_TYPE, FILE_TYPE = "container_t", "container_file_t"
_FS = Path("/sys/fs/selinux")
_CURRENT = "/proc/self/attr/current"
_PROC_SUPER_MAGIC = 0x9FA0
_STATFS_BYTES = 256
_MODULE = "install the engine's policy module: sudo rootless setup"


def own_label() -> str:
    """This process' own label, ``user:role:type:level``."""
    try:
        label = Path(_CURRENT).read_text().rstrip("\0\n")
    except OSError:  # EINVAL: no security module gives any
        label = ""
    if label.count(":") < 2:
        raise HostUnsupported(
            "this host's kernel gives processes no SELinux labels",
            hint="enable SELinux; a container that was made with labels must be made anew without",
        )
    return label


def is_valid(label: str) -> bool:
    """Whether the loaded policy knows this label, its role may have its type, and so on."""
    try:
        _write(str(_FS / "context"), label.encode() + b"\0")
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise SyscallError("write", f"{_FS}/context", error.errno or 0) from None
    return True


def allows(source: str, target: str, kind: str, permission: str) -> bool:
    """Whether the loaded policy lets ``source`` do this to an object ``kind`` of ``target``.

    As asked of the kernel (security_compute_av(3)); False where it knows no such permission.
    """
    try:
        bit = int((_FS / "class" / kind / "perms" / permission).read_text())
        allowed = int(_ask("access", source, target, kind).split()[0], 16)
    except (OSError, ValueError):
        return False
    return bool(allowed >> (bit - 1) & 1)


def label_of_new(source: str, directory: str, kind: str) -> str:
    """The label of a file that ``source`` makes in a directory (security_compute_create(3)).

    '' where the kernel does not say.
    """
    try:
        return _ask("create", source, directory, kind).rstrip("\0\n")
    except (OSError, ValueError):
        return ""


def _ask(what: str, source: str, target: str, kind: str) -> str:
    index = int((_FS / "class" / kind / "index").read_text())
    fd = os.open(_FS / what, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, f"{source} {target} {index}".encode())
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def lacking(own: str) -> list[str]:
    """What the loaded policy lacks for containers of a login labelled ``own``; [] for nothing."""
    user, role, *_ = own.split(":")
    label = f"{user}:{role}:{PROCESS_TYPE}:s0:c1,c2"
    for candidate in (label, f"{user}:system_r:{PROCESS_TYPE}:s0:c1,c2"):
        if is_valid(candidate):
            label = candidate
            break
    else:
        return [f"the type {PROCESS_TYPE}"]
    shared = f"{user}:object_r:{FILE_TYPE}:s0"
    if not is_valid(f"{shared}:c1,c2"):
        return [f"the type {FILE_TYPE}"]
    needed = (
        (own, label, "process", "transition"),
        (own, label, "process2", "nnp_transition"),
        (own, own, "process", "setcurrent"),
        (own, own, "process", "dyntransition"),
        (label, own, "fd", "use"),
    )
    found = [f"{what[3]} ({what[2]})" for what in needed if not allows(*what)]
    if level_of(label_of_new(label, shared, "file")) != "s0":
        found.append("new files with the level of their directory (defaultrange)")
    return found


def level_of(label: str) -> str:
    """The level (or range) of a label; '' where the policy has none."""
    return label.split(":", 3)[3] if label.count(":") >= 3 else ""


def type_of(label: str) -> str:
    """The type of a label; '' for no label."""
    parts = label.split(":", 3)
    return parts[2] if len(parts) > 2 else ""


def take_level(level: str) -> None:
    """Take on ``level`` as this process' own highest: what it makes now is its container's, too."""
    label = own_label()
    sensitivity = level.partition(":")[0].partition("-")[0]
    wanted = ":".join([*label.split(":", 3)[:3], f"{sensitivity}-{level}"])
    try:
        _write(_CURRENT, wanted.encode())
    except OSError as error:
        raise HostUnsupported(
            f"SELinux does not let the engine take on the level {level}: "
            f"{os.strerror(error.errno or 0).lower()}",
            hint=_MODULE,
        ) from None


def set_exec_label(label: str) -> None:
    """The label of the program that this process executes next.

    Only through a real /proc: anything else of that name would take the text and do
    nothing (CVE-2019-16884).
    """
    fd = os.open("/proc/self/attr/exec", os.O_WRONLY | os.O_CLOEXEC)
    try:
        if _file_system(fd) != _PROC_SUPER_MAGIC:
            raise HostUnsupported("/proc is not the kernel's: no SELinux label can be set")
        os.write(fd, label.encode())
    except OSError as error:
        raise HostUnsupported(
            f"SELinux does not let the engine start a program as {label}: "
            f"{os.strerror(error.errno or 0).lower()}",
            hint=_MODULE,
        ) from None
    finally:
        os.close(fd)


def _file_system(fd: int) -> int:
    """The magic number of the file system that ``fd`` is on (statfs(2))."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    libc.check(libc.libc.fstatfs(fd, buffer), "fstatfs", f"fd {fd}")
    return ctypes.c_long.from_buffer(buffer).value


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def file_label(fd: int) -> str:
    """The label of the file that ``fd`` refers to (O_PATH is enough), '' when it has none."""
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", ATTRIBUTE).rstrip(b"\0").decode()
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return ""
        raise SyscallError("getxattr", f"{ATTRIBUTE} of fd {fd}", error.errno or 0) from None


def label_file(fd: int, label: str, what: str) -> None:
    """Give the file of ``fd`` (O_PATH is enough) this label, unless it has it."""
    if file_label(fd) == label:
        return
    try:
        os.setxattr(f"/proc/self/fd/{fd}", ATTRIBUTE, label.encode() + b"\0")
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        if error.errno in (errno.ENOTSUP, errno.EROFS):
            raise HostUnsupported(
                f"cannot label {what}: its file system keeps no labels ({why})",
                hint="leave the option z or Z out",
            ) from None
        raise InvalidInput(
            f"cannot give {what} the SELinux label {label}: {why}",
            hint="only what belongs to you or to your containers can be labelled",
        ) from None


def label_tree(fd: int, label: str, what: str) -> None:
    """Label the file or directory of ``fd`` and all below it on the same file system.

    By descriptors only: nothing that is put in the way of the walk leads out of the tree.
    Depth costs one open descriptor for each level.
    """
    top = os.fstat(fd)
    label_file(fd, label, what)
    if not stat.S_ISDIR(top.st_mode):
        return
    opened = [_reopened(fd, what)]
    walks = [iter(_names(opened[0]))]
    paths = [what]
    try:
        while walks:
            name = next(walks[-1], None)
            if name is None:
                walks.pop()
                os.close(opened.pop())
                paths.pop()
                continue
            inner = _label_entry(opened[-1], name, label, f"{paths[-1]}/{name}", top.st_dev)
            if inner >= 0:
                opened.append(inner)
                walks.append(iter(_names(inner)))
                paths.append(f"{paths[-1]}/{name}")
    finally:
        for one in opened:
            os.close(one)


def _label_entry(directory: int, name: str, label: str, what: str, device: int) -> int:
    """Label one entry; the opened directory when it is one to go on in, else -1."""
    try:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return -1  # removed meanwhile
    try:
        found = os.fstat(fd)
        if found.st_dev != device:
            return -1  # another file system is mounted there
        label_file(fd, label, what)
        if not stat.S_ISDIR(found.st_mode):
            return -1
        return _reopened(fd, what)
    finally:
        os.close(fd)


def _reopened(fd: int, what: str) -> int:
    """A descriptor for reading of the directory that ``fd`` refers to."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(
            f"cannot label {what}: {os.strerror(error.errno or 0).lower()}",
            hint="only what you or your containers can read can be labelled",
        ) from None


def _names(fd: int) -> Iterator[str]:
    with os.scandir(fd) as entries:
        names = [entry.name for entry in entries]
    return iter(names)
