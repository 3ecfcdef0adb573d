"""Removing what is gone and making directories ahead, together and off everybody's path.

Each call into the engine's user namespace costs a fork. A container would need
two of them: one that makes its directories while its client waits, and one that
removes them while the next client waits. Here they wait for a quiet moment and
go in one call, for many containers at once.

``data_root/ready`` holds directories that no container has yet; a new container
takes one by rename, after its record is written. ``data_root/trash`` holds what
is gone for everybody. Neither outlives a daemon: recovery removes both.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rootless.engine.etcfiles import make_etc
from rootless.errors import RootlessError
from rootless.model.mounts import RootfsMount
from rootless.storage.tree import rootfs_to_json

_log = logging.getLogger(__name__)

QUIET = 0.08
"""Seconds without a container coming or going before the work is done."""
LATEST = 1.0
"""Seconds after which it is done all the same."""
MANY = 16
"""Trees that wait; with so many it is done at once."""
_FIRST, _MOST = 2, 12
"""Directories made ahead for an image: at first, and for one that is used often."""
_IMAGES = 4
"""Images for which directories are made ahead."""

Call = Callable[..., Awaitable[object]]
Background = Callable[[Coroutine[object, object, object], str], "asyncio.Task[object]"]


@dataclass(slots=True)
class _Shelf:
    """Ready directories that fit one image and driver."""

    mount: RootfsMount
    target: int = _FIRST
    ready: list[Path] = field(default_factory=list)


class Housekeeping:
    """See the module. ``call`` runs a function in the engine's user namespace."""

    def __init__(self, root: Path, call: Call, background: Background) -> None:
        self.trash_dir = root / "trash"
        self.ready_dir = root / "ready"
        for path in (self.trash_dir, self.ready_dir):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._call = call
        self._background = background
        self._gone: list[Path] = []
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._worker: asyncio.Task[object] | None = None
        self._last = 0.0
        self._urgent = asyncio.Event()
        self._closing = False

    # -- what is gone ------------------------------------------------------------

    def discard(self, path: Path) -> None:
        """Take a directory out of sight at once and remove it in the background."""
        away = self.trash_dir / f"{path.name[:16]}-{secrets.token_hex(4)}"
        try:
            path.rename(away)
        except FileNotFoundError:
            return
        self.remove(away)

    def remove(self, *paths: Path) -> None:
        """Remove trees that nobody sees any more in the background."""
        self._gone += paths
        self._wake()

    # -- what is ready -----------------------------------------------------------

    def take(self, mount: RootfsMount, directory: Path) -> bool:
        """Let a ready directory become the new container's; False when there is none."""
        key = _key(mount, directory)
        if key is None:
            return False
        shelf = self._shelves.pop(key, None)
        if shelf is None:
            shelf = _Shelf(mount)
            for old in list(self._shelves)[: len(self._shelves) - _IMAGES + 1]:
                self.remove(*self._shelves.pop(old).ready)
        else:
            shelf.target = min(shelf.target * 2, _MOST)
        self._shelves[key] = shelf  # the last one was asked for last
        if shelf.target > _FIRST and len(shelf.ready) <= _FIRST:
            self._urgent.set()
        self._wake()
        if not shelf.ready:
            return False
        try:
            shelf.ready.pop().rename(directory)
        except FileNotFoundError:
            return False
        return True

    def reserve(self, mount: RootfsMount, directory: Path) -> Path | None:
        """Take a ready directory that fits ``mount``, which is in ``directory``, off its shelf."""
        shelf = self._shelves.get(_key(mount, directory) or ("", ""))
        return shelf.ready.pop() if shelf is not None and shelf.ready else None

    def give_back(self, mount: RootfsMount, directory: Path, path: Path) -> None:
        """``path`` is ready again; see :meth:`reserve`."""
        shelf = self._shelves.get(_key(mount, directory) or ("", ""))
        if shelf is None:
            self.remove(path)
        else:
            shelf.ready.append(path)

    # -- the work ----------------------------------------------------------------

    def _wake(self) -> None:
        if len(self._gone) >= MANY:
            self._urgent.set()
        self._last = asyncio.get_running_loop().time()
        if self._worker is None:
            self._worker = self._background(self._work(), "removing what is gone")

    async def _work(self) -> None:
        try:
            while self._gone or (self._missing() and not self._closing):
                await self._quiet()
                await self._once()
        finally:
            self._worker = None

    async def _quiet(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LATEST
        while not self._urgent.is_set():
            until = min(self._last + QUIET, deadline)
            if until <= loop.time():
                return
            try:
                async with asyncio.timeout_at(until):
                    await self._urgent.wait()
            except TimeoutError:
                continue

    def _missing(self) -> list[tuple[_Shelf, Path]]:
        # Half empty, not one less: a call costs a fork however many it makes.
        return [
            (shelf, self.ready_dir / secrets.token_hex(8))
            for shelf in self._shelves.values()
            if len(shelf.ready) * 2 <= shelf.target
            for _ in range(shelf.target - len(shelf.ready))
        ]

    async def _once(self) -> None:
        if not self._closing:
            self._urgent.clear()
        gone, self._gone = self._gone, []
        missing = [] if self._closing else self._missing()
        try:
            for _, path in missing:
                path.mkdir(mode=0o700)
                make_etc(path)
        except OSError as error:
            # The disk is full, perhaps for a moment: containers make their own.
            _log.warning("no directories are made ahead: %s", error.strerror)
            gone += [path for _, path in missing if path.exists()]
            for shelf, _ in missing:
                self._forget(shelf)
            missing = []
        mounts = [_moved(shelf.mount, path) for shelf, path in missing]
        try:
            failed = await self._call(
                "storage.tree.housekeep",
                make=[rootfs_to_json(mount) for mount in mounts],
                remove=[str(path) for path in gone],
            )
        except RootlessError as error:
            # No launcher: the next daemon removes what is left, containers make their own.
            self._shelves.clear()
            _log.error("%d trees are not removed yet: %s", len(gone), error)
            return
        assert isinstance(failed, dict)
        for (shelf, path), mount in zip(missing, mounts, strict=True):
            if mount.upper in failed:
                self._forget(shelf)
                self._gone.append(path)
                if not Path(mount.lowers[0]).exists():
                    del failed[mount.upper]  # an image that was removed meanwhile
            else:
                shelf.ready.append(path)
        for path in failed:
            _log.error("%s: %s", path, failed[path])

    def _forget(self, shelf: _Shelf) -> None:
        for key in [key for key, found in self._shelves.items() if found is shelf]:
            self._gone += self._shelves.pop(key).ready

    def flush(self) -> None:
        """Do what is left at once, without making anything: the daemon ends."""
        self._closing = True
        self._urgent.set()

    def leftovers(self) -> Iterable[Path]:
        """What an earlier daemon left; asked before anything is made."""
        return [*self.trash_dir.iterdir(), *self.ready_dir.iterdir()]


def _key(mount: RootfsMount, directory: Path) -> tuple[str, str] | None:
    """What the directories depend on (``drivers.base.prepare_overlay``); None for a full copy."""
    lower = mount.lowers[0] if mount.lowers else ""
    if not mount.work or not lower or lower.startswith(f"{directory}/"):
        return None
    return mount.driver, lower


def _moved(mount: RootfsMount, directory: Path) -> RootfsMount:
    return replace(
        mount,
        lowers=mount.lowers[:1],
        upper=f"{directory}/{Path(mount.upper).name}",
        work=f"{directory}/{Path(mount.work).name}",
    )
