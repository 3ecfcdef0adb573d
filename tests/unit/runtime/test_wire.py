"""Messages between the engine's processes."""

from __future__ import annotations

import os
import socket

import pytest

from rootless.errors import StartFailed
from rootless.model.mounts import IdMap, MountSpec, RootfsMount
from rootless.model.plan import LaunchPlan, LogPlan, ProcessPlan, StdioPlan
from rootless.runtime import sequence, wire
from rootless.runtime.steps.rootfs import MountRootfs
from rootless.runtime.steps.sources import PlaceMount


def _plan(env: tuple[str, ...] = ()) -> LaunchPlan:
    return LaunchPlan(
        container_id="c",
        directory="/d",
        owner=7,
        maps=(IdMap(0, 1, 2),),
        namespaces=1,
        stdio=StdioPlan(terminal=False, stdin=True, stdin_once=False),
        log=LogPlan("/l"),
        process=ProcessPlan(("a",), env, "/", "", (), 0, no_new_privileges=True, seccomp=""),
        prepare=(MountRootfs(RootfsMount("overlay", ("/a",), "/u", "/w")),),
        enter=(PlaceMount(0, MountSpec("tmpfs", "/t", mode=0o700)),),
    )


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_plan_and_descriptors_arrive_as_they_were(size: int) -> None:
    plan = _plan(("A=" + "x" * size,))
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_end, write_end = os.pipe()
    with a, b:
        wire.send(a, {"op": "create", "plan": plan}, (write_end,))
        os.close(write_end)
        answer = wire.receive(b)
        assert answer is not None
        message, fds = answer
        assert message == {"op": "create", "plan": plan}
        os.write(fds[0], b"!")
        os.close(fds[0])
        assert os.read(read_end, 10) == b"!"
        assert os.read(read_end, 10) == b""
        os.close(read_end)
        a.close()
        assert wire.receive(b) is None


def test_only_registered_classes_cross() -> None:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with a, b:
        with pytest.raises(TypeError, match="not registered"):
            wire.send(a, {"x": object()})
        with pytest.raises(TypeError, match="not registered"):
            wire.send(a, {"x": type("IdMap", (), {})()})
        with pytest.raises(KeyError):
            wire.decode(wire.raw(b'{"x": {"#": "Popen", "=": [["true"]]}}'), [])


def test_errors_keep_what_the_user_needs() -> None:
    error = StartFailed("no", step="Exec", exit_code=127, hint="look")
    fields = wire.error_fields(error)
    assert (fields["error"], fields["hint"], fields["step"]) == ("no", "look", "Exec")
    assert fields["exit_code"] == 127


def test_every_step_describes_itself_and_is_in_the_sequence() -> None:
    assert len(set(sequence.PREPARE + sequence.ENTER)) == len(sequence.PREPARE + sequence.ENTER)
    assert sequence.ENTER[: len(sequence.FRAME)] == sequence.FRAME
    plan = _plan()
    assert all(step.describe() for step in plan.prepare + plan.enter)
