"""Public keys: one encoding for each, and a clear word for every other kind."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rootless import publickeys
from rootless.errors import InvalidInput

P256 = ec.generate_private_key(ec.SECP256R1()).public_key()
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()


def pem_of(key: object) -> str:
    made: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # a public key
    return made.decode()


def der_of(key: object) -> bytes:
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # a public key
    return made


@pytest.mark.parametrize(("key", "kind"), [(P256, "ecdsa-p256"), (ED25519, "ed25519")])
def test_usable_keys(key: object, kind: str) -> None:
    found = publickeys.from_pem(f"\n{pem_of(key)}\n")
    assert found.kind == kind
    assert found.der == der_of(key)
    assert found.pem == pem_of(key)
    assert found.fingerprint == f"sha256:{hashlib.sha256(der_of(key)).hexdigest()}"
    assert publickeys.from_pem(pem_of(key).replace("\n", "\r\n")) == found


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (rsa.generate_private_key(65537, 2048).public_key(), "RSA"),
        (ec.generate_private_key(ec.SECP384R1()).public_key(), "ECDSA P-384"),
        (ec.generate_private_key(ec.SECP521R1()).public_key(), "ECDSA P-521"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "secp256k1"),
        (ed448.Ed448PrivateKey.generate().public_key(), "Ed448"),
        (x25519.X25519PrivateKey.generate().public_key(), "X25519"),
        (dsa.generate_private_key(1024).public_key(), "DSA"),
        (ec.generate_private_key(ec.BrainpoolP256R1()).public_key(), "elliptic-curve"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_are_named(key: object, name: str) -> None:
    with pytest.raises(InvalidInput, match=name) as caught:
        publickeys.from_pem(pem_of(key), "team.pub")
    assert "team.pub" in caught.value.message
    assert "P-256" in str(caught.value.hint)


def test_one_key_has_one_encoding() -> None:
    """The same key as a compressed point would have another fingerprint, and count twice."""
    point = P256.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    with pytest.raises(InvalidInput, match="uncompressed"):
        publickeys.from_der(head + point)
    with pytest.raises(InvalidInput, match="not usable"):
        publickeys.from_der(der_of(P256) + b"\0")


def test_points_that_are_not_on_the_curve() -> None:
    der = der_of(P256)
    for bad in (
        der[:-1] + bytes([der[-1] ^ 1]),
        der[:27] + b"\xff" * 64,
        der[:27] + bytes(64),
    ):
        with pytest.raises(InvalidInput, match="not on the curve"):
            publickeys.from_der(bad)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not one PEM block"),
        ("sha256:abc", "not one PEM block"),
        (pem_of(P256) + pem_of(ED25519), "not one PEM block"),
        (f"key: 1\n{pem_of(P256)}", "not one PEM block"),
        (pem_of(P256).replace("PUBLIC KEY", "PRIVATE KEY"), "it is a PRIVATE KEY"),
        (pem_of(P256).replace("PUBLIC KEY", "CERTIFICATE"), "it is a CERTIFICATE"),
        (pem_of(P256).replace("=", ""), "base64"),
        ("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----", "kind unknown"),
        ("x" * 20_000, "more than"),
    ],
)
def test_what_is_no_public_key(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        publickeys.from_pem(text)
