"""Runs inside the ``rootless`` command: its modules, from one file.

To find, open and check 28 files takes the interpreter 1.5 ms, an eighth of what a
command line costs that only speaks to the daemon. Here that is one read, and one
stat(2) for each module: as with a ``.pyc``, a source that was changed since is
imported from its own file. No part of the engine imports this one: its code is
the bundle's first object, with ``FILE`` open behind it.
"""

from __future__ import annotations

import marshal
import sys
from _frozen_importlib import ModuleSpec
from posix import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import IO

    FILE: IO[bytes]
    Entry = tuple[str, bool, int, int, bytes]
    """Path of the source, whether it is a package, its time and size, its marshalled code."""


class Bundle:
    """An importer of what the table holds (PEP 451)."""

    def __init__(self, table: dict[str, Entry]) -> None:
        self.table = table

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        """A spec for a module that is here, and still what its source says."""
        if (entry := self.table.get(name)) is None:
            return None
        source, package, time, size, _ = entry
        try:
            found = stat(source)
        except OSError:
            return None
        if (int(found.st_mtime), found.st_size) != (time, size):
            return None
        spec = ModuleSpec(name, self, is_package=package)  # type: ignore[arg-type]  # is one by PEP 451; the class would be another import
        if package:
            spec.submodule_search_locations = [source.rpartition("/")[0]]
        return spec

    def create_module(self, _spec: object) -> None:
        """The interpreter's own kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill it."""
        source, *_, code = self.table[module.__name__]
        module.__file__ = source
        exec(marshal.loads(code), module.__dict__)  # noqa: S102, S302  # as for a .pyc: the installer made it


sys.meta_path.insert(0, Bundle(marshal.load(FILE)))  # noqa: F821, S302  # the script opened it; the installer made it
