"""key.json: this engine's identity, an EC P-256 key as a JSON web key (RFC 7517, RFC 7518).

It is made at the first start and never changed. Its id (``kid``), which ``info``
shows as ID, is the key's SHA-256 thumbprint (RFC 7638): whoever has the public
key can compute it. Docker's key.json had the same form with an id of libtrust's.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import Denied, InvalidInput, RootlessError

_BYTES = 32
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The field, constant and order of P-256 (FIPS 186-5): y² = x³ - 3x + b."""
_MAX = 16 << 10


@dataclass(frozen=True, slots=True)
class EngineKey:
    """The public part; ``id`` is the thumbprint."""

    id: str
    path: Path


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The JWK thumbprint of an EC key (RFC 7638, section 3.2), base64url without padding."""
    members = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return _base64(hashlib.sha256(text.encode()).digest())


def engine_key(path: Path) -> EngineKey:
    """The key at ``path``, made when there is none; two daemons that start at once get the same.

    Raises InvalidInput for a file that is no such key, Denied for one that others may read or
    that is another user's.
    """
    text = _read(path)
    if text is None:
        text = _make(path)
    return EngineKey(_check(text, path), path)


def _read(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RootlessError(
            f"cannot read this engine's key {path}: {error.strerror}",
            hint="mend mode and owner",
        ) from error
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInput(f"this engine's key {path} is not a file")
        if found.st_uid != os.getuid():
            raise Denied(
                f"this engine's key {path} belongs to uid {found.st_uid}, not to you",
                hint="remove it to get a new identity, or set deprecated-key-path",
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise Denied(
                f"this engine's key {path} has mode {stat.S_IMODE(found.st_mode):04o}: "
                "others may have read it",
                hint=f"chmod 600 {path}, or remove it to get a new identity",
            )
        return file.read(_MAX)


def _make(path: Path) -> bytes:
    """Write a new key; killed at any point it leaves no key, or a whole one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            made = _read(path)
            if made is not None:
                return made
            text = _new_key()
            temporary = f".{path.name}.new"
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=directory)
            with os.fdopen(fd, "wb") as file:
                os.fchmod(fd, 0o600)
                file.write(text)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise RootlessError(
            f"cannot make this engine's key {path}: {error.strerror}",
            hint='"deprecated-key-path" in daemon.json puts it elsewhere',
        ) from error
    return text


def _new_key() -> bytes:
    from rootless.engine.signing import new_key

    numbers = zip("xyd", new_key(), strict=True)
    jwk = {"kty": "EC", "crv": "P-256"}
    jwk |= {name: _base64(number.to_bytes(_BYTES)) for name, number in numbers}
    return (json.dumps({**jwk, "kid": thumbprint(jwk)}, indent=2) + "\n").encode()


def _check(text: bytes, path: Path) -> str:
    """The id of a key that is whole and fits together, or InvalidInput."""
    try:
        jwk = json.loads(text)
        if not isinstance(jwk, dict):
            raise ValueError("it is not a JSON object")
        if (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
            raise ValueError("kty and crv are not EC and P-256")
        x, y, d = (_number(jwk, name) for name in ("x", "y", "d"))
        if max(x, y) >= _P or (y * y - (x * x * x - 3 * x + _B)) % _P:
            raise ValueError("x and y are not a point of P-256")
        if not 1 <= d < _N:
            raise ValueError("d is out of range")
        if jwk.get("kid", (found := thumbprint(jwk))) != found:
            raise ValueError(f"kid is not the key's thumbprint {found}")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"this engine's key {path} is damaged: {error}",
            hint="put back a copy of it, or remove it to get a new identity",
        ) from None
    return found


def _number(jwk: Mapping[str, object], name: str) -> int:
    value = jwk.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing")
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError(f"{name} is not base64url") from None
    if len(raw) != _BYTES:
        raise ValueError(f"{name} has {len(raw)} bytes, not {_BYTES}")
    return int.from_bytes(raw)


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
