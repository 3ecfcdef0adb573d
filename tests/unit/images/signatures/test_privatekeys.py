"""Private keys: cosign's encrypted form, PKCS#8, and what is refused."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from rootless.errors import InvalidInput
from rootless.images.signatures import privatekeys
from rootless.images.signatures.attached import Signed
from rootless.images.signatures.verify import holds
from rootless.publickeys import Kind
from tests.support.signing import ecdsa, ed


def _never() -> bytes:
    raise AssertionError("asked for a password that is not needed")


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ed25519"])
def test_generated_keys(kind: Kind) -> None:
    text, public = privatekeys.generate(kind, b"secret")
    assert text.startswith("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    key = privatekeys.load(text.encode(), lambda: b"secret")
    assert (key.public, public.kind) == (public, kind)
    assert holds(public, Signed(b"data", key.sign(b"data")))
    with pytest.raises(InvalidInput, match="password is wrong"):
        privatekeys.load(text.encode(), lambda: b"Secret")
    older = text.replace("SIGSTORE", "COSIGN")
    assert privatekeys.load(older.encode(), lambda: b"secret").public == public


def test_without_a_password() -> None:
    text, public = privatekeys.generate("ecdsa-p256", b"")
    assert privatekeys.load(text.encode(), lambda: b"").public == public


def test_other_forms() -> None:
    signer = ecdsa()
    for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        data = signer.key.private_bytes(Encoding.PEM, form, NoEncryption())
        assert privatekeys.load(data, _never).public == signer.public
    sealed = ed().key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")
    )
    assert privatekeys.load(sealed, lambda: b"pw").public == ed().public
    with pytest.raises(InvalidInput, match="cannot be opened"):
        privatekeys.load(sealed, lambda: b"no")
    with pytest.raises(InvalidInput, match="empty"):
        privatekeys.load(sealed, lambda: b"")


@pytest.mark.parametrize("algorithm", ["EC", "ED25519"])
def test_keys_of_openssl(algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    more = ["-pkeyopt", "ec_paramgen_curve:P-256"] if algorithm == "EC" else []
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", algorithm, *more, "-out", path],
        check=True, capture_output=True,
    )  # fmt: skip
    key = privatekeys.load(path.read_bytes(), _never)
    shown = subprocess.run(
        ["openssl", "pkey", "-in", path, "-pubout"], check=True, capture_output=True
    )
    assert key.public.pem == shown.stdout.decode()


@pytest.mark.parametrize(
    ("key", "name"),
    [(rsa.generate_private_key(65537, 2048), "RSA"),
     (ec.generate_private_key(ec.SECP384R1()), "secp384r1")],
)  # fmt: skip
def test_other_kinds(key: Any, name: str) -> None:
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(InvalidInput, match=name):
        privatekeys.load(data, _never, "my.key")


@pytest.mark.parametrize(
    "data",
    [b"", b"x", ecdsa().public.pem.encode(), b"-----BEGIN PRIVATE KEY-----\nMA==\n-----END X-----",
     b"-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----", b"y" * 100_000],
)  # fmt: skip
def test_what_is_no_key(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        privatekeys.load(data, _never)


def _bent(**changes: Any) -> bytes:
    text, _ = privatekeys.generate("ecdsa-p256", b"pw")
    body = json.loads(base64.b64decode("".join(text.split("\n")[1:-2])))
    for path, value in changes.items():
        where = body
        *parents, last = path.split("__")
        for name in parents:
            where = where[name]
        where[last] = value
    sealed = base64.b64encode(json.dumps(body).encode()).decode()
    label = "ENCRYPTED SIGSTORE PRIVATE KEY"
    return f"-----BEGIN {label}-----\n{sealed}\n-----END {label}-----\n".encode()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kdf__name": "none"}, "not known"),
        ({"cipher__name": "rot13"}, "not known"),
        ({"cipher__nonce": "AAAA"}, "nonce"),
        ({"ciphertext": "AAAA"}, "password is wrong"),
        ({"ciphertext": 7}, "damaged"),
        ({"kdf": []}, "damaged"),
        ({"kdf__params": {}}, "damaged"),
        ({"kdf__params__N": 1 << 30}, "memory"),
        ({"kdf__params__p": 1 << 30}, "memory"),
        ({"kdf__params__N": 3}, "damaged"),
        ({"kdf__params__N": -1}, "damaged"),
        ({"kdf__params__N": True}, "damaged"),
    ],
)
def test_damaged_and_greedy_keys(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        privatekeys.load(_bent(**changes), lambda: b"pw")
