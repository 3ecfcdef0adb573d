"""Whether a certificate lets its holder in, and if not, why not in words (RFC 5280, section 6).

The handshake is OpenSSL's to judge. This says beforehand, and with all reasons at
once, what OpenSSL would say with one; and it is stricter where that is lax.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from rootless.errors import InvalidInput
from rootless.pki import identity, revocation
from rootless.pki.build import PURPOSES, check_public_key

Purpose = Literal["client", "server"]


@dataclass(frozen=True, slots=True)
class Trust:
    """What a certificate is held against."""

    roots: tuple[x509.Certificate, ...]
    lists: tuple[x509.CertificateRevocationList, ...] = ()
    trust_domain: str = ""
    """That clients must be of; '' for any."""


def problems(
    chain: Sequence[x509.Certificate], trust: Trust, purpose: Purpose, now: datetime, host: str = ""
) -> list[str]:
    """Every reason why ``chain`` (the holder's own first) is refused; none when it is good."""
    path, missing = _path(chain, trust.roots)
    found = [missing] if missing else []
    for one in path:
        found += _dates(one, now)
    for above, issuer in enumerate(path[1:], 1):
        found += _authority(issuer)
        for name in (name for below in path[:above] for name in _names(below)):
            if (why := forbidden_name(issuer, name)) is not None:
                found.append(f"{_title(issuer)} may not issue for {name.value}: {why}")
    found += _depth(path)
    found += _leaf(chain[0], trust, purpose, host)
    if len(path) > 1:
        found += _revoked(path[0], path[1], trust, now)
    return found


def _path(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], str]:
    """From the holder's certificate up to a trusted one; what is missing, '' for nothing."""
    path = [chain[0]]
    while path[-1] not in roots:
        issuer = next(
            (
                one
                for one in (*roots, *chain[1:])
                if one not in path and is_signed_by(path[-1], one)
            ),
            None,
        )
        if issuer is None:
            name = path[-1].issuer.rfc4514_string()
            if path[-1].issuer == path[-1].subject:
                return path, f"it is self-signed, and {name} is no trusted authority"
            if any(one.subject == path[-1].issuer for one in (*roots, *chain)):
                return path, f"the signature is not that of the trusted {name}"
            return path, f"no trusted authority and no intermediate is its issuer {name}"
        path.append(issuer)
    return path, ""


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` has the name and the key that the certificate is signed by."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):  # its name, its kind of key, its signature
        return False
    return True


def _title(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "a certificate without a subject"


def _dates(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < since:
        yield f"{_title(certificate)} is not valid before {since:%Y-%m-%d %H:%M} UTC"
    if now > until:
        yield f"{_title(certificate)} expired on {until:%Y-%m-%d %H:%M} UTC"


_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension):
        raise InvalidInput(f"{_title(certificate)} has a damaged extension") from None


def _authority(certificate: x509.Certificate) -> Iterator[str]:
    basic = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if basic is None or not basic.ca:
        yield f"{_title(certificate)} is no certificate authority"
    if usage is not None and not usage.key_cert_sign:
        yield f"{_title(certificate)} may not sign certificates"


def _depth(path: Sequence[x509.Certificate]) -> Iterator[str]:
    for below, certificate in enumerate(path[1:]):
        basic = _extension(certificate, x509.BasicConstraints)
        if basic is not None and basic.path_length is not None and below > basic.path_length:
            yield f"{_title(certificate)} may have no {below} authorities below it"


def _leaf(
    certificate: x509.Certificate, trust: Trust, purpose: Purpose, host: str
) -> Iterator[str]:
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is not None and basic.ca:
        yield "it is an authority's certificate, not a client's or server's"
    try:
        check_public_key(certificate.public_key(), "it")
    except (InvalidInput, ValueError) as error:
        yield getattr(error, "message", str(error))
    uses = _extension(certificate, x509.ExtendedKeyUsage)
    if uses is None or PURPOSES[f"{purpose}Auth"] not in uses:
        yield f"it is not for {purpose}s: its extendedKeyUsage has no {purpose}Auth"
    names = _names(certificate)
    if purpose == "client":
        yield from _client(names, trust)
    elif host and not any(_matches(name, host) for name in names):
        told = ", ".join(str(name.value) for name in names) or "no name"
        yield f"it is not for the server {host}, but for {told}"


def _client(names: Sequence[x509.GeneralName], trust: Trust) -> Iterator[str]:
    uris = [one.value for one in names if isinstance(one, x509.UniformResourceIdentifier)]
    if len(uris) != 1:
        yield "a client has one identity, a SPIFFE ID; this has " + (", ".join(uris) or "none")
        return
    try:
        client = identity.parse(uris[0])
    except InvalidInput as error:
        yield error.message
        return
    if trust.trust_domain and client.trust_domain != trust.trust_domain:
        yield f"its trust domain is {client.trust_domain}, not {trust.trust_domain}"


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    found = _extension(certificate, x509.SubjectAlternativeName)
    return list(found) if found is not None else []


def _matches(name: x509.GeneralName, host: str) -> bool:
    if isinstance(name, x509.IPAddress):
        try:
            return name.value == ipaddress.ip_address(host)
        except ValueError:
            return False
    if not isinstance(name, x509.DNSName):
        return False
    mine, wanted = name.value.lower(), host.lower().rstrip(".")
    if mine.startswith("*."):
        return bool(wanted.partition(".")[0]) and wanted.partition(".")[2] == mine[2:]
    return mine == wanted


def _revoked(
    certificate: x509.Certificate, issuer: x509.Certificate, trust: Trust, now: datetime
) -> Iterator[str]:
    if not trust.lists:
        return
    found = revocation.list_of(trust.lists, issuer)
    if found is None:
        yield f"there is no revocation list of {_title(issuer)}"
        return
    if found.next_update_utc is not None and now > found.next_update_utc:
        yield f"the revocation list ended on {found.next_update_utc:%Y-%m-%d %H:%M} UTC"
    entry = found.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is not None:
        yield f"it was revoked on {entry.revocation_date_utc:%Y-%m-%d %H:%M} UTC"


def forbidden_name(issuer: x509.Certificate, name: x509.GeneralName) -> str | None:
    """Why ``issuer``'s name constraints forbid ``name``; None when they do not."""
    constraints = _extension(issuer, x509.NameConstraints)
    if constraints is None:
        return None
    of_kind = [one for one in constraints.permitted_subtrees or () if type(one) is type(name)]
    if of_kind and not any(_within(name, one) for one in of_kind):
        return f"only {', '.join(str(one.value) for one in of_kind)} is permitted"
    for one in constraints.excluded_subtrees or ():
        if type(one) is type(name) and _within(name, one):
            return f"{one.value} is excluded"
    return None


def _within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    """Whether a name lies in a subtree of the same kind (RFC 5280, section 4.2.1.10)."""
    if isinstance(name, x509.IPAddress):
        return name.value in subtree.value
    base = str(subtree.value).lower()
    if isinstance(name, x509.UniformResourceIdentifier):
        host = (urlsplit(name.value).hostname or "").lower()
        return host.endswith(base) if base.startswith(".") else host == base
    if isinstance(name, x509.DNSName):
        host = name.value.lower().removeprefix("*.")
        return not base or host == base.lstrip(".") or host.endswith(f".{base.lstrip('.')}")
    return False
