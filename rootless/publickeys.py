"""Public keys of signatures: PEM with a SubjectPublicKeyInfo (RFC 7468, RFC 5280).

ECDSA on P-256 and Ed25519, each in its one canonical encoding, so that one key has one
fingerprint and cannot count as two. Read without a cryptography library: a policy that
names keys is loaded by the daemon, which never uses them itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from rootless.errors import InvalidInput

Kind = Literal["ecdsa-p256", "ed25519"]

MAX_PEM = 16 << 10
"""Bytes of a key file; more is no key of ours."""

_BLOCK = re.compile(
    r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----\s(?P<body>[A-Za-z0-9+/=\s]*)-----END (?P=label)-----",
    re.ASCII,
)
_P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_ED25519_HEAD = bytes.fromhex("302a300506032b6570032100")
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
"""The field and the constant of NIST P-256 (FIPS 186-4, D.1.2.3); its a is -3."""
_OTHERS = (
    ("2a864886f70d010101", "RSA"),
    ("2a864886f70d01010a", "RSA-PSS"),
    ("2a8648ce3d03010706", "ECDSA P-256 in another encoding"),
    ("2b81040022", "ECDSA P-384"),
    ("2b81040023", "ECDSA P-521"),
    ("2b8104000a", "ECDSA secp256k1"),
    ("2b6571", "Ed448"),
    ("2a8648ce380401", "DSA"),
    ("2b656e", "X25519"),
    ("2a8648ce3d030107", "ECDSA P-256 that is not encoded as an uncompressed point"),
    ("2a8648ce3d0201", "elliptic-curve"),
)
"""Object identifiers (DER, hex) of keys that people have, for the message."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """``der`` is the canonical SubjectPublicKeyInfo."""

    kind: Kind
    der: bytes

    @property
    def fingerprint(self) -> str:
        """``sha256:<hex>`` of the SubjectPublicKeyInfo: what records and reports show."""
        return f"sha256:{hashlib.sha256(self.der).hexdigest()}"

    @property
    def pem(self) -> str:
        """As ``openssl pkey -pubout`` prints it."""
        text = base64.b64encode(self.der).decode()
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        return "\n".join(("-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""))


def from_der(der: bytes, what: str = "public key") -> PublicKey:
    """The key in a SubjectPublicKeyInfo; InvalidInput names what it is instead."""
    if len(der) == 91 and der.startswith(_P256_HEAD + b"\x04"):
        x, y = int.from_bytes(der[27:59]), int.from_bytes(der[59:])
        if x >= _P or y >= _P or (y * y - (x * x * x - 3 * x + _B)) % _P:
            raise InvalidInput(f"{what} is not usable: its point is not on the curve P-256")
        return PublicKey("ecdsa-p256", der)
    if len(der) == 44 and der.startswith(_ED25519_HEAD):
        return PublicKey("ed25519", der)
    found = next((name for oid, name in _OTHERS if bytes.fromhex(oid) in der[:40]), "unknown")
    raise InvalidInput(
        f"{what} is not usable: this is a key of the kind {found}",
        hint="signatures are checked with ECDSA P-256 (cosign's default) and Ed25519 keys",
    )


def from_pem(text: str, what: str = "public key") -> PublicKey:
    """The one public key in a PEM text; InvalidInput when it is not exactly that."""
    if len(text) > MAX_PEM:
        raise InvalidInput(f"{what} is not usable: it has more than {MAX_PEM} bytes")
    match = _BLOCK.fullmatch(text.strip())
    if match is None:
        raise InvalidInput(
            f"{what} is not usable: it is not one PEM block",
            hint="it begins with -----BEGIN PUBLIC KEY----- and has nothing else beside it",
        )
    label = match["label"]
    if label != "PUBLIC KEY":
        hint = "name the file that ends with .pub" if "PRIVATE" in label else None
        raise InvalidInput(f"{what} is not usable: it is a {label}, not a PUBLIC KEY", hint=hint)
    try:
        der = base64.b64decode("".join(match["body"].split()), validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"{what} is not usable: its base64 is damaged: {error}") from error
    return from_der(der, what)
