"""Keys and signatures for tests."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from rootless import publickeys
from rootless.images.content import digest_of
from rootless.images.manifest import OCI_CONFIG, OCI_MANIFEST
from rootless.images.signatures import payload
from rootless.images.signatures.attached import ANNOTATION, SIMPLE_SIGNING, Signed
from rootless.publickeys import PublicKey


@dataclass(frozen=True)
class Signer:
    """A key pair; signs with the library itself, not with the code under test."""

    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The public key."""
        return publickeys.from_der(
            self.key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )

    @property
    def pem(self) -> str:
        """The private key, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))

    def signed(self, reference: str, digest: str) -> Signed:
        """A good signature of an image."""
        data = payload.encode(reference, digest)
        return Signed(data, self.sign(data))

    def signed_body(self, body: Any) -> Signed:
        """A good signature over any JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Signed(data, self.sign(data))


@lru_cache
def ecdsa(name: str = "") -> Signer:
    """An ECDSA P-256 key; the same for the same name."""
    return Signer(ec.generate_private_key(ec.SECP256R1()))


@lru_cache
def ed(name: str = "") -> Signer:
    """An Ed25519 key."""
    return Signer(ed25519.Ed25519PrivateKey.generate())


def body_of(digest: str, reference: str = "registry.example/app") -> dict[str, Any]:
    """A payload to be bent."""
    body: dict[str, Any] = json.loads(payload.encode(reference, digest))
    return body


def manifest_of(*found: Signed, media_type: str = OCI_MANIFEST) -> dict[str, Any]:
    """The object that holds signatures, to be bent."""
    return {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": OCI_CONFIG, "digest": digest_of(b"{}"), "size": 2},
        "layers": [
            {
                "mediaType": SIMPLE_SIGNING,
                "digest": digest_of(each.payload),
                "size": len(each.payload),
                "annotations": {ANNOTATION: base64.b64encode(each.signature).decode()},
            }
            for each in found
        ],
    }
