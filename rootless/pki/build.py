"""Certificates and requests, made by their profile (RFC 5280, RFC 2986)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rootless.errors import InvalidInput
from rootless.pki.identity import ClientId
from rootless.pki.profiles import Profile

if TYPE_CHECKING:
    from rootless.pki.keys import type_of_key

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
PURPOSES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
}
_HOST = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
NEVER_BEFORE = timedelta(minutes=1)
"""A certificate that would end sooner is not made."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and the key it is about."""

    certificate: x509.Certificate
    key: type_of_key


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def constraints_of(
    trust_domain: str, dns: Sequence[str] = (), networks: Sequence[Network] = ()
) -> x509.NameConstraints:
    """Clients of the trust domain only; servers of the given names, if any are given.

    What an authority may issue for (RFC 5280, section 4.2.1.10).
    """
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(trust_domain)]
    names += [x509.DNSName(name) for name in dns]
    names += [x509.IPAddress(network) for network in networks]
    return x509.NameConstraints(permitted_subtrees=names, excluded_subtrees=None)


def server_name(text: str) -> x509.GeneralName:
    """A server's DNS name or address; InvalidInput."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if len(text) > 253 or not _HOST.fullmatch(text) or text.rpartition(".")[2].isdigit():
        raise InvalidInput(
            f"invalid server name: {text!r}",
            hint="write a DNS name or an address, such as ci.example.org or 192.0.2.7",
        )
    return x509.DNSName(text.lower())


def check_public_key(key: object, what: str) -> PublicKey:
    """The public key when it is of a kind that is used here."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise InvalidInput(
        f"{what} has a key of a kind that is not used here", hint="ECDSA on P-256 and Ed25519 are"
    )


def subject(common: str) -> x509.Name:
    """A name with nothing but ``commonName``, for people to read."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def certificate(
    by: Pair | None,
    key: type_of_key | None,
    public: PublicKey,
    profile: Profile,
    name: str,
    *,
    names: Sequence[x509.GeneralName] = (),
    constraints: x509.NameConstraints | None = None,
    path_length: int | None = None,
    lifetime: timedelta | None = None,
) -> x509.Certificate:
    """A certificate for ``public``, signed by ``by``, or by its own ``key`` when that is None.

    It never outlives its issuer.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    wanted = lifetime or profile.lifetime
    if wanted > profile.longest:
        raise InvalidInput(
            f"a {profile.kind} certificate lives at most {words(profile.longest)}",
            hint=f"give --lifetime {words(profile.longest)} or less",
        )
    until = now + wanted
    if by is not None:
        until = min(until, by.certificate.not_valid_after_utc)
        if until < now + NEVER_BEFORE:
            raise InvalidInput(
                f"the authority's own certificate ends {until:%Y-%m-%d %H:%M} UTC",
                hint="renew the authority first: rootless pki renew --authority",
            )
    issuer = by.certificate.subject if by is not None else subject(name)
    signer = by.key if by is not None else key
    assert signer is not None
    signed_by = by.certificate.public_key() if by is not None else public
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - profile.backdate)
        .not_valid_after(until)
        .add_extension(
            x509.BasicConstraints(ca=profile.ca, path_length=path_length if profile.ca else None),
            critical=True,
        )
        .add_extension(_key_usage(profile), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_authority_key(by, signed_by), critical=False)
    )
    if profile.purposes:
        uses = x509.ExtendedKeyUsage([PURPOSES[name] for name in profile.purposes])
        builder = builder.add_extension(uses, critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(signer, digest_for(signer))


def _authority_key(by: Pair | None, signed_by: object) -> x509.AuthorityKeyIdentifier:
    if by is None:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by)  # type: ignore[arg-type]  # its own key
    found = by.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _key_usage(profile: Profile) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digitalSignature" in profile.key_usage,
        key_cert_sign="keyCertSign" in profile.key_usage,
        crl_sign="cRLSign" in profile.key_usage,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def digest_for(key: type_of_key) -> hashes.SHA256 | None:
    """Ed25519 has its own digest (RFC 8410)."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def client_names(client: ClientId) -> list[x509.GeneralName]:
    """The one alternative name of a client (SPIFFE X.509-SVID, section 2)."""
    return [x509.UniformResourceIdentifier(client.uri)]


def request(key: type_of_key, name: str, names: Sequence[x509.GeneralName]) -> bytes:
    """A certificate signing request as PEM text."""
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject(name))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, digest_for(key))
    )
    return made.public_bytes(Encoding.PEM)


def pem(*certificates: x509.Certificate) -> bytes:
    """PEM text of certificates."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def words(period: timedelta) -> str:
    """A period as ``--lifetime`` takes it."""
    days, rest = divmod(int(period.total_seconds()), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
