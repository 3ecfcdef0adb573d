"""Killed at every step that changes the disk, each operation is finished by doing it again."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.storage import drivers, tree
from rootless.storage.layers import LayerMeta, LayerStore
from rootless.storage.volumes import VolumeStore

pytestmark = pytest.mark.integration

CHANGING = "chmod chown link mkdir mkfifo mknod rename rmdir setxattr symlink unlink utime".split()
DIED = 77
DIFF = "sha256:" + "cd" * 32

Snapshot = dict[str, tuple[int, int, int, str]]


def dies_at(step: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a child that is gone at its ``step``-th change; False when it had fewer."""
    child = os.fork()
    if child == 0:
        left = [step]

        def wrap(call: Callable[..., object]) -> Callable[..., object]:
            def counted(*args: Any, **kwargs: Any) -> object:
                if left[0] == 0:
                    os._exit(DIED)
                left[0] -= 1
                return call(*args, **kwargs)

            return counted

        try:
            for name in CHANGING:
                setattr(os, name, wrap(getattr(os, name)))
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DIED)
    return code == DIED


def _snapshot(root: str) -> Snapshot:
    found: Snapshot = {}
    for here, names, files in os.walk(root):
        for name in [".", *names, *files]:
            path = os.path.normpath(f"{here}/{name}")
            status = os.lstat(path)
            content = ""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path) as file:
                    content = file.read()
            found[path[len(root) :]] = (status.st_mode, status.st_uid, status.st_nlink, content)
    return found


def _layer(box: str) -> str:
    layer = f"{box}/layer"
    os.makedirs(f"{layer}/data/sub/deep")
    os.chmod(f"{layer}/data", 0o1750)
    for number, path in enumerate(("data/file", "data/sub/file", "data/sub/deep/file")):
        with open(f"{layer}/{path}", "w") as file:
            file.write(path)
        os.chown(f"{layer}/{path}", number + 5, 1)
        os.chmod(f"{layer}/{path}", 0o640)
    os.link(f"{layer}/data/file", f"{layer}/data/hard")
    os.symlink("file", f"{layer}/data/link")
    os.mkfifo(f"{layer}/data/fifo")
    for here, _, _ in os.walk(layer):
        os.chown(here, 3, 3)
    return layer


def _every_step(box: str, name: str) -> None:
    layer = _layer(box)
    work = f"{box}/work"

    def begin() -> None:
        tree.remove_tree(work)
        os.mkdir(work)
        if name == "copy_up":
            tree.make_volume(f"{work}/_data")

    def act() -> None:
        if name == "copy_up":
            tree.copy_up([layer], "/data", f"{work}/_data")
        else:
            tree.make_container_dirs(drivers.get(name).plan(work, [layer]))

    begin()
    act()
    expected = _snapshot(work)
    assert len(expected) > 2
    step = 0
    begin()
    while dies_at(step, act):
        # And killed once more while making up for it.
        dies_at(step // 2, act)
        act()
        assert _snapshot(work) == expected, f"{name} died at step {step}"
        begin()
        step += 1
    assert step > 3


@pytest.mark.parametrize("name", ["copy_up", "vfs", "overlay", "fuse-overlayfs"])
def test_finished_after_a_kill_at_every_step(name: str, box: Path, in_engine: Any) -> None:
    in_engine(_every_step, str(box), name)


def _remove_every_step(box: str) -> None:
    step = 0
    _layer(box)
    while dies_at(step, lambda: tree.remove_tree(f"{box}/layer")):
        tree.remove_tree(f"{box}/layer")
        assert os.listdir(box) == []
        _layer(box)
        step += 1
    assert step > 5


def test_removal_after_a_kill_at_every_step(box: Path, in_engine: Any) -> None:
    in_engine(_remove_every_step, str(box))


def test_stores_after_a_kill_at_every_step(tmp_path: Path) -> None:
    layers, volumes = tmp_path / "layers", tmp_path / "volumes"

    def act() -> None:
        store = LayerStore(layers)
        made = store.begin(DIFF)
        os.mkdir(made / "fs")
        store.commit(made, LayerMeta(DIFF, 1, 1, 0))
        VolumeStore(volumes).create("vol", os.mkdir)
        VolumeStore(volumes).remove("vol")
        store.remove(DIFF)

    step = 0
    while dies_at(step, act):
        layer, volume = LayerStore(layers).lookup(DIFF), VolumeStore(volumes).lookup("vol")
        assert layer is None or os.path.isdir(layer.fs)
        assert volume is None or os.path.isdir(VolumeStore(volumes).data("vol"))
        for path in [*LayerStore(layers).leftovers(), *VolumeStore(volumes).leftovers()]:
            tree.remove_tree(str(path))
        assert set(os.listdir(layers)) == ({DIFF[7:]} if layer else set())
        assert set(os.listdir(volumes)) == ({"vol"} if volume else set())
        tree.remove_tree(str(layers))
        tree.remove_tree(str(volumes))
        step += 1
    assert step > 5
