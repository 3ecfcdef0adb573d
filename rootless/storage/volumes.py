"""Named and anonymous volumes.

::

    volumes/<name>/meta.json    labels, options, creation time
    volumes/<name>/_data/       the content, owned by subordinate ids
    volumes/.tmp-XXXX/          being made or removed

A volume appears and disappears by one rename. The store runs in the daemon;
``_data`` is made (``tree.make_volume``), filled (``tree.copy_up``) and removed
(``tree.remove_tree``) inside the engine's user namespace.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rootless import ids
from rootless.errors import Conflict, InvalidInput, NotFound, RootlessError
from rootless.linux.sync import fsync_dir, write_new
from rootless.model.mounts import IdMap
from rootless.storage import localdriver

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Docker's label of volumes nobody named; prune takes only those by default."""
_TEMPORARY = ".tmp-"
"""No volume can be called so (``ids.check_name``)."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume. ``options`` are those of driver ``local`` (type, device, o).

    ``id_maps`` says in whose ids the content is stored: () for layers and
    ``shared`` containers (image id + 1), else the map of a container in mode
    ``auto``. ``moving_to`` is set while that changes.
    """

    name: str
    created_ns: int
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    driver: str = "local"
    anonymous: bool = False
    id_maps: tuple[IdMap, ...] = ()
    moving_to: tuple[IdMap, ...] | None = None
    owner: str = ""
    """Who made it (``Identity.key``); '' where nobody wrote that down."""


def check_name(name: str) -> None:
    """Refuse what is no volume's name, in the words of Docker's driver ``local``."""
    if len(name) == 1:
        raise InvalidInput(
            "volume name is too short, names should be at least two alphanumeric characters"
        )
    if name.startswith("/") or not ids.is_name(name):
        raise InvalidInput(
            f'"{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )
    ids.check_name(name, what="volume")  # its length


class VolumeStore:
    """Volumes below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(
        self,
        name: str,
        make_data: Callable[[str], object],
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        driver: str = "local",
        anonymous: bool = False,
        owner: str = "",
    ) -> Volume:
        """:meth:`begin`, ``make_data(path)`` and :meth:`commit` in one.

        ``make_data`` runs ``tree.make_volume`` in the engine's user namespace.
        """
        volume, temporary = self.begin(
            name,
            labels=labels,
            options=options,
            driver=driver,
            anonymous=anonymous,
            owner=owner,
        )
        if temporary is None:
            return volume
        make_data(str(temporary / "_data"))
        return self.commit(volume, temporary)

    def begin(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        driver: str = "local",
        anonymous: bool = False,
        owner: str = "",
    ) -> tuple[Volume, Path | None]:
        """The new volume and the temporary directory to make ``_data`` in before :meth:`commit`.

        An existing volume is returned as it is (with None), like Docker does,
        unless the options differ. '' makes an anonymous volume with a random
        name; ``anonymous`` one with a name chosen before.
        """
        if driver not in ("", "local"):
            raise NotFound(
                f"create {name}: error looking up volume plugin {driver[:80]}: "
                f'plugin "{driver[:80]}" not found',
                hint="this engine has driver local",
            )
        anonymous = anonymous or not name
        name = name or ids.new_id()
        wanted = tuple(sorted((options or {}).items()))
        try:
            check_name(name)
            localdriver.check(dict(wanted))
        except InvalidInput as error:
            raise InvalidInput(f"create {name}: {error.message}", hint=error.hint) from None
        existing = self.lookup(name)
        if existing is not None:
            if wanted and wanted != existing.options:
                raise Conflict(
                    f"create {name}: a volume of this name exists with other options",
                    hint=f"rootless volume rm {name}, or choose another name",
                )
            return existing, None
        marks = dict(labels or {})
        if anonymous:
            marks[ANONYMOUS_LABEL] = ""
        volume = Volume(
            name,
            time.time_ns(),
            tuple(sorted(marks.items())),
            wanted,
            anonymous=anonymous,
            owner=owner,
        )
        temporary = self._root / f"{_TEMPORARY}{secrets.token_hex(8)}"
        temporary.mkdir(mode=0o700)
        return volume, temporary

    def commit(self, volume: Volume, temporary: Path) -> Volume:
        """Let the volume appear; when another one of its name was faster, that one is returned."""
        write_new(temporary / "meta.json", json.dumps(asdict(volume)).encode())
        fsync_dir(temporary)
        try:
            temporary.rename(self._root / volume.name)
        except OSError as error:
            existing = self.lookup(volume.name)
            if existing is not None:
                return existing
            raise RootlessError(f"volume {volume.name} cannot be made: {error.strerror}") from None
        fsync_dir(self._root)
        return volume

    def lookup(self, name: str) -> Volume | None:
        """The volume, or None."""
        path = self._root / ids.check_name(name, what="volume") / "meta.json"
        try:
            fields = json.loads(path.read_bytes())
            fields["labels"] = tuple((k, v) for k, v in fields["labels"])
            fields["options"] = tuple((k, v) for k, v in fields["options"])
            for key in ("id_maps", "moving_to"):
                if fields.get(key) is not None:
                    fields[key] = tuple(IdMap(**item) for item in fields[key])
            return Volume(**fields)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise RootlessError(
                f"volume {name} is damaged: {path} cannot be read",
                hint=f"restore the file or remove the directory {path.parent}",
            ) from None

    def get(self, name: str) -> Volume:
        """The volume; raises NotFound with Docker's words."""
        found = self.lookup(name)
        if found is None:
            raise NotFound(f"no such volume: {name}", hint="rootless volume ls")
        return found

    def data(self, name: str) -> str:
        """The absolute path of the volume's content (Docker's Mountpoint)."""
        return str(self._root / name / "_data")

    def all(self) -> Iterator[Volume]:
        """Every volume by name."""
        for entry in sorted(os.listdir(self._root)):
            if entry.startswith(_TEMPORARY):
                continue
            found = self.lookup(entry)
            if found is not None:
                yield found

    def remove(self, name: str) -> Path:
        """Take volume ``name`` away at once; the path returned is left to ``remove_tree``.

        The caller made sure that no container uses it. Raises NotFound.
        """
        self.get(name)
        away = self._root / f"{_TEMPORARY}{secrets.token_hex(8)}"
        (self._root / name).rename(away)
        fsync_dir(self._root)
        return away

    def hand_over(
        self,
        name: str,
        id_maps: Sequence[IdMap],
        shift: Callable[[str, tuple[IdMap, ...], tuple[IdMap, ...]], object],
    ) -> None:
        """Let volume ``name`` belong to a container with ``id_maps`` (() for ``shared``).

        ``shift(path, before, after)`` runs ``tree.shift_ids`` in the engine's user
        namespace. To be called before a container that mounts the volume
        starts, and only while no other container that runs uses it. What a
        crash interrupted is finished by the next call.
        """
        volume, wanted = self.get(name), tuple(id_maps)
        if volume.moving_to is not None:
            volume = self._move(volume, volume.moving_to, shift)
        if volume.id_maps != wanted:
            volume = replace(volume, moving_to=wanted)
            self._rewrite(volume)
            self._move(volume, wanted, shift)

    def _move(
        self,
        volume: Volume,
        wanted: tuple[IdMap, ...],
        shift: Callable[[str, tuple[IdMap, ...], tuple[IdMap, ...]], object],
    ) -> Volume:
        shift(self.data(volume.name), volume.id_maps, wanted)
        if volume.id_maps and wanted:
            # Image content that was copied into it meanwhile is in the form of layers.
            shift(self.data(volume.name), (), wanted)
        moved = replace(volume, id_maps=wanted, moving_to=None)
        self._rewrite(moved)
        return moved

    def _rewrite(self, volume: Volume) -> None:
        directory = self._root / volume.name
        temporary = directory / f"meta.json{_TEMPORARY}{secrets.token_hex(4)}"
        write_new(temporary, json.dumps(asdict(volume)).encode())
        temporary.rename(directory / "meta.json")
        fsync_dir(directory)

    def prune_candidates(self, in_use: Collection[str], *, every: bool = False) -> list[Volume]:
        """Volumes no container uses: anonymous ones, or ``every`` one (``--all``).

        Not those with options: their content is elsewhere, and nothing would be won back (Docker).
        """
        used = frozenset(in_use)
        unused = (v for v in self.all() if v.name not in used and not v.options)
        return [v for v in unused if every or v.anonymous]

    def leftovers(self) -> list[Path]:
        """What a crash left: for ``remove_tree`` at start-up."""
        names = sorted(os.listdir(self._root))
        return [self._root / name for name in names if name.startswith(_TEMPORARY)]
