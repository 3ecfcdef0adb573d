"""``rootless pki renew --remote``: this client's next certificate, from the daemon it speaks to."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from rootless.cli.command import Invocation
from rootless.client.endpoint import choose
from rootless.errors import InvalidInput, RootlessError
from rootless.pki import build, files, keys
from rootless.pki.commands.issue import renew_options

_PATH = "/rootless/certificate"


def renew(call: Invocation) -> int:
    """Replace the certificate that the endpoint's options or context name.

    The key stays: killed at any point, certificate and key fit each other.
    """
    options = renew_options(call.args)
    tls = choose(call.where).tls
    if tls is None or not tls.cert or not tls.key:
        raise InvalidInput(
            "--remote renews the certificate by which a daemon is spoken to, and there is none",
            hint="name the daemon with --context, or --host tcp://HOST:2376 --tlsverify",
        )
    path = Path(tls.cert)
    old = _one(files.read(path, "certificate"), str(path))
    if options.within is not None and old.not_valid_after_utc - datetime.now(UTC) > options.within:
        print(f"{path}: until {old.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}, not due yet")
        return 0
    key = keys.load(Path(tls.key), "key")
    name = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    request = build.request(key, str(name[0].value) if name else "client", _names(old, path))
    found = call.client.post(_PATH, {"Request": request.decode("ascii")})
    chain = str(found["Certificate"]).encode("ascii")
    new = _one(chain, "the daemon's answer")
    if new.public_key() != key.public_key() or _names(new, path) != _names(old, path):
        raise RootlessError("the daemon answered with a certificate of another key or identity")
    files.replace(path, chain, 0o644)
    print(f"{path}: {found['Identity']}, serial {found['Serial']}, until {found['NotAfter']}")
    sys.stdout.flush()
    return 0


def _one(text: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(text)[0]
    except ValueError:
        raise InvalidInput(f"{what} holds no certificate") from None


def _names(certificate: x509.Certificate, path: Path) -> list[x509.GeneralName]:
    """Its alternative names, which a request for the next one repeats."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        raise InvalidInput(
            f"{path} has no identity of `rootless pki`: spiffe://TRUST-DOMAIN/role/ROLE/NAME"
        ) from None
    return list(found.value)
