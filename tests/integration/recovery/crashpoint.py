"""Kills one process of the engine at its N-th step, N being counted, not timed.

``python crashpoint.py CONTROL`` runs rootlessd with a profile function that
follows every fork. A step is a call of one of the engine's functions, or a call
that such a function makes into C (``os``, ``socket`` …). The test and all
processes share CONTROL, a small mapped file: the role that is to die, at which
of its steps, and how many steps it took so far. The first process that gets
there dies and no other one; roles begin with the functions below, and end
with a fork.

The launcher executes itself without site-packages and environment; it is given
this file through its command line.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import threading
from pathlib import Path
from types import FrameType

ROLES = ("", "daemon", "launcher", "zygote", "shim", "builder", "init", "exec", "helper")
BEGINS = {
    ("rootless.runtime.launcher", "_serve"): "launcher",
    ("rootless.runtime.zygote", "_run"): "zygote",
    ("rootless.runtime.shim", "run_container"): "shim",
    ("rootless.runtime.builder", "run"): "builder",
    ("rootless.runtime.init", "run"): "init",
    ("rootless.runtime.exec_shim", "run_exec"): "exec",
    ("rootless.runtime.launcher", "_handle"): "helper",
}
"""The function with which a process takes up a role, after the fork."""
COUNTED = tuple(
    f"rootless.{name}"
    for name in ("engine", "runtime", "storage", "images", "network", "linux", "archive", "seccomp")
)
WORDS = struct.Struct("=IIQ")
"""Role (0: nobody dies), steps until its death, steps that the role took."""
MEASURE = 0xFFFFFFFF
"""Number of steps nobody reaches."""
ROOT = Path(__file__).resolve().parents[3]


class Control:
    """The shared words."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), WORDS.size)

    def arm(self, role: str, step: int) -> None:
        """Let ``role`` die at ``step`` (from 1)."""
        self._memory[:] = WORDS.pack(ROLES.index(role), step, 0)

    def disarm(self) -> int:
        """Let nobody die; the steps that the role took since it was armed."""
        steps = int(WORDS.unpack(self._memory)[2])
        self._memory[:] = WORDS.pack(0, 0, 0)
        return steps

    def fired(self) -> bool:
        """Whether the armed role has died."""
        role, step, _ = WORDS.unpack(self._memory)
        return role == 0 and step == MEASURE

    def step(self, role: int) -> bool:
        """Count one step of ``role``; True when it is the one to die at."""
        wanted, left, taken = WORDS.unpack(self._memory)
        if wanted != role:
            return False
        if taken + 1 == left:
            self._memory[:] = WORDS.pack(0, MEASURE, taken + 1)
            return True
        self._memory[:] = WORDS.pack(wanted, left, taken + 1)
        return False


class Hook:
    """The profile function of one process (and, after a fork, of its child)."""

    def __init__(self, control: Control, role: str) -> None:
        self._control = control
        self._role = ROLES.index(role)
        self._pid = os.getpid()
        self._begins = {key: ROLES.index(name) for key, name in BEGINS.items()}

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event not in ("call", "c_call"):
            return
        module = frame.f_globals.get("__name__")
        if not module or not module.startswith(COUNTED):  # None while the interpreter ends
            return
        if event == "call":
            begun = self._begins.get((module, frame.f_code.co_name))
            if begun is not None:
                self._role, self._pid = begun, os.getpid()
        if os.getpid() != self._pid:
            return  # a child that has not taken up a role: its death would not be its parent's
        if self._control.step(self._role):
            if os.getpid() == 1:
                # The kernel keeps SIGKILL from the first process of its own pid namespace.
                os._exit(137)
            os.kill(os.getpid(), signal.SIGKILL)


def install(path: str, role: str) -> None:
    """Begin to count in this process."""
    sys.path.insert(0, str(ROOT))
    hook = Hook(Control(path), role)
    from rootless.runtime import launcher

    def command(*arguments: str) -> list[str]:
        here = os.path.abspath(__file__)
        code = (
            f"import sys; sys.path.insert(0, {os.path.dirname(here)!r}); import crashpoint; "
            f"crashpoint.install({path!r}, 'launcher'); "
            "from rootless.runtime.launcher import main; main(sys.argv[1:])"
        )
        return [sys.executable, "-I", "-S", "-c", code, *arguments]

    launcher.command = command
    threading.setprofile(hook)
    sys.setprofile(hook)


def tell_tasks(*_: object) -> None:
    """Write where each task of the daemon waits to its log: what a hanging test needs to know."""
    import asyncio

    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, tell_tasks)
    install(sys.argv[1], "daemon")
    from rootless.daemon.main import main

    sys.exit(main([]))
