"""One inotify(7) instance for all log followers.

A user may hold 128 instances in all (``user.max_inotify_instances``), which as
many ``logs -f`` would use up; watches are plentiful.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rootless.errors import Exhausted


class FileWatcher:
    """Tells that a file in a directory was written, made or renamed."""

    def __init__(self) -> None:
        self._inotify: Any = None
        self._fd = -1
        self._watches: dict[int, dict[str, set[asyncio.Event]]] = {}

    @contextmanager
    def watch(self, directory: Path, name: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever ``directory/name`` changes; the caller clears it."""
        from inotify_simple import flags

        inotify = self._open()
        mask = flags.MODIFY | flags.CREATE | flags.MOVED_TO
        try:
            # Watching the same directory again gives the same number (inotify(7)).
            number = inotify.add_watch(directory, mask)
        except OSError as error:
            raise Exhausted(
                f"cannot watch {directory}: {error.strerror}",
                hint="sudo sysctl fs.inotify.max_user_watches=524288",
            ) from error
        changed = asyncio.Event()
        self._watches.setdefault(number, {}).setdefault(name, set()).add(changed)
        try:
            yield changed
        finally:
            self._unwatch(number, name, changed)

    def _unwatch(self, number: int, name: str, changed: asyncio.Event) -> None:
        names = self._watches.get(number)
        if names is None:
            return
        names[name].discard(changed)
        if not names[name]:
            del names[name]
        if not names:
            del self._watches[number]
            try:
                self._inotify.rm_watch(number)
            except OSError:
                # The directory is gone and the kernel removed the watch itself.
                return

    def _open(self) -> Any:
        if self._inotify is None:
            from inotify_simple import INotify

            try:
                self._inotify = INotify(nonblocking=True)
            except OSError as error:
                raise Exhausted(
                    f"cannot open an inotify instance: {error.strerror}",
                    hint="sudo sysctl fs.inotify.max_user_instances=512",
                ) from error
            self._fd = self._inotify.fileno()
            asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return self._inotify

    def _readable(self) -> None:
        for event in self._inotify.read(timeout=0):
            names = self._watches.get(event.wd, {})
            if event.mask & 0x4000:  # IN_Q_OVERFLOW: something changed, nobody knows what
                names = {k: v for every in self._watches.values() for k, v in every.items()}
                targets = [e for events in names.values() for e in events]
            else:
                targets = list(names.get(event.name, ()))
            for changed in targets:
                changed.set()

    def close(self) -> None:
        """Close the instance; watches end."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._inotify.close()
            self._inotify = None
