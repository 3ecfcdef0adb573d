"""kill -9 of every process of the engine at steps of every operation; then all is whole.

For each operation and each process that takes part, the steps are counted once
and the process is killed at points spread over them. After each kill (and the
next daemon's recovery, when it was the daemon) state, files and processes
agree, and the same operation succeeds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.recovery.world import IMAGE, QUIET, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
POINTS = {"daemon": 5, "launcher": 3, "shim": 5, "builder": 6, "init": 4, "exec": 5, "helper": 3}
"""Kills per operation."""


def _shares(count: int) -> list[float]:
    """The first step, the last, and others between them at even distances."""
    return [number / (count - 1) for number in range(count)]


def _sweep(
    world: World,
    role: str,
    operation: Callable[[], bool],
    *,
    prepare: Callable[[], object] = lambda: None,
    clean: Callable[[], object] = lambda: None,
) -> None:
    """Kill ``role`` at each point of ``operation``, which tells whether it succeeded."""
    prepare()
    world.assert_sound()  # what still goes on in the background would be counted
    succeeded: list[bool] = []
    steps = world.steps_of(role, lambda: succeeded.append(operation()))
    assert succeeded == [True]
    assert steps > 0, "the process takes no part in this operation"
    clean()
    reached: set[float] = set()
    # The count may hold what is done once (compiling a filter) or now and then (removing what
    # several left). After a run that ended before its point, the same share of its own steps.
    for share in (share for share in _shares(POINTS[role]) for _ in range(2)):
        if share in reached:
            continue
        point = 1 + round(share * (steps - 1))
        prepare()
        fired, taken = world.crash(role, point, operation)
        world.assert_sound()
        clean()
        prepare()
        assert operation(), f"{role} was killed at step {point} of {steps}"
        clean()
        if fired:
            reached.add(share)
        else:
            steps = max(taken, 1)
    world.assert_sound()
    assert len(reached) > 1


def _purge(world: World) -> None:
    world.engine.purge()


@pytest.mark.parametrize("role", ["daemon", "launcher", "helper"])
def test_create(world: World, role: str) -> None:
    def create() -> bool:
        # The volume is filled from the image while the client waits.
        made = world.docker("create", "--name", "one", "-v", "/etc", *QUIET, IMAGE, "true")
        return made.returncode == 0

    def clean() -> None:
        # What is listed is whole: it can be started.
        for name in world.engine.containers():
            assert world.engine.run("start", "--attach", name).returncode == 0
        _purge(world)

    _sweep(world, role, create, clean=clean)


@pytest.mark.parametrize("role", ["daemon", "launcher", "shim", "builder", "init"])
def test_start(world: World, role: str) -> None:
    def prepare() -> None:
        world.engine.ok("create", "--name", "one", IMAGE, "sleep", "1000")

    def start() -> bool:
        return world.docker("start", "one").returncode == 0

    def clean() -> None:
        if world.state("one")["Running"]:
            assert world.engine.ok("exec", "one", "echo", "alive") == "alive"
        _purge(world)

    _sweep(world, role, start, prepare=prepare, clean=clean)


@pytest.mark.parametrize("role", ["shim", "builder"])
def test_start_on_fuse(world: World, role: str) -> None:
    def prepare() -> None:
        world.engine.ok(
            "create", "--name", "one", "--userns=auto", *QUIET, IMAGE, "sleep", "1000"
        )  # fmt: skip

    def start() -> bool:
        return world.docker("start", "one").returncode == 0

    _sweep(world, role, start, prepare=prepare, clean=lambda: _purge(world))


@pytest.mark.parametrize("role", ["daemon", "launcher", "exec"])
def test_exec(world: World, role: str) -> None:
    world.engine.ok("run", "-d", "--name", "one", *QUIET, IMAGE, "sleep", "1000")

    def execute() -> bool:
        return world.docker("exec", "one", "true").returncode == 0

    _sweep(world, role, execute)
    assert world.state("one")["Running"]


@pytest.mark.parametrize("role", ["daemon", "helper"])
def test_remove(world: World, role: str) -> None:
    def prepare() -> None:
        world.engine.ok("run", "--name", "one", "-v", "/data", *QUIET, IMAGE, "true")

    def remove() -> bool:
        removed = world.docker("rm", "--volumes", "one").returncode == 0
        if role == "helper":
            world.assert_sound()  # files are removed later
        return removed

    _sweep(world, role, remove, prepare=prepare, clean=lambda: _purge(world))


@pytest.mark.parametrize("role", ["daemon", "helper"])
def test_run_and_remove_with_a_new_volume(world: World, role: str) -> None:
    def run() -> bool:
        done = world.docker(
            "run", "--rm", "-v", "vol:/etc", "-v", "/data", *QUIET,
            IMAGE, "cat", "/etc/passwd",
        )  # fmt: skip
        return done.returncode == 0 and b"root" in done.stdout

    def clean() -> None:
        _purge(world)
        world.engine.run("volume", "rm", "--force", "vol")

    _sweep(world, role, run, clean=clean)
    assert world.engine.ok("volume", "ls", "--quiet") == ""


@pytest.mark.parametrize("role", ["daemon", "helper"])
def test_commit(world: World, role: str) -> None:
    world.engine.ok("run", "--name", "one", *QUIET, IMAGE, "sh", "-c", "echo text > /file")

    def commit() -> bool:
        return world.docker("commit", "one", "made:now").returncode == 0

    def clean() -> None:
        world.engine.run("rmi", "made:now")

    _sweep(world, role, commit, clean=clean)


@pytest.mark.parametrize("role", ["daemon", "launcher", "helper"])
def test_load(world: World, role: str, tmp_path: Path) -> None:
    archive = _other_image(world, tmp_path)

    def load() -> bool:
        return world.docker("load", "--input", str(archive)).returncode == 0

    _sweep(world, role, load, clean=lambda: world.engine.run("rmi", "other:now"))


def _other_image(world: World, directory: Path) -> Path:
    """An image with a layer of its own, as an archive; it is not in the engine any more."""
    archive = directory / "other.tar"
    if not archive.exists():
        script = "for i in 1 2 3 4 5 6 7 8 9; do mkdir /d$i; echo $i > /d$i/file; done"
        world.engine.ok("run", "--name", "source", *QUIET, IMAGE, "sh", "-c", script)
        world.engine.ok("commit", "source", "other:now")
        world.engine.ok("rm", "source")
        world.engine.ok("save", "--output", str(archive), "other:now")
        world.engine.ok("rmi", "other:now")
    return archive


@pytest.mark.parametrize("role", ["daemon", "launcher", "helper"])
def test_pull(world: World, role: str, registry_host: str, tmp_path: Path) -> None:
    name = f"{registry_host}/other:now"
    world.engine.ok("load", "--input", str(_other_image(world, tmp_path)))
    world.engine.ok("tag", "other:now", name)
    world.engine.ok("push", name)
    world.engine.ok("rmi", name, "other:now")

    def pull() -> bool:
        return world.docker("pull", name).returncode == 0

    def clean() -> None:
        if name in world.engine.ok("images", "--format", "{{.Repository}}:{{.Tag}}").split():
            # What is listed is whole.
            assert world.engine.ok("run", "--rm", *QUIET, name, "cat", "/d9/file") == "9"
        world.engine.run("rmi", name)

    _sweep(world, role, pull, clean=clean)
