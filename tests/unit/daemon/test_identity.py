"""key.json: made once, private, whole or not at all, and checked."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from rootless.daemon.identity import engine_key, thumbprint
from rootless.errors import RootlessError


def _int(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_it_is_made_once_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "c/key.json"
    first = engine_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_bytes()
    assert engine_key(path) == first
    assert path.read_bytes() == text
    assert os.listdir(path.parent) == ["key.json"]


def test_it_is_a_jwk_whose_private_part_belongs_to_the_public_one(tmp_path: Path) -> None:
    found = engine_key(tmp_path / "key.json")
    jwk = json.loads((tmp_path / "key.json").read_text())
    assert (jwk["kty"], jwk["crv"], jwk["kid"]) == ("EC", "P-256", found.id)
    public = ec.EllipticCurvePublicNumbers(_int(jwk["x"]), _int(jwk["y"]), ec.SECP256R1())
    assert ec.derive_private_key(_int(jwk["d"]), ec.SECP256R1()).public_key().public_numbers() == (
        public
    )


def test_the_thumbprint_is_rfc_7638s() -> None:
    """The members in order, without blanks, hashed."""
    jwk = {"y": "Y", "x": "X", "kty": "EC", "crv": "P-256", "d": "secret", "kid": "any"}
    digest = hashlib.sha256(b'{"crv":"P-256","kty":"EC","x":"X","y":"Y"}').digest()
    assert thumbprint(jwk) == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _changed(path: Path, **members: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"kty": "RSA"}, "kty and crv are not EC and P-256"),
        ({"x": "AA"}, "x has 1 bytes, not 32"),
        ({"y": "*"}, "y is not base64url"),
        ({"d": None}, "d is missing"),
        (
            {"x": base64.urlsafe_b64encode(bytes(31) + b"\1").decode()},
            "x and y are not a point of P-256",
        ),
        ({"d": base64.urlsafe_b64encode(bytes(32)).decode()}, "d is out of range"),
        ({"kid": "other"}, "kid is not the key's thumbprint"),
    ],
)
def test_a_damaged_key_is_refused_with_the_reason(
    tmp_path: Path, members: dict[str, object], message: str
) -> None:
    path = tmp_path / "key.json"
    engine_key(path)
    _changed(path, **members)
    with pytest.raises(RootlessError) as caught:
        engine_key(path)
    assert f"{path} is damaged: {message}" in caught.value.message
    assert "remove it to get a new identity" in (caught.value.hint or "")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(RootlessError, match="is damaged"):
        engine_key(path)


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    engine_key(path)
    path.chmod(0o640)
    with pytest.raises(RootlessError, match="has mode 0640") as caught:
        engine_key(path)
    assert "chmod 600" in (caught.value.hint or "")


def test_a_directory_without_write_permission_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RootlessError, match="cannot make this engine's key") as caught:
            engine_key(tmp_path / "key.json")
    finally:
        tmp_path.chmod(0o700)
    assert "deprecated-key-path" in (caught.value.hint or "")


_CHILD = """
import os, sys
from pathlib import Path
from rootless.daemon import identity

calls = 0
def watched(name):
    real = getattr(os, name)
    def call(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        return real(*arguments, **named)
    setattr(os, name, call)

for name in ("open", "fchmod", "fsync", "rename", "close"):
    watched(name)
print(identity.engine_key(Path(sys.argv[1])).id)
"""


def test_kill_at_any_point_leaves_no_key_or_a_whole_one(tmp_path: Path) -> None:
    for step in range(1, 20):
        path = tmp_path / f"{step}/key.json"
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(path), str(step)],
            capture_output=True,
            text=True,
            check=False,
        )
        made = path.exists()
        found = engine_key(path)
        assert engine_key(path) == found
        assert sorted(os.listdir(path.parent)) == ["key.json"]
        if done.returncode == 0:
            assert found.id == done.stdout.strip()
            assert made
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
    raise AssertionError("the child never came to its end")


def test_daemons_that_start_at_once_have_one_identity(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rootless.daemon.identity import engine_key; "
        "print(engine_key(Path(sys.argv[1])).id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "key.json")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({child.communicate()[0] for child in children}) == 1
