"""Entering a container: whoever dies on the way is not waited for."""

from __future__ import annotations

import os
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.errors import StartFailed
from rootless.runtime import exec_init


def test_one_that_is_killed_before_it_entered_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """``rm -f`` kills the cgroup, in which the process is born."""
    me = os.getpid()

    def die() -> None:
        assert os.getpid() != me
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(exec_init, "forbid_imports", die)
    plan: Any = SimpleNamespace(init_pid=me, cgroup="", container_id="c" * 64)
    sync, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sync, peer, pytest.raises(StartFailed, match="cannot be entered"):
        exec_init.enter(plan, -1, sync, peer, stdio=[], seccomp=-1, last_capability=0)
