"""Host name, kernel settings, the loopback interface, and namespaces that are shared."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from rootless.errors import InvalidInput, RootlessError, SyscallError, Unavailable
from rootless.linux import mounts, process
from rootless.linux.inroot import ensure_file
from rootless.linux.openat2 import RESOLVE_NO_SYMLINKS, openat2
from rootless.linux.procfs import start_time
from rootless.runtime.context import EngineContext, InitContext
from rootless.runtime.steps.base import EngineStep, InitStep

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1

_FLAGS = {
    "net": process.CLONE_NEWNET,
    "ipc": process.CLONE_NEWIPC,
    "uts": process.CLONE_NEWUTS,
    "pid": process.CLONE_NEWPID,
    "cgroup": process.CLONE_NEWCGROUP,
}


@dataclass(frozen=True, slots=True)
class JoinNamespace(EngineStep):
    """Enter a namespace of another container before init is cloned.

    The shim does it: its root is the ancestor's root and may enter any
    container's namespaces, while the new container's own root may not.
    """

    kind: str
    pid: int
    start: int
    """The process' start time in clock ticks (proc_pid_stat(5)), against reused pids."""
    container: str

    def describe(self) -> str:
        return f"share the {self.kind} namespace of container {self.container[:12]}"

    def apply(self, ctx: EngineContext) -> None:
        try:
            fd = os.open(f"/proc/{self.pid}/ns/{self.kind}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            raise self._gone() from None
        try:
            if start_time(self.pid) != self.start:
                raise self._gone()
            process.setns(fd, _FLAGS[self.kind], f"{self.kind} of {self.container[:12]}")
        finally:
            os.close(fd)

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"cannot join the {self.kind} namespace of {self.container}: it is not running",
            hint=f"start container {self.container[:12]} first",
        )


@dataclass(frozen=True, slots=True)
class CloneHostTree(EngineStep):
    """Take a tree of the host's (/proc, /sys, /dev/shm) whose namespace is shared with it."""

    name: str
    path: str

    def describe(self) -> str:
        return f"bind the host's {self.path}, as its namespace is shared"

    def apply(self, ctx: EngineContext) -> None:
        if not os.path.isdir(self.path):
            return  # a host without mqueue has none to share
        fd = mounts.clone_tree(-100, self.path)
        flags = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC
        if self.name == "sysfs":
            flags |= mounts.MOUNT_ATTR_RDONLY
        mounts.set_attributes(fd, add=flags, propagation="private", recursive=True, what=self.path)
        ctx.fds[self.name] = fd


@dataclass(frozen=True, slots=True)
class MountForJoined(EngineStep):
    """Make sysfs, mqueue or proc for a namespace that another container owns.

    Its mount needs privilege over that namespace, which only the engine's root has.
    """

    name: str

    def describe(self) -> str:
        return f"make {self.name} for the shared namespace"

    def apply(self, ctx: EngineContext) -> None:
        flags = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC
        if self.name == "sysfs":
            flags |= mounts.MOUNT_ATTR_RDONLY

        def make() -> int:
            return mounts.new_mount(self.name, attributes=flags, source=self.name)

        # A joined pid namespace holds for children only (setns(2)).
        what = f"{self.name} of the shared namespace"
        ctx.fds[self.name] = _in_child(make, what) if self.name == "proc" else make()


@dataclass(frozen=True, slots=True)
class ShareShm(EngineStep):
    """Take the /dev/shm of the container whose ipc namespace is shared: POSIX shared memory
    lives there (shm_overview(7)), not in the namespace."""

    pid: int

    def describe(self) -> str:
        return "share /dev/shm with the ipc namespace"

    def apply(self, ctx: EngineContext) -> None:
        ctx.fds["shm"] = _in_child(self._clone, "/dev/shm of the shared ipc namespace")

    def _clone(self) -> int:
        fd = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        process.setns(fd, process.CLONE_NEWNS, "mount namespace of the shared container")
        slash = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        shm = openat2(slash, "dev/shm", os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE_NO_SYMLINKS)
        return mounts.clone_tree(shm)


def _in_child(make: Callable[[], int], what: str) -> int:
    """The mount that ``make`` makes in a forked child, which may enter namespaces for it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        child = os.fork()
        if child == 0:
            try:
                socket.send_fds(theirs, [b"+"], [make()])
            except BaseException as error:
                theirs.send(str(error).encode()[:1000])
            finally:
                os._exit(0)
        theirs.close()
        os.waitpid(child, 0)
        text, fds, _, _ = socket.recv_fds(ours, 1024, 1)
    if not fds:
        raise RootlessError(f"cannot mount {what}: {text.decode(errors='replace')}")
    os.set_inheritable(fds[0], False)
    return fds[0]


@dataclass(frozen=True, slots=True)
class SetHostname(InitStep):
    """Name the host in the container's own uts namespace."""

    hostname: str
    domainname: str

    def describe(self) -> str:
        return f"set the host name to {self.hostname!r}"

    def apply(self, ctx: InitContext) -> None:
        process.sethostname(self.hostname)
        if self.domainname:
            process.setdomainname(self.domainname)


@dataclass(frozen=True, slots=True)
class WriteSysctls(InitStep):
    """Set kernel parameters that belong to the container's namespaces."""

    values: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return "set " + ", ".join(f"{key}={value}" for key, value in self.values)

    def apply(self, ctx: InitContext) -> None:
        for key, value in self.values:
            path = "proc/sys/" + key.replace(".", "/")
            try:
                fd = openat2(ctx.root, path, os.O_WRONLY)
            except SyscallError as error:
                raise InvalidInput(
                    f"cannot set sysctl {key}: {os.strerror(error.errno)}",
                    hint="only sysctls of the container's own namespaces can be set",
                ) from None
            try:
                os.write(fd, value.encode())
            except OSError as error:
                raise InvalidInput(
                    f"cannot set sysctl {key} to {value!r}: {os.strerror(error.errno or 0)}"
                ) from None
            finally:
                os.close(fd)


@dataclass(frozen=True, slots=True)
class RaiseLoopback(InitStep):
    """Bring ``lo`` up in the container's own network namespace."""

    def describe(self) -> str:
        return "bring the loopback interface up"

    def apply(self, ctx: InitContext) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            request = struct.pack("16sh14x", b"lo", 0)
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
                (flags,) = struct.unpack_from("h", answer, 16)
                fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
            except OSError as error:
                raise SyscallError("ioctl", "SIOCSIFFLAGS lo", error.errno or 0) from None


@dataclass(frozen=True, slots=True)
class PlaceInitProgram(EngineStep):
    """``--init``: a small first process of the host's that reaps zombies and passes signals on."""

    source: str

    def describe(self) -> str:
        return f"bind {self.source} on /dev/init as the first process"

    def apply(self, ctx: EngineContext) -> None:
        fd = mounts.clone_tree(-100, self.source, recursive=False, follow=True)
        mounts.set_attributes(
            fd, add=mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID, what=self.source
        )
        ctx.fds["init"] = fd


@dataclass(frozen=True, slots=True)
class AttachInitProgram(InitStep):
    """Put the ``--init`` program on /dev/init."""

    def describe(self) -> str:
        return "attach the init program on /dev/init"

    def apply(self, ctx: InitContext) -> None:
        mount = ctx.take("init")
        point = ensure_file(ctx.root, "/dev/init", 0o755)
        mounts.move_mount(mount, point, "/dev/init")
        os.close(point)
        os.close(mount)
