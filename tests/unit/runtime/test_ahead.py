"""Which container may have a root file system that was mounted before it was asked for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.linux import sync
from rootless.model.mounts import MountSpec, RootfsMount
from rootless.runtime import ahead
from rootless.runtime.ahead import Ahead
from rootless.runtime.context import EngineContext
from rootless.runtime.steps.rootfs import MountRootfs
from rootless.runtime.steps.sources import CloneSource


def _directories(root: Path) -> RootfsMount:
    for name in ("upper", "work", "layer"):
        (root / name).mkdir()
    return RootfsMount(
        driver="overlay",
        lowers=(str(root / "layer"),),
        upper=str(root / "upper"),
        work=str(root / "work"),
    )


@pytest.mark.parametrize("replaced", ["", "upper", "layer"])
def test_directories_that_came_anew_are_others(tmp_path: Path, replaced: str) -> None:
    """An image that is removed and pulled again has the same paths as before."""
    rootfs = _directories(tmp_path)
    # As the mount does: held open, the number of what is removed is not given away again.
    held = os.open(tmp_path / (replaced or "layer"), os.O_PATH)
    made = Ahead(rootfs, ahead._inodes(rootfs), {"rootfs": held})
    if replaced:
        shutil.rmtree(tmp_path / replaced)
        (tmp_path / replaced).mkdir()
    plan: Any = SimpleNamespace(prepare=(MountRootfs(rootfs),))
    context = EngineContext("")
    assert made.give_to(plan, context, entered=False) is (replaced == "")
    made.close()


@pytest.mark.parametrize("replaced", [False, True])
def test_files_that_came_anew_are_others(tmp_path: Path, *, replaced: bool) -> None:
    """Init is in the ones that were there, and a container is to have its own."""
    rootfs = _directories(tmp_path)
    file = tmp_path / "hosts"
    file.write_text("ahead")
    held = os.open(file, os.O_PATH)
    mount = MountSpec(type="bind", target="/etc/hosts", source=str(file), recursive=False)
    plan: Any = SimpleNamespace(prepare=(MountRootfs(rootfs), CloneSource(0, mount)))
    inodes = (*ahead._inodes(rootfs), *ahead._sources(plan))
    made = Ahead(rootfs, inodes, {"rootfs": held})
    if replaced:
        file.unlink()
        file.write_text("other")
    assert made.give_to(plan, EngineContext(""), entered=True) is not replaced
    made.close()


@pytest.mark.parametrize("exchanged", [False, True])
def test_directories_that_are_given_away_meanwhile_are_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exchanged: bool
) -> None:
    """Half of what is mounted would be one container's, half another's."""
    for name in ("ready", "container"):
        (tmp_path / name).mkdir()
    rootfs = _directories(tmp_path / "ready")
    _directories(tmp_path / "container")

    def apply(self: MountRootfs, ctx: EngineContext) -> None:
        if exchanged:
            sync.exchange(tmp_path / "ready", tmp_path / "container")

    monkeypatch.setattr(MountRootfs, "apply", apply)
    plan: Any = SimpleNamespace(prepare=(MountRootfs(rootfs),))
    assert (Ahead.mount(plan) is None) is exchanged
