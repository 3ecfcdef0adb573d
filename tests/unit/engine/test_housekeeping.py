"""Directories made ahead and trees removed together, with the real functions called in place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path

import pytest

from rootless.engine import housekeeping
from rootless.engine.etcfiles import ETC_FILES
from rootless.engine.housekeeping import Housekeeping
from rootless.errors import RootlessError, Unavailable
from rootless.model.mounts import RootfsMount
from rootless.storage import drivers, tree


class Engine:
    """Calls in place of the launcher's; ``broken`` answers as a launcher that does not start."""

    def __init__(self, root: Path) -> None:
        self.calls: list[dict[str, list[object]]] = []
        self.tasks: list[asyncio.Task[object]] = []
        self.broken = False
        self.housekeeping = Housekeeping(root, self.call, self.background)
        self.layer = root / "layer"
        self.layer.mkdir(exist_ok=True)
        self.containers = root / "containers"
        self.containers.mkdir()

    async def call(self, function: str, **arguments: list[object]) -> object:
        assert function == "storage.tree.housekeep"
        self.calls.append(arguments)
        if self.broken:
            raise Unavailable("no launcher")
        return tree.housekeep(arguments["make"], arguments["remove"])  # type: ignore[arg-type]  # the worker's arguments

    def background(
        self, work: Coroutine[object, object, object], _what: str
    ) -> asyncio.Task[object]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def take(self, name: str, driver: str = "overlay") -> tuple[bool, RootfsMount]:
        directory = self.containers / name
        mount = drivers.get(driver).plan(str(directory), [str(self.layer)])
        return self.housekeeping.take(mount, directory), mount

    async def settle(self) -> None:
        await asyncio.gather(*self.tasks)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(housekeeping, "QUIET", 0.0)
    return Engine(tmp_path)


async def test_second_container_takes_a_directory_that_is_whole(engine: Engine) -> None:
    engine.layer.chmod(0o751)
    assert not engine.take("one")[0]
    await engine.settle()
    found, mount = engine.take("two")
    assert found
    etc = [name for name, _ in ETC_FILES]
    assert sorted(os.listdir(engine.containers / "two")) == sorted([*etc, "upper", "work"])
    assert os.stat(mount.upper).st_mode & 0o777 == 0o751
    await engine.settle()
    ready = os.listdir(engine.housekeeping.ready_dir)
    assert ready
    assert sorted(engine.housekeeping.leftovers()) == sorted(
        engine.housekeeping.ready_dir / name for name in ready
    )


async def test_directories_are_not_mixed_up(engine: Engine) -> None:
    engine.take("one")
    await engine.settle()
    assert not engine.take("two", "fuse-overlayfs")[0]
    assert not engine.take("three", "vfs")[0]
    await engine.settle()
    engine.layer = engine.layer.with_name("other")
    engine.layer.mkdir()
    assert not engine.take("four")[0]
    await engine.settle()


async def test_images_that_are_not_used_lose_theirs(engine: Engine) -> None:
    for number in range(12):
        engine.layer = engine.layer.with_name(f"layer{number}")
        engine.layer.mkdir()
        engine.take(f"c{number}")
        await engine.settle()
    assert len(os.listdir(engine.housekeeping.ready_dir)) <= 12
    assert os.listdir(engine.housekeeping.trash_dir) == []


async def test_what_is_gone_goes_in_one_call(engine: Engine) -> None:
    for number in range(5):
        path = engine.containers / f"c{number}"
        (path / "upper/deep").mkdir(parents=True)
        engine.housekeeping.discard(path)
        assert not path.exists()
    engine.housekeeping.discard(engine.containers / "absent")
    await engine.settle()
    assert [len(call["remove"]) for call in engine.calls] == [5]
    assert os.listdir(engine.housekeeping.trash_dir) == []


async def test_one_failure_keeps_nobody_else(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine.take("one")
    engine.layer.rmdir()
    (tmp_path / "gone").mkdir()
    engine.housekeeping.remove(Path("/proc/self"), tmp_path / "gone")
    await engine.settle()
    assert not (tmp_path / "gone").exists()
    assert os.listdir(engine.housekeeping.ready_dir) == []
    # An image that was removed meanwhile is no failure.
    assert [record.args[0] for record in caplog.records if record.args] == ["/proc/self"]
    assert not engine.take("two")[0]
    await asyncio.gather(*engine.tasks, return_exceptions=True)


async def test_a_launcher_that_does_not_start_is_asked_once(engine: Engine) -> None:
    engine.broken = True
    (engine.containers / "one").mkdir()
    engine.housekeeping.discard(engine.containers / "one")
    await engine.settle()
    assert len(engine.calls) == 1
    assert len(list(engine.housekeeping.leftovers())) == 1


async def test_flush_waits_for_no_quiet_moment_and_makes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "QUIET", 3600.0)
    monkeypatch.setattr(housekeeping, "LATEST", 3600.0)
    engine.take("one")
    (engine.containers / "two").mkdir()
    engine.housekeeping.discard(engine.containers / "two")
    await asyncio.sleep(0)
    engine.housekeeping.flush()
    await engine.settle()
    assert [(len(c["make"]), len(c["remove"])) for c in engine.calls] == [(0, 1)]
    assert list(engine.housekeeping.leftovers()) == []


async def test_many_do_not_wait(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "QUIET", 3600.0)
    monkeypatch.setattr(housekeeping, "LATEST", 3600.0)
    for number in range(housekeeping.MANY):
        (engine.containers / str(number)).mkdir()
        engine.housekeeping.discard(engine.containers / str(number))
    await engine.settle()
    assert os.listdir(engine.housekeeping.trash_dir) == []


def test_housekeep_says_what_failed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    failed = tree.housekeep([], ["/", str(tmp_path / "a")])
    assert list(failed) == ["/"]
    with pytest.raises(RootlessError):
        tree.remove_tree("/")
