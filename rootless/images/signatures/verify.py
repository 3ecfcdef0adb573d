"""Do signatures hold? Pure: bytes and keys in, what is proven out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from rootless.errors import InvalidInput
from rootless.images.signatures import payload as payloads
from rootless.images.signatures.attached import Signed
from rootless.images.signatures.payload import Claim
from rootless.publickeys import PublicKey


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that holds: the key with this fingerprint vouches for the claim."""

    key: str
    claim: Claim
    signed: Signed


@dataclass(frozen=True, slots=True)
class Examined:
    """``problems`` says of each signature that proves nothing why."""

    verified: tuple[Verified, ...]
    problems: tuple[str, ...]


def holds(key: PublicKey, signed: Signed) -> bool:
    """Whether ``key`` made the signature over the payload.

    ECDSA is over SHA-256 and in DER, which must be the canonical one; Ed25519 is over the
    payload itself (RFC 8032).
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    loaded = load_der_public_key(key.der)
    try:
        if isinstance(loaded, ed25519.Ed25519PublicKey):
            loaded.verify(signed.signature, signed.payload)
            return True
        assert isinstance(loaded, ec.EllipticCurvePublicKey)
        r, s = utils.decode_dss_signature(signed.signature)
        if utils.encode_dss_signature(r, s) != signed.signature:
            return False
        loaded.verify(signed.signature, signed.payload, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def examine(
    found: Iterable[Signed], digests: Collection[str], keys: Sequence[PublicKey]
) -> Examined:
    """Which of ``keys`` vouch for a manifest or index with one of ``digests``.

    A payload is only looked into when its signature holds.
    """
    verified: list[Verified] = []
    problems: list[str] = []
    for signed in found:
        makers = [key for key in keys if holds(key, signed)]
        if not makers:
            problems.append("a signature is by none of the wanted keys, or does not hold")
            continue
        try:
            claim = payloads.parse(signed.payload)
        except InvalidInput as error:
            problems.append(error.message)
            continue
        if claim.digest not in digests:
            problems.append(f"a signature is of another image: {claim.digest}")
            continue
        verified += [Verified(key.fingerprint, claim, signed) for key in makers]
    return Examined(tuple(verified), tuple(dict.fromkeys(problems)))
