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

from tests.support.engine import Engine, new_engine, subordinate_ranges

_MOUNT = """
mount --bind "$0/subuid" /etc/subuid && mount --bind "$0/subgid" /etc/subgid &&
mount -t tmpfs -o "$1" tmpfs "$2" && shift 2 && exec "$@"
"""
_PIECE = 1 << 20


def _subordinate(kind: str, engine: Engine) -> str:
    """The user's widest range as unshare(1) takes it, mapped to itself; it takes only one.

    The engine is to know no other: one goes into the file that stands for /etc/subuid there.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    count, start = max((count, start) for start, count in subordinate_ranges(kind))
    (engine.root / kind).write_text(f"{user}:{start}:{count}\n")
    return f"{start},{start},{count}"


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
    def files(self) -> int:
        """Inodes in use."""
        found = os.statvfs(self.data)
        return found.f_files - found.f_ffree

    @property
    def left(self) -> int:
        """Bytes that could still be written."""
        found = os.statvfs(self.data)
        return found.f_bfree * found.f_frsize

    @property
    def files_left(self) -> int:
        """Inodes that could still be taken."""
        return os.statvfs(self.data).f_ffree

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


def on_tmpfs(engine: Engine, where: Path, options: str) -> tuple[str, ...]:
    """The ``wrapper`` of an engine that sees a tmpfs at ``where``, and nobody else does."""
    return (
        *("unshare", "--user", "--mount", "--keep-caps", "--map-current-user"),
        f"--map-users={_subordinate('subuid', engine)}",
        f"--map-groups={_subordinate('subgid', engine)}",
        *("sh", "-c", _MOUNT, str(engine.root), options, str(where)),
    )


@contextmanager
def small_disk(options: str, **settings: object) -> Iterator[SmallDisk]:
    """An engine on a tmpfs with ``options`` (tmpfs(5): size, nr_inodes)."""
    with new_engine(start=False, **settings) as engine:
        engine.wrapper = on_tmpfs(engine, engine.root / "d", f"mode=700,{options}")
        engine.start()
        yield SmallDisk(engine)
