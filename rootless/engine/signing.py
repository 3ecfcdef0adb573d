"""This engine's key (``key.json``: EC P-256, RFC 7517): made, and signed with, in a child.

``cryptography`` takes 7 MB that it never gives back; a daemon needs it for a few
milliseconds in ten minutes. The child is this module, run as a program.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rootless.errors import RootlessError
from rootless.linux import isolated

_BYTES = 32
_SECONDS = 60.0
"""After which a child on a machine that is out of everything is given up."""


def new_key() -> tuple[int, int, int]:
    """x, y and d of a new key; RootlessError."""
    raw = _child(["new"], b"")
    if len(raw) != 3 * _BYTES:
        raise RootlessError("the program that makes this engine's key gave none")
    x, y, d = (int.from_bytes(raw[at : at + _BYTES]) for at in range(0, 3 * _BYTES, _BYTES))
    return x, y, d


def sign(path: Path, data: bytes) -> tuple[str, bytes]:
    """The key's id and an ES256 signature (r and s, 32 bytes each).

    Raises OSError or ValueError when the key cannot be read, RootlessError when signing fails.
    """
    jwk = json.loads(path.read_bytes())
    if not isinstance(jwk, dict) or not isinstance(jwk.get("d"), str):
        raise ValueError(f"{path} is no private key")
    signature = _child(["sign"], _decode(jwk["d"]).rjust(_BYTES, b"\0") + data)
    if len(signature) != 2 * _BYTES:
        raise RootlessError("the program that signs with this engine's key gave no signature")
    return str(jwk.get("kid")), signature


def _child(arguments: Sequence[str], data: bytes) -> bytes:
    """Output of this module as a program; the key goes by pipe, where nobody else can read it."""
    argv = isolated.command(__name__, arguments, site_packages=True)
    try:
        done = subprocess.run(
            argv, input=data, capture_output=True, timeout=_SECONDS, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RootlessError(f"cannot use this engine's key: {error}") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RootlessError(f"cannot use this engine's key: {lines[-1] if lines else 'killed'}")
    return done.stdout


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def main(arguments: Sequence[str]) -> int:
    """``new``: x, y, d on standard output. ``sign``: d and data on standard input, r and s out."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    numbers: tuple[int, ...]
    if arguments[0] == "new":
        private = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        public = private.public_numbers
        numbers = (public.x, public.y, private.private_value)
    else:
        given = sys.stdin.buffer.read()
        key = ec.derive_private_key(int.from_bytes(given[:_BYTES]), ec.SECP256R1())
        numbers = decode_dss_signature(key.sign(given[_BYTES:], ec.ECDSA(hashes.SHA256())))
    os.write(sys.stdout.fileno(), b"".join(number.to_bytes(_BYTES) for number in numbers))
    return 0
