"""Random layers: what we compute without mounting is what the kernel and fuse-overlayfs show."""

from __future__ import annotations

import os
import random
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import rootfs
from rootless.model.mounts import RootfsMount
from rootless.storage import drivers, merged, tree
from rootless.storage.copy import Copier
from rootless.storage.merged import Directory
from rootless.storage.whiteouts import LayerWhiteouts

pytestmark = pytest.mark.integration

NAMES = ("a", "b", "c")
Shown = dict[str, tuple[str, str]]


def _random_layer(path: str, rng: random.Random, depth: int, below: set[str]) -> None:
    """Fill ``path``: files, directories, symlinks, whiteouts, opaque directories.

    ``below`` are paths that exist in lower layers: archives name only such in whiteouts.
    """
    here = os.open(path, os.O_RDONLY)
    for name in NAMES:
        full = f"{path}/{name}"
        inner = {p.partition("/")[2] for p in below if p.partition("/")[0] == name and "/" in p}
        kind = rng.choice(("none", "none", "file", "dir", "dir", "link", "gone", "opaque"))
        if kind == "file":
            with open(full, "w") as file:
                file.write(path.rpartition("layer")[2])
        elif kind == "link":
            os.symlink(f"to-{rng.choice(NAMES)}", full)
        elif kind == "gone" and name in {p.partition("/")[0] for p in below}:
            LayerWhiteouts().remove(here, os.fsencode(name))
        elif kind in ("dir", "opaque") and depth < 3:
            os.mkdir(full)
            os.chmod(full, rng.choice((0o755, 0o700, 0o1777)))
            _random_layer(full, rng, depth + 1, set() if kind == "opaque" else inner)
            if kind == "opaque":
                fd, marks = os.open(full, os.O_RDONLY), LayerWhiteouts()
                marks.opaque(fd)
                marks.finish(here)
                os.close(fd)
    os.close(here)


def _walk_union(directory: Directory, path: str, shown: Shown) -> None:
    with ExitStack() as stack:
        for name in merged.names(directory):
            found = merged.lookup(directory, name)
            assert found is not None
            full = f"{path}/{os.fsdecode(name)}"
            mode = found.status.st_mode
            if stat.S_ISDIR(mode):
                shown[full] = ("dir", oct(mode))
                _walk_union(merged.enter(found, name, stack), full, shown)
            elif stat.S_ISLNK(mode):
                target = os.readlink(name, dir_fd=found.parent)
                shown[full] = ("link", os.fsdecode(target))
            else:
                with open(os.open(name, os.O_RDONLY, dir_fd=found.parent)) as file:
                    shown[full] = ("file", file.read())


def _union(layers: list[str]) -> Shown:
    shown: Shown = {}
    with merged.open_union(layers) as root:
        _walk_union(root, "", shown)
    return shown


def _walk_real(root: str) -> Shown:
    shown: Shown = {}
    for here, names, files in os.walk(root):
        for name in names + files:
            full = f"{here}/{name}"
            mode = os.lstat(full).st_mode
            path = full[len(root) :]
            if stat.S_ISDIR(mode):
                shown[path] = ("dir", oct(mode))
            elif stat.S_ISLNK(mode):
                shown[path] = ("link", os.readlink(full))
            else:
                with open(full) as file:
                    shown[path] = ("file", file.read())
    return shown


def _mounted(mount: RootfsMount) -> Shown:
    mounted = rootfs.mount_rootfs(mount)
    shown = _walk_real(f"/proc/self/fd/{mounted.fd}")
    os.close(mounted.fd)
    if mounted.server_pid is not None:
        os.waitpid(mounted.server_pid, 0)
    return shown


def _compare(box: str, seed: int) -> None:
    rng = random.Random(seed)
    layers: list[str] = []
    for number in range(4):
        path = f"{box}/layer{number}"
        os.mkdir(path)
        below = {p.lstrip("/") for p in _union(layers)} if layers else set()
        _random_layer(path, rng, 0, below)
        layers.insert(0, path)
    expected = _union(layers)
    for name in ("overlay", "fuse-overlayfs", "vfs"):
        container = f"{box}/{name}"
        os.mkdir(container)
        mount = drivers.get(name).plan(container, layers)
        tree.make_container_dirs(mount)
        assert _mounted(mount) == expected, f"{name}, seed {seed}"
        assert tree.changes(mount) == []
    os.mkdir(f"{box}/copy")
    with merged.open_union(layers) as root:
        fd = os.open(f"{box}/copy", os.O_RDONLY)
        Copier(fd).tree(root)
    assert _walk_real(f"{box}/copy") == expected
    tree.remove_tree(box)


def _many(box: str, seeds: list[int]) -> None:
    for seed in seeds:
        os.mkdir(f"{box}/{seed}")
        _compare(f"{box}/{seed}", seed)


def test_the_union_is_what_every_driver_shows(box: Path, in_engine: Any) -> None:
    in_engine(_many, str(box), list(range(25)))


def test_the_union_of_random_seeds(box: Path, in_engine: Any) -> None:
    seeds = [random.randrange(1 << 30) for _ in range(10)]
    in_engine(_many, str(box), seeds)
