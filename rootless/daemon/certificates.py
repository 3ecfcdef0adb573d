"""The TLS side of ``tcp://``: its four files, what is wrong with them, and the context they make.

TLS 1.3 only, a client certificate is required and held against the revocation list, no
session outlives its connection. Files that change are taken at once: whoever is in the
new list is out, open connections included.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.daemon.config import DaemonConfig
from rootless.errors import InvalidInput, RootlessError
from rootless.pki.files import check_private

if TYPE_CHECKING:
    from cryptography import x509

    from rootless.pki.online import OnlineAuthority

_log = logging.getLogger("rootlessd")
_MAX = 1 << 20
"""Bytes of a file; bundles of all public authorities have half of that."""
Stamp = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the clients' authorities, the daemon's certificate, its key, revocation lists."""

    authorities: Path
    certificate: Path
    key: Path
    revocations: Path


def tls_files(config: DaemonConfig) -> TlsFiles:
    """The files that a complete configuration names."""
    return TlsFiles(
        Path(config.tlscacert), Path(config.tlscert), Path(config.tlskey), Path(config.tlscrl)
    )


def authority_of(config: DaemonConfig, environ: MutableMapping[str, str]) -> OnlineAuthority | None:
    """The authority of ``pki-dir``, if it is given; its passphrase leaves the environment."""
    if not config.pki_dir:
        return None
    from rootless.pki.keys import PASSPHRASE
    from rootless.pki.online import OnlineAuthority

    # Every process that the daemon starts would have it.
    return OnlineAuthority(Path(config.pki_dir), os.fsencode(environ.pop(PASSPHRASE, "")))


class Certificates:
    """The present TLS context; files that changed are taken for the next connection."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files; raises InvalidInput or Denied with what is wrong with which."""
        self.files = files
        self._stamp = _stamp(files)
        self._loaded = load(files)
        self.generation = 0
        """How often others came into force."""

    def context(self) -> ssl.SSLContext:
        """For a new connection, by the files as they are now."""
        self.refresh()
        return self._loaded.context

    def refresh(self) -> None:
        """Take files that changed; those that do not fit together leave the former in force."""
        stamp = _stamp(self.files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._loaded = load(self.files)
        except RootlessError as error:
            _log.error("the former TLS certificates stay in force: %s", error)
            return
        self.generation += 1
        _log.info("TLS certificates loaded again")

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether a client's certificate (DER), which was good once, is in the lists."""
        from cryptography import x509

        found = x509.load_der_x509_certificate(certificate)
        return any(
            one.issuer == found.issuer
            and one.get_revoked_certificate_by_serial_number(found.serial_number) is not None
            for one in self._loaded.lists
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files made."""

    context: ssl.SSLContext
    lists: tuple[x509.CertificateRevocationList, ...]


def _stamp(files: TlsFiles) -> Stamp:
    found: list[tuple[int, ...]] = []
    for path in (files.authorities, files.certificate, files.key, files.revocations):
        try:
            facts = os.stat(path)
        except OSError:
            found.append((0,))
        else:
            found.append(
                (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            )
    return tuple(found)


def load(files: TlsFiles) -> Loaded:
    """A server's context of the four files, checked one by one."""
    with ExitStack() as held:
        authorities, _ = held.enter_context(_opened("tlscacert", files.authorities))
        certificate, certificate_fd = held.enter_context(_opened("tlscert", files.certificate))
        key, key_fd = held.enter_context(_opened("tlskey", files.key, private=True))
        revoked, revoked_fd = held.enter_context(
            _opened("tlscrl", files.revocations, hint="rootless pki crl --out FILE")
        )
        trusted = _check_authorities(files.authorities, authorities)
        chain = _check_pair(files, certificate, key)
        lists = _check_lists(files.revocations, revoked, [*trusted, *chain])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_LEAF
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
            # By descriptor: what was checked is what is loaded.
            context.load_cert_chain(f"/proc/self/fd/{certificate_fd}", f"/proc/self/fd/{key_fd}")
            context.load_verify_locations(f"/proc/self/fd/{revoked_fd}")
        except ssl.SSLError as error:
            raise InvalidInput(
                f"TLS cannot be served with {files.certificate} and {files.authorities}: "
                f"{error.reason or error}"
            ) from None
    return Loaded(context, tuple(lists))


@contextmanager
def _opened(
    option: str, path: Path, *, private: bool = False, hint: str = ""
) -> Iterator[tuple[bytes, int]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(
            f"cannot read {option} {path}: {error.strerror}", hint=hint or f"give --{option} FILE"
        ) from error
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput(f"{option} {path} is not a file")
        if private:
            # Who could read or replace the key could be this daemon.
            directory = path.resolve().parent
            check_private(path, facts, f"{option}: {path}")
            check_private(directory, os.stat(directory), f"{option}: {directory}")
        text = os.pread(fd, _MAX + 1, 0)
        if len(text) > _MAX:
            raise InvalidInput(f"{option} {path} has more than {_MAX} bytes")
        yield text, fd
    finally:
        os.close(fd)


def _parsed(option: str, path: Path, text: bytes) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        raise InvalidInput(
            f"{option} {path} holds no certificate",
            hint="it must be PEM text: -----BEGIN CERTIFICATE-----",
        ) from None


def _check_lists(
    path: Path, text: bytes, issuers: Sequence[x509.Certificate]
) -> list[x509.CertificateRevocationList]:
    """The lists of known authorities. One that has ended lets nobody in, so it is refused here."""
    from rootless.pki import revocation

    lists = []
    for one in revocation.read(text, path):
        name = one.issuer.rfc4514_string()
        # An empty list is false in itself.
        if all(revocation.list_of([one], issuer) is None for issuer in issuers):
            _log.warning("tlscrl %s: the list of %s is of no authority that is known", path, name)
            continue
        ends = one.next_update_utc
        if ends is not None and ends < datetime.now(UTC):
            raise InvalidInput(
                f"tlscrl {path}: the list of {name} ended on {ends:%Y-%m-%d %H:%M} UTC, and "
                "what was revoked since is unknown",
                hint="rootless pki crl, on the authority's machine",
            )
        lists.append(one)
    if not lists:
        raise InvalidInput(
            f"tlscrl {path} has no list that an authority of tlscacert or tlscert signed",
            hint="an intermediate's certificate belongs into tlscert, behind the daemon's own",
        )
    return lists


def _check_authorities(path: Path, text: bytes) -> list[x509.Certificate]:
    from cryptography import x509

    certificates = _parsed("tlscacert", path, text)
    for certificate in certificates:
        _check_dates("tlscacert", path, certificate)
        try:
            found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except (x509.ExtensionNotFound, ValueError):
            continue
        if not found.value.ca:
            raise InvalidInput(
                f"tlscacert {path}: {certificate.subject.rfc4514_string()} is not a certificate "
                "authority",
                hint="give the certificate that signed the clients' certificates",
            )
        _check_strict(path, certificate)
    return certificates


def _check_strict(path: Path, certificate: x509.Certificate) -> None:
    """What OpenSSL wants of an authority (X509_V_FLAG_X509_STRICT), before a client is refused."""
    from cryptography import x509

    for kind, word in (
        (x509.BasicConstraints, "basicConstraints"),
        (x509.KeyUsage, "keyUsage"),
        (x509.SubjectKeyIdentifier, "subjectKeyIdentifier"),
    ):
        try:
            certificate.extensions.get_extension_for_class(kind)
        except x509.ExtensionNotFound:
            raise InvalidInput(
                f"tlscacert {path}: {certificate.subject.rfc4514_string()} has no {word}, which "
                "RFC 5280 wants of an authority",
                hint="rootless pki init makes one that has",
            ) from None
        except ValueError:
            raise InvalidInput(f"tlscacert {path}: its {word} is damaged") from None


def _check_pair(files: TlsFiles, certificate: bytes, key: bytes) -> list[x509.Certificate]:
    """The daemon's certificate fits its key and its purpose; its whole chain."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID

    chain = _parsed("tlscert", files.certificate, certificate)
    own = chain[0]
    _check_dates("tlscert", files.certificate, own)
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise InvalidInput(
            f"tlskey {files.key} is locked by a passphrase, which nobody is there to give",
            hint=f"openssl pkey -in {files.key} -out NEW, and keep NEW at mode 0600",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(
            f"tlskey {files.key} holds no private key",
            hint="it must be PEM text: -----BEGIN PRIVATE KEY-----",
        ) from None
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*spki) != own.public_key().public_bytes(*spki):
        raise InvalidInput(
            f"tlskey {files.key} is not the key of tlscert {files.certificate}",
            hint="the first certificate of tlscert has to be the daemon's own",
        )
    try:
        uses = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return chain
    allowed = {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
    if not allowed & set(uses):
        raise InvalidInput(
            f"tlscert {files.certificate} is not for servers: clients would refuse it",
            hint="its extendedKeyUsage needs serverAuth",
        )
    return chain


def _check_dates(option: str, path: Path, certificate: x509.Certificate) -> None:
    now = datetime.now(UTC)
    until, since = certificate.not_valid_after_utc, certificate.not_valid_before_utc
    name = certificate.subject.rfc4514_string()
    if now > until:
        raise InvalidInput(
            f"{option} {path}: {name} expired on {until:%Y-%m-%d %H:%M} UTC", hint="renew it"
        )
    if now < since:
        raise InvalidInput(
            f"{option} {path}: {name} is not valid before {since:%Y-%m-%d %H:%M} UTC",
            hint="check this machine's clock",
        )
