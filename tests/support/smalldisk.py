"""An engine whose data root is a small file system of its own, made without root.

The daemon runs in a user and a mount namespace that map the user and its subordinate
ids to themselves, on a tmpfs that only it and its children see. It keeps the
capabilities over that namespace: newuidmap is setuid to an id that does not exist
there, and works with these instead.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.engine import Engine, new_engine

_MOUNT = 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"'
_PIECE = 1 << 20


def _subordinate(file: str) -> str:
    """The user's first range as unshare(1) takes it, mapped to itself."""
    user = pwd.getpwuid(os.getuid()).pw_name
    for line in Path(file).read_text().splitlines():
        name, start, count = line.split(":")
        if name in (user, str(os.getuid())):
            return f"{start},{start},{count}"
    raise AssertionError(f"{user} has no range in {file}")


@dataclass(frozen=True)
class SmallDisk:
    """The engine and its disk."""

    engine: Engine

    @property
    def data(self) -> Path:
        """The data root as the daemon sees it."""
        assert self.engine.daemon is not None
        return Path(f"/proc/{self.engine.daemon.pid}/root{self.engine.data}")

    @property
    def used(self) -> int:
        """Bytes in use."""
        found = os.statvfs(self.data)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    @property
    def left(self) -> int:
        """Bytes that could still be written."""
        found = os.statvfs(self.data)
        return found.f_bfree * found.f_frsize

    @contextmanager
    def filled(self, *, leave: int = 0) -> Iterator[None]:
        """With no more than ``leave`` bytes free."""
        path = self.data.parent / "filler"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            with suppress(OSError):
                while (room := self.left - leave) > 0:
                    os.write(fd, bytes(min(room, _PIECE)))
            assert self.left <= leave
            yield
        finally:
            os.close(fd)
            path.unlink()


@contextmanager
def small_disk(options: str, **settings: object) -> Iterator[SmallDisk]:
    """An engine on a tmpfs with ``options`` (tmpfs(5): size, nr_inodes)."""
    with new_engine(start=False, **settings) as engine:
        engine.wrapper = (
            *("unshare", "--user", "--mount", "--keep-caps", "--map-current-user"),
            f"--map-users={_subordinate('/etc/subuid')}",
            f"--map-groups={_subordinate('/etc/subgid')}",
            *("sh", "-c", _MOUNT, f"mode=700,{options}", str(engine.root / "d")),
        )
        engine.start()
        yield SmallDisk(engine)
