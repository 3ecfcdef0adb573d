"""state.db: the records that must survive any crash of the daemon.

WAL with ``synchronous=NORMAL``: a transaction is one append to the log without
an fsync (sqlite.org/wal.html), which survives ``kill -9`` of the process at any
point; a power cut can lose the last transactions but never corrupts. Only the
checkpoint syncs, so it runs off the hot path (:meth:`State.checkpoint`).

What changes with every transition (:class:`ContainerState`) is kept apart from
what does not (spec, config), and both from the text of the seccomp profile, which has
some 40 KB and is the same for most: a transition writes a few pages.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import ENOSPC
from functools import lru_cache
from pathlib import Path

import msgspec

from rootless.engine import reserve
from rootless.errors import Conflict, Exhausted, RootlessError, Unavailable, no_space
from rootless.model.image import Voucher
from rootless.model.network import NetworkRecord
from rootless.model.records import ContainerRecord, ContainerState, ExecRecord, NetworkState

SCHEMA_VERSION = 5

_PROFILES = """
CREATE TABLE profiles (
    digest TEXT PRIMARY KEY,
    text TEXT NOT NULL
) WITHOUT ROWID;
"""

_NETWORKS = """
CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_ns INTEGER NOT NULL,
    body BLOB NOT NULL
) WITHOUT ROWID;
"""

_VOUCHERS = """
CREATE TABLE vouchers (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    repository TEXT NOT NULL,
    PRIMARY KEY (image_id, key, digest, repository)
) WITHOUT ROWID;
"""

_IMAGE_OWNERS = """
CREATE TABLE image_owners (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    owner TEXT NOT NULL,
    PRIMARY KEY (image_id, owner)
) WITHOUT ROWID;
"""

_SCHEMA = f"""{_PROFILES}{_NETWORKS}
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_ns INTEGER NOT NULL,
    fixed BLOB NOT NULL,
    live BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE execs (
    id TEXT PRIMARY KEY,
    container_id TEXT NOT NULL REFERENCES containers(id) ON DELETE CASCADE,
    body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX execs_by_container ON execs(container_id);
CREATE TABLE images (
    id TEXT PRIMARY KEY,
    manifest_digest TEXT NOT NULL,
    parent TEXT NOT NULL,
    tagged_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE image_names (
    reference TEXT PRIMARY KEY,
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
{_VOUCHERS}{_IMAGE_OWNERS}"""

_MIGRATIONS: dict[int, str] = {
    1: _PROFILES, 2: _NETWORKS, 3: _VOUCHERS, 4: _IMAGE_OWNERS,
}  # fmt: skip
"""SQL that takes a database from version N to N + 1."""


Statement = tuple[str, Sequence[tuple[object, ...]]]
"""SQL and the rows it is executed with."""


@dataclass(frozen=True, slots=True)
class _Live:
    state: ContainerState
    network: NetworkState


_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(ContainerRecord).decode
_decode_live = msgspec.json.Decoder(_Live).decode
_decode_exec = msgspec.json.Decoder(ExecRecord).decode
_decode_network = msgspec.json.Decoder(NetworkRecord).decode


class State:
    """The only writer of ``state.db``; used from one thread."""

    def __init__(self, path: Path) -> None:
        """Open or make the database; raises RootlessError for one of a newer version."""
        self._path = path
        self._pending = 0
        self._profiles: set[str] = set()
        self._reserve = path.with_name(path.name + ".reserve")
        self._spent = False
        # isolation_level None: transactions are begun here, not guessed by the module.
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
        except sqlite3.OperationalError as error:
            raise RootlessError(
                f"cannot open the state database {path}: {error}",
                hint="it must be a file of your own in a directory you can write to",
            ) from error
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise RootlessError(
                f"cannot open the state database {path}: {error}",
                hint="move it away; containers that still run are then unknown to the engine",
            ) from error
        except BaseException:
            self._db.close()
            raise

    def _open(self) -> None:
        try:
            self._configure()
            self._migrate()
        except sqlite3.OperationalError as error:
            # Even reading needs some pages of shared memory beside the database.
            full = _may_be_full(error) or error.sqlite_errorname == "SQLITE_CANTOPEN"
            if not (full and reserve.give_up(self._reserve)):
                raise
            self._configure()
            self._migrate()
        reserve.set_aside(self._reserve)
        # Read once, so that the log is open: sqlite takes no notice of what follows its end.
        self._db.execute("SELECT count(*) FROM settings").fetchone()
        reserve.set_aside(self._path.with_name(self._path.name + "-wal"))

    def _configure(self) -> None:
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "wal_autocheckpoint=0",
            "busy_timeout=5000",
            "cache_size=-512",
        ):
            self._db.execute(f"PRAGMA {pragma}")

    def _migrate(self) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise RootlessError(
                f"{self._path} was written by a newer engine (schema {version}, "
                f"this one knows {SCHEMA_VERSION})",
                hint="start the newer engine, or use another --data-root",
            )
        while version < SCHEMA_VERSION:
            script = _MIGRATIONS[version] if version else _SCHEMA
            version = version + 1 if version else SCHEMA_VERSION
            # executescript commits first, so the transaction is part of the script.
            self._db.executescript(f"BEGIN;{script};PRAGMA user_version={version};COMMIT;")

    def _write(self, *statements: Statement) -> None:
        """One transaction; Exhausted when the disk is full, and nothing of it was written.

        The log has space of its own, and can be used again once the database has taken
        over what it holds; that may need the space set aside.
        """
        try:
            self._attempt(statements)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            if not _may_be_full(error):
                raise _unwritten(self._path, error) from error
            self._make_room()
            try:
                self._attempt(statements)
            except sqlite3.DatabaseError as again:
                raise _unwritten(self._path, again) from error
        else:
            if self._spent:
                self._spent = not reserve.set_aside(self._reserve)
        self._pending += 1

    def _attempt(self, statements: Sequence[Statement]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for sql, rows in statements:
                self._db.executemany(sql, rows)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # sqlite may have rolled back already
                self._db.execute("ROLLBACK")
            raise

    def _make_room(self) -> None:
        """Let the log be written from its start again."""
        for spend in (False, True):
            if spend:
                self._spent = reserve.give_up(self._reserve) or self._spent
            with suppress(sqlite3.OperationalError):
                busy, frames, moved = self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
                if not busy and frames == moved:
                    return

    def containers(self) -> Sequence[ContainerRecord]:
        """Every container, oldest first. Forgets the profiles of those that are gone."""
        profiles = dict(self._db.execute("SELECT digest, text FROM profiles"))
        rows = self._db.execute("SELECT fixed, live FROM containers ORDER BY created_ns")
        records = [_join(fixed, live, profiles) for fixed, live in rows]
        used = {_digest(record.spec.seccomp.profile) for record in records}
        self._profiles = used & profiles.keys()
        unused = [(digest,) for digest in profiles.keys() - self._profiles]
        if unused:
            self._write(("DELETE FROM profiles WHERE digest = ?", unused))
        return records

    def add_container(self, record: ContainerRecord) -> None:
        """Insert a record; Conflict when its name is taken."""
        self._keep_profile(record)
        try:
            row = (
                record.id,
                record.name,
                record.spec.created_ns,
                _fixed(record),
                _live(record),
            )
            self._write(("INSERT INTO containers VALUES (?, ?, ?, ?, ?)", [row]))
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f'Conflict. The container name "/{record.name}" is already in use'
            ) from error

    def update_container(self, record: ContainerRecord) -> None:
        """Rewrite everything of a container (rename, update of limits)."""
        self._keep_profile(record)
        row = (record.name, _fixed(record), _live(record), record.id)
        self._write(("UPDATE containers SET name = ?, fixed = ?, live = ? WHERE id = ?", [row]))

    def save_live(self, record: ContainerRecord) -> None:
        """Write a transition: state and network only."""
        row = (_live(record), record.id)
        self._write(("UPDATE containers SET live = ? WHERE id = ?", [row]))

    def remove_container(self, container_id: str) -> None:
        """Forget a container and its execs."""
        self._write(("DELETE FROM containers WHERE id = ?", [(container_id,)]))

    def _keep_profile(self, record: ContainerRecord) -> None:
        text = record.spec.seccomp.profile
        digest = _digest(text)
        if digest not in self._profiles:
            self._write(("INSERT OR IGNORE INTO profiles VALUES (?, ?)", [(digest, text)]))
            self._profiles.add(digest)

    def execs(self) -> Sequence[ExecRecord]:
        """Every exec that is still known."""
        return [_decode_exec(row[0]) for row in self._db.execute("SELECT body FROM execs")]

    def put_exec(self, record: ExecRecord) -> None:
        """Insert or replace an exec."""
        sql = (
            "INSERT INTO execs VALUES (?, ?, ?) ON CONFLICT(id) DO UPDATE SET body = excluded.body"
        )
        self._write((sql, [(record.id, record.container_id, _encode(record))]))

    def remove_execs(self, ids: Sequence[str]) -> None:
        """Forget execs."""
        self._write(("DELETE FROM execs WHERE id = ?", [(i,) for i in ids]))

    def networks(self) -> Sequence[NetworkRecord]:
        """Every network that users made, oldest first."""
        rows = self._db.execute("SELECT body FROM networks ORDER BY created_ns")
        return [_decode_network(row[0]) for row in rows]

    def add_network(self, record: NetworkRecord) -> None:
        """Insert a network whose name is free."""
        row = (record.id, record.name, record.created_ns, _encode(record))
        self._write(("INSERT INTO networks VALUES (?, ?, ?, ?)", [row]))

    def remove_network(self, network_id: str) -> None:
        """Forget a network."""
        self._write(("DELETE FROM networks WHERE id = ?", [(network_id,)]))

    def images(self) -> Sequence[tuple[str, str, str, int]]:
        """(id, manifest digest, parent's id or '', when last tagged) of every image."""
        return list(self._db.execute("SELECT id, manifest_digest, parent, tagged_ns FROM images"))

    def image_names(self) -> Sequence[tuple[str, str]]:
        """(canonical reference with a tag or digest, image id)."""
        return list(self._db.execute("SELECT reference, image_id FROM image_names"))

    def put_image(
        self,
        image_id: str,
        manifest_digest: str,
        *,
        parent: str,
        tagged_ns: int,
        names: Sequence[str],
        vouchers: Sequence[Voucher] = (),
        owners: Sequence[str] = (),
    ) -> None:
        """Insert or update an image; ``names`` move to it from whatever they named before.

        ``owners`` come to those it has.
        """
        image = (
            "INSERT INTO images VALUES (?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET "
            "manifest_digest = excluded.manifest_digest, tagged_ns = excluded.tagged_ns",
            [(image_id, manifest_digest, parent, tagged_ns)],
        )
        named = (
            "INSERT INTO image_names VALUES (?, ?) "
            "ON CONFLICT(reference) DO UPDATE SET image_id = excluded.image_id",
            [(name, image_id) for name in names],
        )
        vouched = (
            "INSERT OR IGNORE INTO vouchers VALUES (?, ?, ?, ?)",
            [(image_id, each.key, each.digest, each.repository) for each in vouchers],
        )
        owned = (
            "INSERT OR IGNORE INTO image_owners VALUES (?, ?)",
            [(image_id, owner) for owner in owners],
        )
        self._write(image, named, vouched, owned)

    def image_owners(self) -> Sequence[tuple[str, str]]:
        """(image id, who brought it) of every image."""
        return list(self._db.execute("SELECT image_id, owner FROM image_owners"))

    def remove_image_owner(self, image_id: str, owner: str) -> None:
        """Forget that somebody brought an image."""
        sql = "DELETE FROM image_owners WHERE image_id = ? AND owner = ?"
        self._write((sql, [(image_id, owner)]))

    def vouchers(self, image_id: str) -> Sequence[Voucher]:
        """The signatures of an image that were verified when it was pulled or loaded."""
        sql = "SELECT key, digest, repository FROM vouchers WHERE image_id = ?"
        return [Voucher(*row) for row in self._db.execute(sql, (image_id,))]

    def remove_image_names(self, references: Sequence[str]) -> None:
        """Forget names."""
        rows = [(reference,) for reference in references]
        self._write(("DELETE FROM image_names WHERE reference = ?", rows))

    def remove_image(self, image_id: str) -> None:
        """Forget an image and its names."""
        self._write(("DELETE FROM images WHERE id = ?", [(image_id,)]))

    def setting(self, key: str, make: Callable[[], str]) -> str:
        """A value made once and kept, such as the engine's id."""
        row = self._db.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return str(row[0])
        value = make()
        self._write(("INSERT INTO settings VALUES (?, ?)", [(key, value)]))
        return value

    def change_setting(self, key: str, value: str) -> None:
        """Give a setting another value."""
        self._write(("UPDATE settings SET value = ? WHERE key = ?", [(value, key)]))

    @property
    def wants_checkpoint(self) -> bool:
        """Enough was written since the last checkpoint to be worth a sync."""
        return self._pending >= 500

    def checkpoint(self) -> None:
        """Move the log into the database. Blocks on the disk: call from another thread."""
        self._pending = 0
        with sqlite3.connect(self._path, isolation_level=None) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        other.close()

    def close(self) -> None:
        """Checkpoint and close."""
        self._db.close()


def _may_be_full(error: sqlite3.DatabaseError) -> bool:
    """Whether more space may help.

    The log's index in shared memory reports a full disk in its own way, and what is not
    ENOSPC, such as a quota's EDQUOT, is an error of writing like any other (sqlite's os_unix.c).
    """
    name = error.sqlite_errorname
    return name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE")


def _unwritten(path: Path, error: sqlite3.DatabaseError) -> RootlessError:
    """What an error of sqlite's means to the user; nothing was written."""
    name, what = error.sqlite_errorname, f"writing {path}"
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
        full = no_space(what, OSError(ENOSPC, ""))
        assert full is not None
        return full
    if name.startswith("SQLITE_IOERR"):
        return Exhausted(
            f"{what}: {error} ({name})",
            hint="a disk quota may be used up (quota -s); dmesg tells of a disk that fails",
        )
    if name.startswith("SQLITE_READONLY"):
        return Exhausted(
            f"{what}: read-only file system",
            hint="mount it writable; dmesg tells what happened to it",
        )
    if name.startswith("SQLITE_BUSY"):
        return Unavailable(f"{what}: {error}", hint="another program holds it open: end that")
    return RootlessError(f"{what}: {error} ({name})", hint="restart the daemon; its log tells more")


@lru_cache(maxsize=8)
def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _with_profile(record: ContainerRecord, profile: str) -> ContainerRecord:
    seccomp = replace(record.spec.seccomp, profile=profile)
    return replace(record, spec=replace(record.spec, seccomp=seccomp))


def _fixed(record: ContainerRecord) -> bytes:
    record = _with_profile(record, _digest(record.spec.seccomp.profile))
    return _encode(replace(record, state=ContainerState(), network=NetworkState()))


def _live(record: ContainerRecord) -> bytes:
    return _encode(_Live(record.state, record.network))


def _join(fixed: bytes, live: bytes, profiles: dict[str, str]) -> ContainerRecord:
    moving, record = _decode_live(live), _decode_record(fixed)
    # Version 1 had the text itself here.
    profile = record.spec.seccomp.profile
    record = _with_profile(record, profiles.get(profile, profile))
    return replace(record, state=moving.state, network=moving.network)
