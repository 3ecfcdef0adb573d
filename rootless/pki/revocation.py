"""Certificate revocation lists (RFC 5280, section 5)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from rootless.errors import InvalidInput
from rootless.pki.build import Pair, digest_for

LIFETIME = timedelta(days=30)
"""A list is for so long; an engine refuses all clients after that, since it cannot know."""
REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "superseded": x509.ReasonFlags.superseded,
    "affiliation-changed": x509.ReasonFlags.affiliation_changed,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
}
_BEGIN, _END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


@dataclass(frozen=True, slots=True)
class Revoked:
    """One certificate that is taken back."""

    serial: int
    at: datetime
    reason: str = "unspecified"


def make(
    by: Pair, number: int, revoked: Iterable[Revoked], lifetime: timedelta = LIFETIME
) -> bytes:
    """The list of an authority as PEM text; ``number`` grows with each."""
    now = datetime.now(UTC).replace(microsecond=0)
    key_id = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(by.certificate.subject)
        .last_update(now)
        .next_update(now + lifetime)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False
        )
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.at)
        if one.reason != "unspecified":  # it is left out then (section 5.3.1)
            entry = entry.add_extension(x509.CRLReason(REASONS[one.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(by.key, digest_for(by.key)).public_bytes(Encoding.PEM)


def read(text: bytes, path: Path) -> list[x509.CertificateRevocationList]:
    """Every list in PEM text; InvalidInput when there is none or one is damaged."""
    found = []
    rest = text
    while (begin := rest.find(_BEGIN)) >= 0:
        end = rest.find(_END, begin)
        if end < 0:
            raise InvalidInput(f"the revocation list {path} is cut off")
        block = rest[begin : end + len(_END)]
        try:
            found.append(x509.load_pem_x509_crl(block + b"\n"))
        except ValueError:
            raise InvalidInput(f"the revocation list {path} is damaged") from None
        rest = rest[end + len(_END) :]
    if not found:
        raise InvalidInput(
            f"{path} holds no revocation list",
            hint="it must be PEM text: -----BEGIN X509 CRL-----; make one with `rootless pki crl`",
        )
    return found


def list_of(
    lists: Iterable[x509.CertificateRevocationList], issuer: x509.Certificate
) -> x509.CertificateRevocationList | None:
    """The list that ``issuer`` signed; the youngest of several."""
    key = issuer.public_key()
    fitting = [
        one
        for one in lists
        if one.issuer == issuer.subject and one.is_signature_valid(key)  # type: ignore[arg-type]  # X25519 signs nothing: False
    ]
    return max(fitting, key=lambda one: one.last_update_utc, default=None)
