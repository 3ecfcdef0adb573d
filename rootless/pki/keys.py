"""Private keys: ECDSA on P-256 and Ed25519, in PEM (PKCS #8, RFC 5958), locked or not."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rootless.errors import Denied, InvalidInput
from rootless.pki import files

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    type_of_key = EllipticCurvePrivateKey | Ed25519PrivateKey

KeyKind = Literal["p256", "ed25519"]
KINDS: tuple[KeyKind, ...] = ("p256", "ed25519")
PASSPHRASE = "ROOTLESS_PKI_PASSPHRASE"  # noqa: S105 - the variable's name
LABELS = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY")


def generate(kind: KeyKind) -> type_of_key:
    """A new key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: type_of_key, passphrase: bytes = b"") -> bytes:
    """PEM text, encrypted when there is a passphrase."""
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def is_locked(pem: bytes) -> bool:
    """Whether a passphrase is needed."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def from_pem(pem: bytes, path: Path, passphrase: bytes = b"") -> type_of_key:
    """The key in ``pem``; InvalidInput for what is none of ours, Denied for a wrong passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    locked = is_locked(pem)
    try:
        key = load_pem_private_key(pem, passphrase if locked else None)
    except TypeError:
        raise Denied(
            f"the key {path} is locked by a passphrase", hint=f"put it into {PASSPHRASE}"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        if locked:
            raise Denied(f"the passphrase does not open the key {path}") from None
        raise InvalidInput(
            f"{path} holds no private key",
            hint="it must be PEM text: -----BEGIN PRIVATE KEY-----",
        ) from None
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise InvalidInput(
        f"the key {path} is of a kind that is not used here",
        hint="ECDSA on P-256 and Ed25519 are; make a new one",
    )


def load(path: Path, what: str, passphrase: bytes | None = None) -> type_of_key:
    """The key in a file that is closed to others.

    ``passphrase`` is for one that is locked; None asks for it when it is needed.
    """
    pem = files.read(path, what, private=True)
    if not is_locked(pem):
        return from_pem(pem, path)
    return from_pem(pem, path, ask(f"Passphrase of {path}: ") if passphrase is None else passphrase)


def ask(prompt: str, *, twice: bool = False) -> bytes:
    """A passphrase, from the environment or the terminal; InvalidInput where there is neither."""
    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return os.fsencode(given)
    if not sys.stdin.isatty():
        raise InvalidInput(
            "a passphrase cannot be asked for: there is no terminal",
            hint=f"put it into the variable {PASSPHRASE} (--no-passphrase makes a key without)",
        )
    import getpass

    passphrase = getpass.getpass(prompt)
    if twice and passphrase != getpass.getpass("The same again: "):
        raise InvalidInput("the passphrases are not the same")
    return passphrase.encode()
