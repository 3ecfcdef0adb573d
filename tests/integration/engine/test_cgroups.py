"""A container's cgroup goes with it, whatever happened to the daemon in between."""

from __future__ import annotations

import os
import select

import pytest

from rootless.linux import cgroupfs
from tests.support.engine import Engine

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"


def _cgroups_of(container: str) -> list[str]:
    subtree = cgroupfs.find().delegated
    if not subtree:
        pytest.skip("host lacks delegated cgroup controllers: no delegated cgroup")
    return [path for path, _, _ in os.walk(subtree) if path.endswith(f"/{container}")]


def test_removed_containers_leave_no_cgroup(fresh_engine: Engine) -> None:
    container = fresh_engine.ok("run", "--detach", IMAGE, "sleep", "600")
    assert _cgroups_of(container)
    fresh_engine.ok("rm", "--force", container)
    assert not _cgroups_of(container)


def test_the_next_start_is_safe_from_the_removal_of_the_cgroup_before(fresh_engine: Engine) -> None:
    container = fresh_engine.ok("run", "--detach", IMAGE, "sleep", "600")
    assert _cgroups_of(container)
    for _ in range(5):
        fresh_engine.ok("restart", "--timeout", "0", container)
    assert fresh_engine.ok("inspect", "--format", "{{.State.Status}}", container) == "running"
    fresh_engine.ok("rm", "--force", container)


@pytest.mark.parametrize("options", [(), ("--rm",)], ids=["kept", "--rm"])
def test_a_container_that_ends_while_the_daemon_is_away(
    fresh_engine: Engine, options: tuple[str, ...]
) -> None:
    container = fresh_engine.ok("run", "--detach", *options, IMAGE, "sleep", "2")
    assert _cgroups_of(container)
    pid = int(fresh_engine.ok("inspect", "--format", "{{.State.Pid}}", container))
    ended = os.pidfd_open(pid)
    fresh_engine.kill()
    assert select.select([ended], [], [], 60)[0]
    os.close(ended)
    fresh_engine.start()
    if not options:
        fresh_engine.ok("rm", container)
    assert container not in fresh_engine.containers()
    assert not _cgroups_of(container)
