"""The default filter on the real kernel: each dangerous call is denied, and would work without.

The children stand in a user namespace of their own, as containers do, so that
the kernel's permission checks do not answer in the filter's place.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import socket
from collections.abc import Callable
from errno import ENOSYS, EPERM

import pyseccomp
import pytest

from rootless.linux import libc, process, seccomp
from rootless.resources import resource_path
from rootless.seccomp import bpf
from rootless.seccomp.compile import CompiledFilter, compile_filter
from rootless.seccomp.names import call_name
from rootless.seccomp.profile import parse_profile, resolve

pytestmark = pytest.mark.integration

RECENT = {"open_tree_attr": 467}

# Call, arguments, answer under the filter. Without the filter these fail
# otherwise (bad pointers, bad descriptors) or succeed without any effect.
DIFFERENT_WITHOUT = [
    ("io_uring_setup", (0, 0), EPERM),
    ("io_uring_enter", (-1,), EPERM),
    ("io_uring_register", (-1, 99), EPERM),
    ("keyctl", (0, -3, 0), EPERM),
    ("add_key", (0, 0), EPERM),
    ("request_key", (0, 0), EPERM),
    ("userfaultfd", (-1,), EPERM),
    ("perf_event_open", (0, 0, -1, -1, 0), EPERM),
    ("ptrace", (7, 0x7FFFFFFF), EPERM),
    ("process_vm_readv", (0x7FFFFFFF, 0, 0, 0, 0, 0), EPERM),
    ("process_vm_writev", (0x7FFFFFFF, 0, 0, 0, 0, 0), EPERM),
    ("pidfd_getfd", (-1, 0, 0), EPERM),
    ("process_madvise", (-1, 0, 0, 0, 0), EPERM),
    ("kcmp", (0x7FFFFFFF, 0x7FFFFFFF, 0, 0, 0), EPERM),
    ("socket", (38, 5, 0), EPERM),
    ("socket", (38 | 1 << 32, 5, 0), EPERM),
    ("socket", (40, 1, 0), EPERM),
    ("socket", (16, 3, 12), EPERM),
    ("socketpair", (30, 1, 0, 0), EPERM),
    ("fsopen", (0, 0), EPERM),
    ("fsconfig", (-1, 99, 0, 0, 0), EPERM),
    ("fsmount", (-1, 0, 0), EPERM),
    ("fspick", (-1, 0, 0), EPERM),
    ("move_mount", (-1, 0, -1, 0, 0), EPERM),
    ("open_tree", (-1, 0, 0), EPERM),
    ("open_tree_attr", (-1, 0, 0, 0, 0), EPERM),
    ("mount_setattr", (-1, 0, 0, 0, 0), EPERM),
    ("mount", (0, 0, 0, 0, 0), EPERM),
    ("umount2", (0, 0), EPERM),
    ("pivot_root", (0, 0), EPERM),
    ("unshare", (0,), EPERM),
    ("setns", (-1, 0), EPERM),
    ("clone", (0x10000000 | 0x200, 0, 0, 0, 0), EPERM),
    ("clone3", (0, 0), ENOSYS),
    ("personality", (0x0400000,), EPERM),
    ("personality", (0x0040000,), EPERM),
    ("chroot", (0,), EPERM),
    ("clock_settime", (0, 0), EPERM),
    ("vmsplice", (-1, 0, 0, 0), EPERM),
    ("mbind", (0, 0, 0, 0, 0, 0), EPERM),
    ("move_pages", (0, 0, 0, 0, 0, 99), EPERM),
]
# The kernel itself answers an unprivileged caller with EPERM or ENOSYS here.
SAME_WITHOUT = [
    ("settimeofday", (0, 0), EPERM),
    ("socket", (44, 3, 0), EPERM),
    ("bpf", (999, 0, 0), EPERM),
    ("kexec_load", (0, 0, 0, 0), EPERM),
    ("kexec_file_load", (-1, -1, 0, 0, 0), EPERM),
    ("init_module", (0, 0, 0), EPERM),
    ("finit_module", (-1, 0, 0), EPERM),
    ("delete_module", (0, 0), EPERM),
    ("swapon", (0, 0), EPERM),
    ("swapoff", (0,), EPERM),
    ("reboot", (0, 0, 0, 0), EPERM),
    ("quotactl", (0, 0, 0, 0), EPERM),
    ("quotactl_fd", (-1, 0, 0, 0), EPERM),
    ("open_by_handle_at", (-1, 0, 0), EPERM),
    ("acct", (0,), EPERM),
    ("syslog", (10, 0, 0), EPERM),
    ("sethostname", (0, 0), EPERM),
    ("iopl" if platform.machine() == "x86_64" else "kexec_load", (0,), EPERM),
    ("fanotify_init", (0xFFFFFFFF, 0), EPERM),
    ("lookup_dcookie", (0, 0, 0), EPERM),
    ("nfsservctl", (0, 0, 0), EPERM),
]

Call = tuple[str, tuple[int, ...], int]


def compiled(*caps: str, notify_denied: bool = False) -> CompiledFilter:
    text = resource_path("profiles", "seccomp/default.json").read_text()
    resolved = resolve(parse_profile(text), caps, platform.machine(), (6, 18))
    return compile_filter(resolved, notify_denied=notify_denied)


@pytest.fixture(scope="module")
def default() -> CompiledFilter:
    return compiled()


def number_of(name: str) -> int:
    return RECENT.get(name) or pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)


def raw_call(number: int, args: tuple[int, ...]) -> int:
    """errno of a call, 0 when it succeeded; descriptors it makes end with the child."""
    wide = [ctypes.c_long(a if a < 1 << 63 else a - (1 << 64)) for a in args]
    if libc.libc.syscall(ctypes.c_long(number), *wide) >= 0:
        return 0
    return ctypes.get_errno()


def in_child(body: Callable[[], object]) -> tuple[object, int]:
    """``body`` in a forked child in a new user namespace: its result and the wait status."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            process.unshare(process.CLONE_NEWUSER | process.CLONE_NEWNS)
            os.write(writer, json.dumps(body()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    status = os.waitpid(pid, 0)[1]
    return (json.loads(data) if data else None), status


def confine(code: bytes) -> None:
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
    assert seccomp.load_filter(code) is None


def outcome(calls: list[Call], code: bytes | None) -> dict[str, object]:
    numbers = [(name, number_of(name), args) for name, args, _ in calls]

    def body() -> object:
        if code is not None:
            confine(code)
        return [raw_call(number, args) for _, number, args in numbers]

    result, status = in_child(body)
    assert status == 0
    assert isinstance(result, list)
    return {f"{name}{args}": r for (name, args, _), r in zip(calls, result, strict=True)}


def expected(calls: list[Call]) -> dict[str, object]:
    return {f"{name}{args}": errno for name, args, errno in calls}


def test_denied_under_the_filter(default: CompiledFilter) -> None:
    calls = DIFFERENT_WITHOUT + SAME_WITHOUT
    assert outcome(calls, default.loaded) == expected(calls)


def test_not_denied_without_it() -> None:
    found = outcome(DIFFERENT_WITHOUT, None)
    same = {call for call, errno in expected(DIFFERENT_WITHOUT).items() if found[call] == errno}
    assert not same


def test_unknown_calls_say_enosys(default: CompiledFilter) -> None:
    result, status = in_child(lambda: (confine(default.loaded), raw_call(1999, ()))[1])
    assert (result, status) == (ENOSYS, 0)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is an ABI of x86_64")
def test_x32_calls_end_the_process(default: CompiledFilter) -> None:
    getpid = 0x40000000 | 39

    def body() -> object:
        confine(default.loaded)
        return raw_call(getpid, ())

    result, status = in_child(body)
    assert result is None
    assert os.WTERMSIG(status) == signal.SIGSYS
    assert in_child(lambda: raw_call(getpid, ()))[1] == 0


def test_capabilities_open_what_they_are_for() -> None:
    calls = [("mount", (0, 0, 0, 0, 0), EPERM), ("unshare", (0,), EPERM)]
    found = outcome(calls, compiled("CAP_SYS_ADMIN").loaded)
    assert EPERM not in found.values()


def test_denied_calls_are_reported_to_a_listener_with_the_same_errno() -> None:
    result = compiled(notify_denied=True)
    program = bpf.decode(result.bpf)
    calls: list[Call] = [("keyctl", (0, -3, 0), EPERM), ("clone3", (0, 0), ENOSYS)]
    numbers = [(number_of(name), args) for name, args, _ in calls]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            listener = seccomp.load_filter(result.loaded, listener=True)
            assert listener is not None
            socket.send_fds(theirs, [b"listener"], [listener])
            os.close(listener)
            answers = [raw_call(number, args) for number, args in numbers]
            theirs.send(json.dumps(answers).encode())
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    _, [listener], _, _ = socket.recv_fds(ours, 64, 1)
    assert seccomp.notif_sizes()[0] >= 80
    seen = []
    for _ in calls:
        found = seccomp.notif_receive(listener)
        assert found is not None
        assert found.pid == pid
        verdict = bpf.evaluate(program, found.number, found.arch, found.args)
        assert verdict & seccomp.RET_ACTION_MASK == seccomp.RET_ERRNO
        seen.append(call_name(found.number, found.arch))
        assert seccomp.notif_respond(listener, found.id, verdict & seccomp.RET_DATA_MASK)
    assert json.loads(ours.recv(4096)) == [errno for _, _, errno in calls]
    assert os.waitpid(pid, 0)[1] == 0
    assert seen == ["keyctl", "clone3"]
    os.close(listener)
    ours.close()
