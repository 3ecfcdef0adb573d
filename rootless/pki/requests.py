"""Certificate signing requests of clients (RFC 2986), read strictly."""

from __future__ import annotations

from cryptography import x509

from rootless.errors import Denied, InvalidInput
from rootless.pki.build import PublicKey, check_public_key
from rootless.pki.identity import ClientId, parse

MAX_REQUEST = 64 << 10
"""Bytes of PEM text."""


def accepted(text: bytes, what: str, client: ClientId) -> PublicKey:
    """The key of a request that asks for ``client`` and holds it; InvalidInput, Denied."""
    try:
        request = x509.load_pem_x509_csr(text)
        valid = request.is_signature_valid
        names = list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise InvalidInput(
            f"{what} is no request for a client's certificate",
            hint="make one with `rootless pki csr`",
        ) from None
    if not valid:
        raise Denied(f"{what} is not signed with the key that it is about")
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise InvalidInput(f"{what} must ask for one identity, a SPIFFE ID")
    asked = parse(names[0].value)
    if asked != client:
        raise Denied(
            f"{what} asks for {asked.uri}, not for {client.uri}",
            hint="who signs says with --name and --role who the holder is",
        )
    return check_public_key(request.public_key(), what)
