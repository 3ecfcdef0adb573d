"""What an authority does: it issues, finds what it issued, takes back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from rootless.errors import Denied, InvalidInput, NotFound, RootlessError
from rootless.pki import build, files, keys, revocation
from rootless.pki.build import Pair, PublicKey
from rootless.pki.identity import ClientId, check_name, client_id
from rootless.pki.profiles import Kind, profile
from rootless.pki.revocation import Revoked
from rootless.pki.store import (
    CRL,
    INTERMEDIATE,
    ROOT,
    Record,
    Store,
    format_time,
    parse_time,
)

ALL_SERIALS = 16
"""Hexadecimal digits of a serial number that are enough to name it."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate and its key, where the authority made that."""

    record: Record
    chain: bytes
    """PEM: the certificate and, if there is one, the intermediate."""
    key: bytes = b""


class Authority:
    """A made authority. Its key is opened when it is first needed.

    ``passphrase`` is the key's; None asks for it.
    """

    def __init__(self, store: Store, passphrase: bytes | None = None) -> None:
        self._passphrase = passphrase
        store.require()
        self.store = store
        self.state = store.state()
        self._signer: Pair | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the directory (:meth:`Store.locked`), with the settings as they are now.

        Others may have changed them since they were read: a number of a list would be used
        twice, and a daemon that was given a certificate would not get the next list.
        """
        with self.store.locked():
            self.state = self.store.state()
            yield

    # -- certificates of its own -------------------------------------------------

    def root(self) -> x509.Certificate:
        """The root's certificate: what the other side trusts."""
        return self._own(ROOT)

    def issuer(self) -> x509.Certificate:
        """The certificate that signs: the intermediate's, or the root's."""
        return self._own(self._issuing)

    @property
    def _issuing(self) -> str:
        return INTERMEDIATE if (self.store.path / f"{INTERMEDIATE}.pem").exists() else ROOT

    def _own(self, name: str) -> x509.Certificate:
        path = self.store.path / f"{name}.pem"
        return one_certificate(files.read(path, "authority's certificate"), path)

    def signer(self) -> Pair:
        """The certificate that signs, with its key; the passphrase is asked for once."""
        if self._signer is None:
            path = self.store.path / f"{self._issuing}.key"
            if not path.exists():
                raise NotFound(
                    f"the authority's key {path} is not here",
                    hint="bring it back from where it is kept, or work on that machine",
                )
            key = keys.load(path, "authority's key", self._passphrase)
            certificate = self.issuer()
            if key.public_key() != certificate.public_key():
                raise InvalidInput(f"{path} is not the key of {path.with_suffix('.pem')}")
            self._signer = Pair(certificate, key)
        return self._signer

    def chain(self) -> tuple[x509.Certificate, ...]:
        """What a holder sends along with its own certificate."""
        return (self.issuer(),) if self._issuing == INTERMEDIATE else ()

    # -- issue -------------------------------------------------------------------

    def issue(
        self,
        kind: Kind,
        name: str,
        role: str,
        names: Sequence[x509.GeneralName],
        public: PublicKey,
        *,
        lifetime: timedelta | None = None,
        directory: str = "",
    ) -> Issued:
        """A certificate for ``public``, in the records before anybody has it."""
        made = build.certificate(
            self.signer(), None, public, profile(kind), name, names=names, lifetime=lifetime
        )
        _check_permitted(self.issuer(), names)
        record = Record(
            serial=f"{made.serial_number:x}",
            kind=kind,
            name=name,
            role=role,
            identity=",".join(spell(one) for one in names),
            not_before=format_time(made.not_valid_before_utc),
            not_after=format_time(made.not_valid_after_utc),
            fingerprint=made.fingerprint(hashes.SHA256()).hex(),
            made=time.time_ns(),
            directory=directory,
        )
        self.store.add(record, build.pem(made))
        return Issued(record, build.pem(made, *self.chain()))

    def client(self, role: str, name: str) -> ClientId:
        """A client of this authority's trust domain."""
        return client_id(self.state.trust_domain, role, name)

    def write(self, issued: Issued, key: bytes) -> None:
        """Certificate, key and authority into the record's directory, as Docker names them.

        The key comes first: a new certificate beside the former key would not fit it.
        """
        files.write_directory(
            Path(issued.record.directory),
            {
                "ca.pem": (build.pem(self.root()), 0o644),
                "key.pem": (key, 0o600),
                "cert.pem": (issued.chain, 0o644),
            },
        )

    def find(self, word: str) -> list[Record]:
        """Live certificates of a name, or the one with a serial (or enough of it); NotFound."""
        records = self.store.records()
        serial = word.lower().removeprefix("0x").replace(":", "")
        by_serial = [
            one
            for one in records
            if one.serial == serial
            or (len(serial) >= ALL_SERIALS and one.serial.startswith(serial))
        ]
        found = by_serial or [one for one in records if one.name == word and not one.revoked]
        if not found:
            raise NotFound(
                f"this authority has issued no certificate to {word!r} that is in force",
                hint="see `rootless pki status --all`",
            )
        return found

    # -- revoke ------------------------------------------------------------------

    def revoke(self, records: Iterable[Record], reason: str) -> list[Record]:
        """Take certificates back and publish a new list; those that were stay as they were."""
        self.signer()  # before anything is written: without the key there is no list
        changed = [self.store.revoke(one, reason) for one in records if not one.revoked]
        self.publish()
        return changed

    def publish(self, lifetime: timedelta = revocation.LIFETIME) -> bytes:
        """A new revocation list, also for the daemons on this machine; its PEM text."""
        number = self.state.crl_number + 1
        self.state = replace(self.state, crl_number=number)
        self.store.save(self.state)  # a number is never used twice
        revoked = [
            Revoked(int(one.serial, 16), parse_time(one.revoked_at), one.reason)
            for one in self.store.records()
            if one.revoked
        ]
        text = revocation.make(self.signer(), number, revoked, lifetime)
        files.replace(self.store.path / CRL, text, 0o644)
        for place in self.state.installs:
            if os.path.isdir(place):
                files.replace(Path(place) / CRL, text, 0o644)
        return text

    def crl(self) -> bytes:
        """The present list."""
        try:
            return files.read(self.store.path / CRL, "revocation list")
        except NotFound as error:
            error.hint = "make it anew: rootless pki crl"
            raise

    def install(self, place: Path) -> None:
        """Let a daemon's directory have the revocation list, now and each time it changes."""
        files.replace(place / CRL, self.crl(), 0o644)
        if str(place) not in self.state.installs:
            self.state = replace(self.state, installs=(*self.state.installs, str(place)))
            self.store.save(self.state)


def one_certificate(text: bytes, path: Path) -> x509.Certificate:
    """The first certificate in PEM text; InvalidInput."""
    try:
        return x509.load_pem_x509_certificates(text)[0]
    except ValueError:
        raise InvalidInput(
            f"{path} holds no certificate",
            hint="it must be PEM text: -----BEGIN CERTIFICATE-----",
        ) from None


def spell(name: x509.GeneralName) -> str:
    """An alternative name for people and records."""
    return str(name.value)


def _check_permitted(issuer: x509.Certificate, names: Sequence[x509.GeneralName]) -> None:
    """Refuse what no verifier would accept from this issuer."""
    from rootless.pki.checking import forbidden_name

    for name in names:
        if (why := forbidden_name(issuer, name)) is not None:
            raise Denied(
                f"this authority may not issue for {spell(name)}: {why}",
                hint="make one that may: rootless pki init --permit-dns NAME --permit-ip NETWORK",
            )


def check_output(path: Path) -> str:
    """An absolute directory for certificate and key; RootlessError when it cannot be one."""
    if path.exists() and not path.is_dir():
        raise RootlessError(f"{path} is not a directory")
    return str(path.absolute())


def safe_name(name: str) -> str:
    """A name as a file's name: a server's may have a star or colons."""
    return check_name(name.replace("*", "wildcard").replace(":", "-").strip("-") or "-")
