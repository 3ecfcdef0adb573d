"""Certificates whose keys are made here: new, again, and all whose end is near."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from rootless.errors import NotFound
from rootless.pki import keys, revocation
from rootless.pki.authority import Authority
from rootless.pki.profiles import Kind
from rootless.pki.store import Record


@dataclass(frozen=True, slots=True)
class Wish:
    """What a certificate with a key of ours is to be."""

    kind: Kind
    name: str
    role: str
    names: Sequence[x509.GeneralName]
    directory: str


def make(authority: Authority, wish: Wish, lifetime: timedelta | None = None) -> Record:
    """A key and a certificate, in the wish's directory."""
    authority.signer()  # the passphrase first: without it no key is made
    key = keys.generate("ed25519" if authority.state.key_kind == "ed25519" else "p256")
    issued = authority.issue(
        wish.kind,
        wish.name,
        wish.role,
        wish.names,
        key.public_key(),
        lifetime=lifetime,
        directory=wish.directory,
    )
    authority.write(issued, keys.to_pem(key))
    return issued.record


def again(authority: Authority, record: Record, lifetime: timedelta | None = None) -> Record:
    """What a record is about for another term, with a new key."""
    old = x509.load_pem_x509_certificate(authority.store.certificate(record))
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    kind: Kind = "client" if record.kind == "client" else "server"
    return make(
        authority, Wish(kind, record.name, record.role, list(names), record.directory), lifetime
    )


def renew_due(authority: Authority, within: timedelta) -> list[Record]:
    """Servers' certificates that ended or end so soon, made anew; the new ones."""
    soon = datetime.now(UTC) + within
    last: dict[tuple[str, str], Record] = {}
    for record in authority.store.records():
        if record.kind == "server" and record.directory and not record.revoked:
            last[record.name, record.directory] = record
    return [again(authority, record) for record in last.values() if record.ends < soon]


def renew_list(authority: Authority, within: timedelta) -> bool:
    """Publish the revocation list anew when it ends so soon, or is lost; whether it did.

    It is made of the records, so nothing that was revoked gets lost with it.
    """
    soon = datetime.now(UTC) + within
    with suppress(NotFound):
        (current,) = revocation.read(authority.crl(), authority.store.path)
        if current.next_update_utc is not None and current.next_update_utc >= soon:
            return False
    authority.publish()
    return True
