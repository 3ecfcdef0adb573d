"""What a builder reports when it and its init fail at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from rootless.runtime import builder, wire
from rootless.runtime.builder import Builder
from rootless.runtime.context import EngineContext
from tests.unit.runtime.test_wire import _plan


@pytest.mark.parametrize("said", [True, False])
def test_what_init_said_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, said: bool
) -> None:
    """Init may be gone before its builder writes down when it started."""
    monkeypatch.chdir(tmp_path)
    shim, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reply, daemon = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made = Builder(_plan(), shim, None)
    with shim, theirs, reply, daemon, made.sync, made.peer:
        made.pid, made.reply, made.context = os.getpid(), reply, EngineContext("")

        def build(_last: int) -> None:
            if said:
                wire.send(made.peer, {"error": "unable to find user x", "step": "ResolveUser"})
            raise ProcessLookupError(3, "No such process")

        monkeypatch.setattr(Builder, "build", lambda _self, last: build(last))
        builder._build(made, 40)
        answer = wire.receive(daemon)
        assert answer is not None
        failure = wire.failure_of(answer[0])
        assert failure.message == (
            "unable to find user x" if said else "a system call: No such process [ESRCH]"
        )
