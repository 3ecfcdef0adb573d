"""Signatures by this engine's key (``key.json``: EC P-256, RFC 7517)."""

from __future__ import annotations

import base64
import json
from pathlib import Path


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def sign(path: Path, data: bytes) -> tuple[str, bytes]:
    """The key's id and an ES256 signature (r and s, 32 bytes each); OSError, ValueError."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    jwk = json.loads(path.read_bytes())
    key = ec.derive_private_key(_number(jwk["d"]), ec.SECP256R1())
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return str(jwk["kid"]), r.to_bytes(32) + s.to_bytes(32)
