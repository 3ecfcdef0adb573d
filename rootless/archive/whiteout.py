"""How "removed in this layer" is written in archives and on disk.

In an archive (OCI image spec, layer.md, "Whiteouts"): an empty file
``.wh.NAME`` removes NAME of the layers below, ``.wh..wh..opq`` hides everything
that lower layers have in its directory. On disk it depends on the graph
driver; the storage layer passes an object with these methods.
"""

from __future__ import annotations

import os
from typing import Protocol

PREFIX = b".wh."
META_PREFIX = b".wh..wh."
OPAQUE = b".wh..wh..opq"


class WhiteoutWriter(Protocol):
    """Turns an archive's whiteouts into the disk's."""

    def remove(self, parent: int, name: bytes) -> None:
        """Hide ``name`` of lower layers in the directory ``parent`` (a descriptor).

        The name does not exist in ``parent`` when this is called.
        """

    def opaque(self, directory: int) -> None:
        """Hide everything lower layers have in ``directory`` (a readable descriptor)."""


class WhiteoutReader(Protocol):
    """Recognises the disk's whiteouts when an archive is made."""

    def is_removed(self, parent: int, name: bytes, status: os.stat_result) -> bool:
        """True when ``name`` in directory ``parent`` is a whiteout; ``status`` is its lstat."""

    def is_opaque(self, directory: int) -> bool:
        """True when ``directory`` (a descriptor) hides the layers below."""

    def is_mark(self, name: bytes) -> bool:
        """True for a name that belongs to the form itself and is no content."""
