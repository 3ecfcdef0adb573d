"""Private keys that sign images: read, made, used; by the command line only.

Read are PKCS#8 (RFC 5958, encrypted or not), "EC PRIVATE KEY" (RFC 5915), and cosign's own
form: ``ENCRYPTED SIGSTORE PRIVATE KEY`` (before cosign 2: ``ENCRYPTED COSIGN PRIVATE KEY``),
a JSON object with a PKCS#8 key in NaCl's secretbox under a key that scrypt derives from the
password (go-securesystemslib, ``encrypted``). Keys are made in that form, which cosign and
skopeo read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rootless import publickeys
from rootless.errors import InvalidInput
from rootless.publickeys import Kind, PublicKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Password = Callable[[], bytes]
"""Asks for the password; called for a key that is encrypted only."""

MAX_KEY = 64 << 10
"""Bytes of a key file."""

_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]+)-----\s(?P<body>[A-Za-z0-9+/=\s]+)-----END (?P=label)-----"
)
_SEALED = frozenset((b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY"))
_PLAIN = frozenset((b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"EC PRIVATE KEY"))
_MAX_SCRYPT = 1 << 28
"""Bytes of memory that a key file may make us use (128 · N · r)."""
_SCRYPT = {"N": 1 << 16, "r": 8, "p": 1}
_SCRYPT_MARGIN = 1 << 20


class PrivateKey:
    """A key that signs."""

    def __init__(self, key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        """The key that its signatures are checked with."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return publickeys.from_der(der, "the key")

    def sign(self, payload: bytes) -> bytes:
        """ECDSA over SHA-256 in DER, or Ed25519 over the payload itself."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(payload, ec.ECDSA(hashes.SHA256()))
        return self._key.sign(payload)


def load(data: bytes, password: Password, what: str = "private key") -> PrivateKey:
    """The key in a file's content; InvalidInput for what is none or needs another password."""
    match = _BLOCK.fullmatch(data.strip()) if len(data) <= MAX_KEY else None
    label = match["label"] if match else b""
    if match is None or label not in _SEALED | _PLAIN:
        shown = label.decode() or "not one PEM block"
        raise InvalidInput(
            f"{what} is not usable: it is {shown}",
            hint="rootless image generate-key-pair makes one; cosign's and PKCS#8 keys are read",
        )
    if label in _SEALED:
        return _from_der(_opened(match["body"], password, what), what)
    from cryptography.hazmat.primitives import serialization

    secret = password() if label.startswith(b"ENCRYPTED") else None
    if secret == b"":
        raise InvalidInput(f"{what} is encrypted, and a password that is empty cannot open it")
    try:
        key = serialization.load_pem_private_key(data.strip() + b"\n", secret)
    except (ValueError, TypeError) as error:
        raise _unreadable(what, str(error)) from error
    return _usable(key, what)


def _unreadable(what: str, reason: str) -> InvalidInput:
    return InvalidInput(
        f"{what} cannot be opened: {reason.partition(chr(10))[0][:200]}",
        hint="is it the right password?",
    )


def _from_der(der: bytes, what: str) -> PrivateKey:
    from cryptography.hazmat.primitives import serialization

    try:
        return _usable(serialization.load_der_private_key(der, None), what)
    except (ValueError, TypeError) as error:
        raise _unreadable(what, str(error)) from error


def _usable(key: object, what: str) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if isinstance(key, ed25519.Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return PrivateKey(key)
    name = type(key).__name__.removesuffix("PrivateKey").strip("_")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        name = f"ECDSA {key.curve.name}"
    raise InvalidInput(
        f"{what} is not usable: this is a key of the kind {name}",
        hint="images are signed with ECDSA P-256 and Ed25519 keys",
    )


def _opened(body: bytes, password: Password, what: str) -> bytes:
    """The PKCS#8 key in cosign's encrypted form."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        box = json.loads(base64.b64decode(b"".join(body.split()), validate=True))
        kdf, cipher = box["kdf"], box["cipher"]
        if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
            raise ValueError("it is encrypted in a way that is not known")
        salt, nonce, sealed = map(_decoded, (kdf["salt"], cipher["nonce"], box["ciphertext"]))
        params = kdf["params"]
        cost = [params[name] for name in ("N", "r", "p")]
        if not all(type(number) is int and number > 0 for number in cost):
            raise ValueError("its key derivation is not understood")
        if len(nonce) != SecretBox.NONCE_SIZE:
            raise ValueError("its nonce has another length")
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"{what} is damaged: {error}") from error
    key = _derived(password(), salt, params, what)
    try:
        return SecretBox(key).decrypt(sealed, nonce)
    except CryptoError as error:
        raise _unreadable(what, "the password is wrong, or the file is damaged") from error


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise TypeError("something in it is not text")
    return base64.b64decode(text, validate=True)


def _derived(secret: bytes, salt: bytes, params: dict[str, Any], what: str) -> bytes:
    n, r, p = params["N"], params["r"], params["p"]
    memory = 128 * n * r
    if memory > _MAX_SCRYPT or p > 16:
        raise InvalidInput(f"{what} is refused: opening it would take {memory >> 20} MiB of memory")
    try:
        return hashlib.scrypt(
            secret, salt=salt, n=n, r=r, p=p, dklen=32, maxmem=memory + _SCRYPT_MARGIN * p
        )
    except ValueError as error:
        raise InvalidInput(f"{what} is damaged: its key derivation: {error}") from error


def _wrapped(label: str, data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""))


def generate(kind: Kind, secret: bytes) -> tuple[str, PublicKey]:
    """A new key pair: the private one in cosign's encrypted form (PEM), the public one."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from nacl.secret import SecretBox

    key: EllipticCurvePrivateKey | Ed25519PrivateKey = (
        ec.generate_private_key(ec.SECP256R1())
        if kind == "ecdsa-p256"
        else ed25519.Ed25519PrivateKey.generate()
    )
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, nonce = os.urandom(32), os.urandom(SecretBox.NONCE_SIZE)
    box = SecretBox(_derived(secret, salt, _SCRYPT, "the new key"))
    body = {
        "kdf": {
            "name": "scrypt",
            "params": _SCRYPT,
            "salt": base64.b64encode(salt).decode(),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box.encrypt(der, nonce).ciphertext).decode(),
    }
    sealed = json.dumps(body, separators=(",", ":")).encode()
    return _wrapped("ENCRYPTED SIGSTORE PRIVATE KEY", sealed), PrivateKey(key).public
