"""Run one program as the test user, reap what it orphans, end it when time is up."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from lib.account import Account
from lib.say import note

_PR_SET_CHILD_SUBREAPER = 36
_DUMP_GRACE = 10.0


def become_subreaper() -> None:
    """Orphans of the tests become our children (prctl(2)), so none can hide from us."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        note("prctl(PR_SET_CHILD_SUBREAPER) failed; leftover processes will not be found")


def descendants() -> list[int]:
    """Every living process below this one, nearest first."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(entry))
    found: list[int] = []
    level = [os.getpid()]
    while level:
        level = [child for parent in level for child in parents.get(parent, [])]
        found += level
    return found


def _limits() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # 1024 is every Debian login's; tests that need more are a defect of the engine.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    os.umask(0o022)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def run(
    command: Sequence[str],
    *,
    account: Account,
    env: dict[str, str],
    cwd: str,
    seconds: float,
    cgroup: str = "",
) -> int:
    """The program's exit status; 124 when ``seconds`` were over.

    ``cgroup`` is a cgroup2 directory the program starts in, '' for our own.
    Whatever the program leaves running is named and killed, and then the
    status is not 0.
    """
    become_subreaper()

    def prepare() -> None:
        if cgroup:
            with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        _limits()
        if account.switch:
            os.initgroups(account.name, account.gid)
            os.setgid(account.gid)
            os.setuid(account.uid)

    def interrupted(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, interrupted)
    try:
        child = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            preexec_fn=prepare,  # noqa: PLW1509 (single-threaded here)
            start_new_session=True,
        )
        status = _wait(child.pid, seconds)
        child.returncode = status  # reaped there, not by Popen
    except BaseException:
        _end(descendants())
        raise
    left = descendants()
    if left:
        for pid in left:
            note(f"left running by the tests: {_describe(pid)}")
        _end(left)
    return status or (1 if left else 0)


def _wait(pid: int, seconds: float) -> int:
    """Reap every child until ``pid`` ends; after ``seconds`` make it say where it is."""
    dumped = False
    deadline = time.monotonic() + seconds
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        try:
            reaped, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1
        if reaped == pid:
            return 124 if dumped else abs(os.waitstatus_to_exitcode(status))
        if reaped:
            continue
        now = time.monotonic()
        if now < deadline:
            signal.sigtimedwait({signal.SIGCHLD}, min(deadline - now, 5.0))
        elif not dumped:
            # pytest's faulthandler prints every thread's stack on SIGABRT.
            told = f"time is up: the tests had {seconds:.0f} s and are ended; they are at:"
            print(told, file=sys.stderr, flush=True)
            os.kill(pid, signal.SIGABRT)
            dumped, deadline = True, now + _DUMP_GRACE
        else:
            os.kill(pid, signal.SIGKILL)
            deadline = now + _DUMP_GRACE


def _describe(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        words = ""
    return f"{pid} {words or '(no command line)'}"


def _end(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # gone, or a subordinate id that only its engine or root may end
    deadline = time.monotonic() + _DUMP_GRACE
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while (left := deadline - time.monotonic()) > 0:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                signal.sigtimedwait({signal.SIGCHLD}, left)
        except ChildProcessError:
            return
