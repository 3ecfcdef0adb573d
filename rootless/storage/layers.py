"""The layer store: each layer unpacked once, under its diff id.

::

    layers/<diff hex>/fs/         the tree, ids of the image + 1
    layers/<diff hex>/meta.json   size, entries, highest id
    layers/tmp-<diff hex>-XXXX/   being unpacked

A layer appears by one rename after everything in it was synced, so a directory
without ``tmp-`` is complete. The daemon (which owns ``layers/``) begins, looks up
and renames; what is in ``fs/`` belongs to subordinate ids, so unpacking, syncing
and removing its content happen inside the engine's user namespace (``tree``).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rootless import ids
from rootless.errors import InvalidInput, NotFound, RootlessError
from rootless.linux.sync import fsync_dir, write_new

_TEMPORARY = "tmp-"
_REMOVED = "tmp-removed-"


@dataclass(frozen=True, slots=True)
class LayerMeta:
    """``size`` is the bytes of file content; ``max_id`` the highest id of the image in it."""

    diff_id: str
    size: int
    entries: int
    max_id: int
    privileged: tuple[str, ...] | None = None
    """Its files with set-id bits or capabilities (``privileged``), None before anybody asked."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A complete layer; ``fs`` is the absolute path a graph driver takes as a lower."""

    meta: LayerMeta
    fs: str


def _read(path: Path) -> LayerMeta:
    """Raises ValueError or TypeError for what is no record."""
    meta = LayerMeta(**json.loads(path.read_bytes()))
    names = meta.privileged
    return meta if names is None else replace(meta, privileged=tuple(names))


class LayerStore:
    """Layers below ``root``, by diff id (``sha256:…``)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[int, int, Layer]] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _path(self, diff_id: str) -> Path:
        if not ids.is_digest(diff_id):
            raise InvalidInput(f"not a diff id: {diff_id!r}")
        return self._root / diff_id.partition(":")[2]

    def begin(self, diff_id: str) -> Path:
        """A new temporary directory for unpacking; create ``fs`` in it, then :meth:`commit`.

        Two may unpack the same layer: the second to commit is told to drop its copy.
        """
        name = self._path(diff_id).name
        made = self._root / f"{_TEMPORARY}{name}-{secrets.token_hex(4)}"
        made.mkdir(mode=0o700)
        return made

    def commit(self, temporary: Path, meta: LayerMeta) -> Layer:
        """Make the synced content of ``temporary`` the layer ``meta.diff_id``.

        The caller ran ``tree.sync_layer`` on it. When the layer exists meanwhile,
        that one is returned and ``temporary`` becomes a leftover to remove.
        """
        target = self._path(meta.diff_id)
        write_new(temporary / "meta.json", json.dumps(asdict(meta)).encode())
        fsync_dir(temporary)
        try:
            temporary.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise RootlessError(
                    f"layer {meta.diff_id} cannot be stored: {error.strerror}"
                ) from None
        fsync_dir(self._root)
        return self.get(meta.diff_id)

    def lookup(self, diff_id: str) -> Layer | None:
        """The layer, or None when it is not there. Its record is read again when it changed."""
        path = self._path(diff_id)
        try:
            now = os.stat(f"{path}/meta.json")
            known = self._known.get(diff_id)
            if known is not None and known[:2] == (now.st_ino, now.st_mtime_ns):
                return known[2]
            meta = _read(path / "meta.json")
        except FileNotFoundError:
            self._known.pop(diff_id, None)
            return None
        except (ValueError, TypeError):
            raise RootlessError(
                f"layer {diff_id} is damaged: {path / 'meta.json'} cannot be read",
                hint=f"mv {path} {path}.damaged; it is unpacked again when it is next used",
            ) from None
        layer = Layer(meta, f"{path}/fs")
        self._known[diff_id] = now.st_ino, now.st_mtime_ns, layer
        return layer

    def record_privileged(self, diff_id: str, names: Sequence[str]) -> None:
        """Keep which of a layer's files are privileged; it never changes."""
        path = self._path(diff_id)
        meta = replace(self.get(diff_id).meta, privileged=tuple(names))
        new = path / "meta.json.new"
        new.unlink(missing_ok=True)
        write_new(new, json.dumps(asdict(meta)).encode())
        new.replace(path / "meta.json")
        fsync_dir(path)

    def get(self, diff_id: str) -> Layer:
        """The layer; raises NotFound."""
        found = self.lookup(diff_id)
        if found is None:
            raise NotFound(f"layer {diff_id} is not unpacked", hint="pull the image again")
        return found

    def all(self) -> Iterator[Layer]:
        """Every complete layer, in the order of their diff ids."""
        for entry in sorted(os.listdir(self._root)):
            if ids.is_digest(f"sha256:{entry}"):
                found = self.lookup(f"sha256:{entry}")
                if found is not None:
                    yield found

    def remove(self, diff_id: str) -> Path | None:
        """Take the layer out of the store at once; the path returned is left to ``remove_tree``.

        None when there was none. The caller made sure that no image and no
        container uses it.
        """
        away = self._root / f"{_REMOVED}{secrets.token_hex(8)}"
        try:
            self._path(diff_id).rename(away)
        except FileNotFoundError:
            return None
        fsync_dir(self._root)
        return away

    def size(self) -> int:
        """Bytes of file content in all layers."""
        return sum(layer.meta.size for layer in self.all())

    def leftovers(self) -> list[Path]:
        """What a crash left: for ``remove_tree`` at start-up, before anything unpacks."""
        found = [self._root / n for n in sorted(os.listdir(self._root)) if n.startswith(_TEMPORARY)]
        for entry in os.listdir(self._root):
            path = self._root / entry
            if ids.is_digest(f"sha256:{entry}") and not (path / "meta.json").exists():
                found.append(path)
        return found
