"""The TLS side of ``tcp://``: its three files, what is wrong with them, and the context they make.

TLS 1.3 only, a client certificate is required, no session outlives its connection: a
client whose certificate is taken from the authority's list is out at its next connection.
"""

from __future__ import annotations

import logging
import os
import ssl
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.daemon.config import DaemonConfig
from rootless.errors import Denied, InvalidInput, RootlessError

if TYPE_CHECKING:
    from cryptography import x509

_log = logging.getLogger("rootlessd")
_MAX = 1 << 20
"""Bytes of a file; bundles of all public authorities have half of that."""
Stamp = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: the clients' authorities, the daemon's certificate, its key."""

    authorities: Path
    certificate: Path
    key: Path


def tls_files(config: DaemonConfig) -> TlsFiles:
    """The files that a complete configuration names."""
    return TlsFiles(Path(config.tlscacert), Path(config.tlscert), Path(config.tlskey))


class Certificates:
    """The present TLS context; files that changed are taken for the next connection."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files; raises InvalidInput or Denied with what is wrong with which."""
        self._files = files
        self._stamp = _stamp(files)
        self._context = load(files)

    def context(self) -> ssl.SSLContext:
        """For a new connection. Files that do not fit together leave the former ones in force."""
        stamp = _stamp(self._files)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = load(self._files)
                _log.info("TLS certificates loaded again")
            except RootlessError as error:
                _log.error("the former TLS certificates stay in force: %s", error)
        return self._context


def _stamp(files: TlsFiles) -> Stamp:
    found: list[tuple[int, ...]] = []
    for path in (files.authorities, files.certificate, files.key):
        try:
            facts = os.stat(path)
        except OSError:
            found.append((0,))
        else:
            found.append(
                (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            )
    return tuple(found)


def load(files: TlsFiles) -> ssl.SSLContext:
    """A server's context of the three files, checked one by one."""
    with ExitStack() as held:
        authorities, _ = held.enter_context(_opened("tlscacert", files.authorities))
        certificate, certificate_fd = held.enter_context(_opened("tlscert", files.certificate))
        key, key_fd = held.enter_context(_opened("tlskey", files.key, private=True))
        _check_authorities(files.authorities, authorities)
        _check_pair(files, certificate, key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
            # By descriptor: what was checked is what is loaded.
            context.load_cert_chain(f"/proc/self/fd/{certificate_fd}", f"/proc/self/fd/{key_fd}")
        except ssl.SSLError as error:
            raise InvalidInput(
                f"TLS cannot be served with {files.certificate} and {files.authorities}: "
                f"{error.reason or error}"
            ) from None
    return context


@contextmanager
def _opened(option: str, path: Path, *, private: bool = False) -> Iterator[tuple[bytes, int]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(
            f"cannot read {option} {path}: {error.strerror}", hint=f"give --{option} FILE"
        ) from error
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput(f"{option} {path} is not a file")
        if private:
            _check_private(option, path, facts)
        yield os.pread(fd, _MAX, 0), fd
    finally:
        os.close(fd)


def _check_private(option: str, path: Path, facts: os.stat_result) -> None:
    """Who else could read or replace the key could be this daemon."""
    directory = path.resolve().parent
    for what, found, wanted in (
        (path, facts, "600"),
        (directory, os.stat(directory), "700"),
    ):
        if found.st_uid != os.getuid():
            raise Denied(
                f"{option}: {what} belongs to uid {found.st_uid}, not to you",
                hint=f"sudo chown {os.getuid()} {what}",
            )
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            raise Denied(
                f"{option}: {what} has mode {mode:04o}, which lets others at the key",
                hint=f"chmod {wanted} {what}",
            )


def _parsed(option: str, path: Path, text: bytes) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(text)
    except ValueError:
        raise InvalidInput(
            f"{option} {path} holds no certificate",
            hint="it must be PEM text: -----BEGIN CERTIFICATE-----",
        ) from None


def _check_authorities(path: Path, text: bytes) -> None:
    from cryptography import x509

    for certificate in _parsed("tlscacert", path, text):
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


def _check_pair(files: TlsFiles, certificate: bytes, key: bytes) -> None:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID

    own = _parsed("tlscert", files.certificate, certificate)[0]
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
        return
    allowed = {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }
    if not allowed & set(uses):
        raise InvalidInput(
            f"tlscert {files.certificate} is not for servers: clients would refuse it",
            hint="its extendedKeyUsage needs serverAuth",
        )


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
