"""Credentials, capabilities, namespaces and the small prctl(2) settings of a process."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without enumerations, see bare
import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterable, Iterator

from rootless.errors import SyscallError
from rootless.linux import libc

CLONE_NEWTIME = 0x00000080
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_REVOKE = 3
KEY_SPEC_SESSION_KEYRING = -3

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Names by number (capabilities(7), Linux 5.9)."""


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def mask_of(names: Iterable[str]) -> int:
    """The bit mask of capability names."""
    mask = 0
    for name in names:
        mask |= 1 << CAPABILITIES.index(name)
    return mask


def last_capability() -> int:
    """The highest capability number the running kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return int(file.read())


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) on the calling thread."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for half, shift in enumerate((0, 32)):
        data[half].effective = (effective >> shift) & 0xFFFFFFFF
        data[half].permitted = (permitted >> shift) & 0xFFFFFFFF
        data[half].inheritable = (inheritable >> shift) & 0xFFFFFFFF
    libc.syscall("capset", ctypes.byref(header), data)


# Looked up once: ctypes makes a new object at the first access.
_prctl = libc.libc.prctl
_ZERO, _ONE = ctypes.c_ulong(0), ctypes.c_ulong(1)


def prctl(option: int, *args: int, what: str = "") -> int:
    """prctl(2) with integer arguments."""
    wide = [ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]]
    return libc.check(_prctl(option, *wide), "prctl", what or option)


def drop_bounding(keep: int, last: int) -> None:
    """Remove every capability outside ``keep`` from the bounding set."""
    for number in range(last + 1):
        if not keep >> number & 1:
            prctl(PR_CAPBSET_DROP, number, what="PR_CAPBSET_DROP")


def leave_session_keyring() -> None:
    """Part with the session's keys, for this process and all it will fork.

    Whoever possesses a keyring may use the keys in it, whatever its ids are
    (session-keyring(7)), and a new user namespace keeps the keyring. The new
    one is revoked, so that containers do not share it either; a program that
    wants one joins its own. It is made once, not for each container: every one
    counts against a quota of 200 keys for each id (keyrings(7)).
    """
    try:
        libc.syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, None, target="new session keyring")
        libc.syscall("keyctl", KEYCTL_REVOKE, KEY_SPEC_SESSION_KEYRING, target="session keyring")
    except SyscallError as error:
        # A kernel without keys has none to lose; a filter that denies us the call (the engine
        # in a container itself) denies it to every container of ours too.
        if error.errno not in {errno.ENOSYS, errno.EPERM}:
            raise


def set_name(name: str) -> None:
    """The process' name as ps shows it; 15 bytes."""
    _prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def default_signal(number: int) -> None:
    """Give a signal its default disposition; without enumerations (see ``bare``)."""
    _signal.signal(number, _signal.SIG_DFL)


def become_subreaper() -> None:
    """Adopt the orphans among the descendants (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    result = _prctl(PR_SET_CHILD_SUBREAPER, _ONE, _ZERO, _ZERO, _ZERO)
    libc.check(result, "prctl", "PR_SET_CHILD_SUBREAPER")


def unshare(flags: int, what: str = "") -> None:
    """unshare(2)."""
    libc.check(libc.libc.unshare(flags), "unshare", what or hex(flags))


def setns(fd: int, flags: int, what: str = "") -> None:
    """setns(2); with a pidfd, ``flags`` may name several namespaces (Linux 5.8)."""
    libc.check(libc.libc.setns(fd, flags), "setns", what or fd)


_SIGCHLD = 17
_CLONE_INTO_CGROUP = 0x200000000
_STACK_FIRST = os.uname().machine == "s390x"
"""Everywhere else the flags come first (clone(2))."""
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_child = ctypes.pythonapi.PyOS_AfterFork_Child


def plain_fork() -> Callable[[], int]:
    """A function that forks by the raw call and does nothing else: 0 in the child.

    For a process that has one thread and has never had another: the
    interpreter's own hooks set right what other threads may have held, and in
    doing so write to a hundred kilobytes that parent and child could share.
    Nor does it look at errno: a negative answer is a failure.
    """
    call, zero = libc.libc_with_gil.syscall, ctypes.c_long(0)
    flags = ctypes.c_long(_SIGCHLD)
    first, second = (zero, flags) if _STACK_FIRST else (flags, zero)
    arguments = (ctypes.c_long(libc.number("clone")), first, second, zero, zero, zero)
    return lambda: call(*arguments)


class _CloneArgs(ctypes.Structure):
    """struct clone_args (clone3(2)) up to the cgroup (Linux 5.7)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid "
            "set_tid_size cgroup"
        ).split()
    )


def clone(flags: int, signal: int, *, cgroup: str = "") -> int:
    """fork(2) with namespace flags: 0 in the child, the child's pid in the parent.

    The raw call takes no stack (as fork does), so this works like os.fork(),
    with the interpreter's own hooks around it. The child is born in ``cgroup``,
    a directory, '' for the parent's: to move it there later takes milliseconds.
    """
    call = libc.libc_with_gil.syscall
    number = ctypes.c_long(libc.number("clone3" if cgroup else "clone"))
    arguments: tuple[object, ...]
    directory = -1
    if cgroup:
        directory = _open_cgroup(cgroup)
        # A sibling has its maker's signal, and clone3(2) wants none named.
        exit_signal = 0 if flags & CLONE_PARENT else signal
        whole = _CloneArgs(
            flags=flags | _CLONE_INTO_CGROUP, exit_signal=exit_signal, cgroup=directory
        )
        arguments = (ctypes.byref(whole), ctypes.c_size_t(ctypes.sizeof(whole)))
    else:
        zero = ctypes.c_long(0)
        first, second = ctypes.c_long(flags | signal), zero
        if _STACK_FIRST:
            first, second = second, first
        arguments = (first, second, zero, zero, zero)
    _before_fork()
    pid: int = call(number, *arguments)
    if pid == 0:
        _after_child()
    else:
        code = ctypes.get_errno()
        _after_parent()
    if directory >= 0:
        os.close(directory)
    if pid < 0:
        raise SyscallError("clone3" if cgroup else "clone", cgroup or hex(flags), code)
    return pid


def _open_cgroup(path: str) -> int:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SyscallError("open", path, error.errno or 0) from None


def act_on_files_as(uid: int) -> None:
    """Have the kernel check access to files for ``uid`` (setfsuid(2)), until ids are set again."""
    libc.libc.setfsuid(uid)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    raw = name.encode()
    libc.check(libc.libc.sethostname(raw, len(raw)), "sethostname", name)


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    raw = name.encode()
    libc.check(libc.libc.setdomainname(raw, len(raw)), "setdomainname", name)


@contextlib.contextmanager
def waking_elsewhere(pid: int) -> Iterator[None]:
    """Whatever wakes ``pid`` in here starts it on another processor than ours, if it may have one.

    Who gets a message is woken on the sender's processor, as if the sender slept
    next, unless another one is idle; and in a virtual machine an idle processor
    passes for one that its host has taken away (kernel/sched/fair.c,
    available_idle_cpu). Two processes that are to work at once need to be told.
    Afterwards it may run anywhere: the other processor may have got busy.
    """
    allowed = os.sched_getaffinity(pid)
    others = allowed - {libc.libc.sched_getcpu()}
    try:
        if others:
            os.sched_setaffinity(pid, others)
    except OSError:
        others = set()  # then not
    try:
        yield
    finally:
        if others:
            os.sched_setaffinity(pid, allowed)


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` up (close_range(2))."""
    libc.syscall("close_range", first, 0xFFFFFFFF, 0)
