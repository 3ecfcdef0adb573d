"""The authority's directory: its keys, every certificate it issued, its revocation list.

::

    pki.json                 trust domain, kind of keys, number of the last list, who gets it
    root.pem root.key        the root; its key may be elsewhere, and is encrypted
    intermediate.pem .key    what signs, unless there is none
    issued/SERIAL.json       a record, written before the certificate is given out
    issued/SERIAL.pem        the certificate
    crl.pem                  the revocation list
    clients/NAME servers/NAME    ca.pem, cert.pem, key.pem: as Docker's tools want them

Each file is replaced whole; one process changes the directory at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rootless.errors import Conflict, InvalidInput, NotFound, RootlessError
from rootless.pki import files

VERSION = 1
ROOT, INTERMEDIATE = "root", "intermediate"
STATE, CRL, ISSUED = "pki.json", "crl.pem", "issued"
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class State:
    """``pki.json``."""

    trust_domain: str
    key_kind: str
    crl_number: int = 0
    installs: tuple[str, ...] = ()
    """Directories of daemons on this machine, which get each new revocation list."""


@dataclass(frozen=True, slots=True)
class Record:
    """One certificate that was issued. Times are UTC, to the second."""

    serial: str
    """Hexadecimal digits."""
    kind: str
    name: str
    role: str
    identity: str
    """The SPIFFE ID of a client; the names of a server, with commas between."""
    not_before: str
    not_after: str
    fingerprint: str
    """SHA-256 of the certificate."""
    made: int
    """Nanoseconds since 1970: which of a name's certificates is the last."""
    directory: str = ""
    """Where certificate and key were written; '' for one whose key its holder made."""
    revoked_at: str = ""
    reason: str = ""

    @property
    def ends(self) -> datetime:
        """When it is no longer valid."""
        return parse_time(self.not_after)

    @property
    def revoked(self) -> bool:
        """Whether it was taken back."""
        return bool(self.revoked_at)

    def is_live(self, now: datetime) -> bool:
        """Whether it still lets its holder in."""
        return not self.revoked and now < self.ends


def format_time(time: datetime) -> str:
    """ISO 8601 in UTC."""
    return time.astimezone(UTC).strftime(_TIME)


def parse_time(text: str) -> datetime:
    """What :func:`format_time` wrote."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def default_directory() -> Path:
    """``$XDG_CONFIG_HOME/rootless/pki``."""
    home = os.environ.get("HOME") or os.path.expanduser("~")
    return Path(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "rootless/pki"


class Store:
    """An authority's directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory

    @property
    def exists(self) -> bool:
        """Whether an authority was made here."""
        return (self.path / STATE).exists()

    def require(self) -> None:
        """NotFound when no authority is here; Denied when others could reach it."""
        if not self.exists:
            raise NotFound(
                f"no certificate authority in {self.path}",
                hint="make one with `rootless pki init`, or name another with --dir",
            )
        files.check_private(self.path, self.path.stat(), f"the authority's directory {self.path}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the directory; Conflict when another command does not end in time."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"another command is changing {self.path}", hint="try again when it is done"
                ) from None
            yield
        finally:
            os.close(fd)

    def state(self) -> State:
        """The authority's settings."""
        data = self._json(self.path / STATE)
        if data.pop("version", None) != VERSION:
            raise InvalidInput(
                f"{self.path / STATE} is of another version", hint="use the rootless that wrote it"
            )
        try:
            return State(**{**data, "installs": tuple(data.get("installs", ()))})
        except TypeError:
            raise InvalidInput(f"{self.path / STATE} is damaged") from None

    def save(self, state: State) -> None:
        """Write the settings."""
        text = json.dumps({"version": VERSION, **asdict(state)}, indent=2)
        files.replace(self.path / STATE, text.encode() + b"\n", 0o600)

    def add(self, record: Record, certificate: bytes) -> None:
        """Remember a certificate before it is given out: what is out can be taken back."""
        directory = self.path / ISSUED
        files.private_directory(directory, "directory of certificates")
        files.replace(directory / f"{record.serial}.pem", certificate, 0o600)
        self.update(record)

    def update(self, record: Record) -> None:
        """Write a record anew."""
        text = json.dumps(asdict(record), indent=2)
        files.replace(self.path / ISSUED / f"{record.serial}.json", text.encode() + b"\n", 0o600)

    def certificate(self, record: Record) -> bytes:
        """The certificate of a record, as PEM text."""
        return files.read(self.path / ISSUED / f"{record.serial}.pem", "certificate")

    def records(self) -> list[Record]:
        """All certificates, the oldest first."""
        found = []
        for path in (self.path / ISSUED).glob("*.json"):
            if path.name.startswith("."):
                continue  # a write that was cut off
            try:
                found.append(Record(**self._json(path)))
            except TypeError:
                raise InvalidInput(f"the record {path} is damaged") from None
        return sorted(found, key=lambda record: (record.made, record.serial))

    def live(self, kind: str, name: str) -> list[Record]:
        """The certificates of a name that still let in, the oldest first."""
        now = datetime.now(UTC)
        return [
            record
            for record in self.records()
            if (record.kind, record.name) == (kind, name) and record.is_live(now)
        ]

    def revoke(self, record: Record, reason: str) -> Record:
        """Mark a certificate as taken back; the list is made by the caller."""
        changed = replace(record, revoked_at=format_time(datetime.now(UTC)), reason=reason)
        self.update(changed)
        return changed

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(files.read(path, "record"))
        except (ValueError, RecursionError):
            raise InvalidInput(f"{path} is damaged: it is no JSON") from None
        if not isinstance(found, dict):
            raise RootlessError(f"{path} is damaged: it is no JSON object")
        return found
