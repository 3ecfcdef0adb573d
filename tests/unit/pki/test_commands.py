"""``rootless pki``, verb by verb, and OpenSSL's opinion of what it makes."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from rootless.errors import Conflict, Denied, InvalidInput, NotFound
from rootless.pki import keys
from rootless.pki.authority import Authority
from rootless.pki.commands import init, issue, requests, revoke, status
from rootless.pki.store import Store

DOMAIN = "ci.example.org"


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(keys.PASSPHRASE, "open sesame")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    """An authority with an intermediate, for localhost and example.org."""
    path = tmp_path / "pki"
    words = ["--trust-domain", DOMAIN, "--permit-dns", "localhost", "--permit-dns", "example.org"]
    assert init.main(["--dir", str(path), *words, "--permit-ip", "127.0.0.0/8"]) == 0
    return path


def _client(pki: Path, name: str, *more: str) -> Path:
    assert issue.main(["--dir", str(pki), "client", "--role", "developer", *more, name]) == 0
    return pki / "clients" / name


def _openssl(pki: Path, purpose: str, certificate: Path) -> str:
    """What OpenSSL says, by the strictest rules and with the revocation list."""
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-crl_check", "-purpose", purpose),
            *("-CAfile", pki / "root.pem", "-CRLfile", pki / "crl.pem"),
            *("-untrusted", pki / "intermediate.pem", certificate),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def _verify(pki: Path, *words: str | Path) -> tuple[int, str]:
    """Status and output of ``verify`` in a process of its own, as a user has it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = status.main_verify(["--dir", str(pki), *map(str, words)])
    return code, out.getvalue()


def test_what_is_issued_openssl_accepts_for_its_purpose_only(pki: Path, tmp_path: Path) -> None:
    alice = _client(pki, "alice")
    place = tmp_path / "server"
    words = ["server", "--out", str(place), "localhost", "127.0.0.1", "*.example.org"]
    assert issue.main(["--dir", str(pki), *words]) == 0
    assert "OK" in _openssl(pki, "sslclient", alice / "cert.pem")
    assert "OK" in _openssl(pki, "sslserver", place / "cert.pem")
    assert "unsuitable certificate purpose" in _openssl(pki, "sslserver", alice / "cert.pem")
    assert "unsuitable certificate purpose" in _openssl(pki, "sslclient", place / "cert.pem")
    for directory in (alice, place):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "key.pem").stat().st_mode & 0o777 == 0o600
        assert {path.name for path in directory.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    made = x509.load_pem_x509_certificate((alice / "cert.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [f"spiffe://{DOMAIN}/role/developer/alice"]
    assert made.serial_number.bit_length() > 64


def test_an_authority_keeps_to_its_bounds_and_openssl_sees_to_it(pki: Path, tmp_path: Path) -> None:
    with pytest.raises(Denied, match=r"may not issue for evil\.test"):
        issue.main(["--dir", str(pki), "server", "evil.test"])
    with pytest.raises(Denied, match=r"may not issue for 10\.0\.0\.1"):
        issue.main(["--dir", str(pki), "server", "10.0.0.1"])
    # An authority without bounds issues the same; with this one's bounds it is refused.
    forged = _forged(pki, tmp_path, "spiffe://elsewhere.example/role/admin/eve")
    assert "permitted subtree violation" in _openssl(pki, "sslclient", forged)
    code, told = _verify(pki, forged)
    assert code == 1
    assert "only ci.example.org is permitted" in told
    assert "its trust domain is elsewhere.example" in told


def _forged(pki: Path, place: Path, uri: str) -> Path:
    """A certificate that the authority's own code would not make, signed with its key."""
    from rootless.pki import build
    from rootless.pki.profiles import profile

    signer = Authority(Store(pki)).signer()
    key = keys.generate("p256")
    made = build.certificate(
        signer,
        None,
        key.public_key(),
        profile("client"),
        "eve",
        names=[x509.UniformResourceIdentifier(uri)],
    )
    path = place / "forged.pem"
    path.write_bytes(build.pem(made, signer.certificate))
    return path


def test_what_is_revoked_is_refused(pki: Path) -> None:
    alice, bob = _client(pki, "alice"), _client(pki, "bob")
    assert revoke.main(["--dir", str(pki), "--reason", "key-compromise", "alice"]) == 0
    assert "certificate revoked" in _openssl(pki, "sslclient", alice / "cert.pem")
    assert "OK" in _openssl(pki, "sslclient", bob / "cert.pem")
    code, told = _verify(pki, alice / "cert.pem", bob / "cert.pem")
    assert code == 1
    first, second = told.splitlines()
    assert "was revoked on" in first
    assert second.endswith("good for a client")
    with pytest.raises(NotFound, match="no certificate to 'alice' that is in force"):
        revoke.main(["--dir", str(pki), "alice"])
    # By file and by serial number, too.
    assert revoke.main(["--dir", str(pki), str(bob / "cert.pem")]) == 0
    assert "certificate revoked" in _openssl(pki, "sslclient", bob / "cert.pem")


def test_a_request_gets_what_the_signer_says_or_nothing(pki: Path, tmp_path: Path) -> None:
    place = tmp_path / "runner"
    words = ["--trust-domain", DOMAIN, "--role", "ci", "--out", str(place), "runner-1"]
    assert requests.main(words) == 0
    request = str(place / "request.pem")
    with pytest.raises(Denied, match=r"asks for .*/role/ci/runner-1, not for"):
        requests.main_sign(["--dir", str(pki), "--name", "runner-1", "--role", "admin", request])
    words = ["--name", "runner-1", "--role", "ci", "--out", str(place / "cert.pem")]
    assert requests.main_sign(["--dir", str(pki), *words, request]) == 0
    assert "OK" in _openssl(pki, "sslclient", place / "cert.pem")
    assert revoke.main(["--dir", str(pki), "runner-1"]) == 0
    assert "certificate revoked" in _openssl(pki, "sslclient", place / "cert.pem")
    tampered = bytearray((place / "request.pem").read_bytes())
    tampered[200] ^= 1
    (place / "request.pem").write_bytes(bytes(tampered))
    with pytest.raises((Denied, InvalidInput)):
        requests.main_sign(["--dir", str(pki), "--name", "runner-1", "--role", "ci", request])


def test_renewal_keeps_the_names_and_what_is_due_is_found(pki: Path, tmp_path: Path) -> None:
    place = tmp_path / "server"
    words = ["server", "--out", str(place), "--lifetime", "2d", "localhost", "127.0.0.1"]
    assert issue.main(["--dir", str(pki), *words]) == 0
    before = x509.load_pem_x509_certificate((place / "cert.pem").read_bytes())
    assert issue.main_renew(["--dir", str(pki), "--due"]) == 0
    after = x509.load_pem_x509_certificate((place / "cert.pem").read_bytes())
    kind = x509.SubjectAlternativeName
    assert after.serial_number != before.serial_number
    assert after.extensions.get_extension_for_class(
        kind
    ) == before.extensions.get_extension_for_class(kind)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert issue.main_renew(["--dir", str(pki), "--due"]) == 0  # nothing is due any more
    again = x509.load_pem_x509_certificate((place / "cert.pem").read_bytes())
    assert again == after


def test_a_list_that_is_lost_is_made_of_the_records(
    pki: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _client(pki, "alice")
    assert revoke.main(["--dir", str(pki), "alice"]) == 0
    (pki / "crl.pem").unlink()
    with pytest.raises(NotFound) as caught:
        status.main(["--dir", str(pki)])
    assert caught.value.hint == "make it anew: rootless pki crl"
    assert issue.main_renew(["--dir", str(pki), "--due"]) == 0
    capsys.readouterr()
    assert status.main(["--dir", str(pki)]) == 0
    assert "1 revoked" in capsys.readouterr().out


def test_a_role_that_no_policy_is_about_is_told(
    pki: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _client(pki, "alice")
    assert "note: " not in capsys.readouterr().err
    words = ["--dir", str(pki), "client", "--role", "intern", "--out", str(tmp_path / "i"), "ivan"]
    assert issue.main(words) == 0
    assert "note: intern is none of the built-in roles" in capsys.readouterr().err


def test_the_intermediate_is_renewed_with_the_roots_key_from_elsewhere(tmp_path: Path) -> None:
    pki, stick = tmp_path / "pki", tmp_path / "stick"
    words = ["--trust-domain", DOMAIN, "--root-key-dir", str(stick)]
    assert init.main(["--dir", str(pki), *words]) == 0
    assert not (pki / "root.key").exists()
    alice = _client(pki, "alice")
    with pytest.raises(NotFound, match=r"root\.key"):
        issue.main_renew(["--dir", str(pki), "--authority"])
    words = ["--authority", "--root-key", str(stick / "root.key")]
    assert issue.main_renew(["--dir", str(pki), *words]) == 0
    assert "OK" in _openssl(pki, "sslclient", alice / "cert.pem")


def test_status_tells_what_needs_doing(
    pki: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["server", "--out", str(tmp_path / "s"), "--lifetime", "2d", "localhost"]
    assert issue.main(["--dir", str(pki), *words]) == 0
    _client(pki, "alice")
    assert revoke.main(["--dir", str(pki), "alice"]) == 0
    capsys.readouterr()
    assert status.main(["--dir", str(pki), "--check"]) == 1
    out, err = capsys.readouterr()
    states = {line.split()[0]: line.rsplit("  ", 1)[1].strip() for line in out.splitlines()[1:]}
    assert states == {
        "root": "valid", "intermediate": "valid", "crl": "valid", "server": "ends soon",
        "client": "revoked",
    }  # fmt: skip
    assert "(hint: rootless pki renew localhost)" in err
    assert status.main(["--dir", str(pki), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trustDomain"] == DOMAIN
    assert {row["kind"] for row in told["certificates"]} == set(states)


def test_export_gives_its_holder_what_docker_wants(pki: Path, tmp_path: Path) -> None:
    _client(pki, "alice")
    out = tmp_path / "out"
    assert issue.main_export(["--dir", str(pki), "alice", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    bundle = tmp_path / "alice.p12"
    assert issue.main_export(["--dir", str(pki), "--pkcs12", str(bundle), "alice"]) == 0
    done = subprocess.run(
        ["openssl", "pkcs12", "-in", bundle, "-passin", "pass:open sesame", "-nokeys"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "CN = alice" in done.stdout, done.stderr


def test_an_authority_from_elsewhere_is_used(pki: Path, tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes((pki / "intermediate.pem").read_bytes() + (pki / "root.pem").read_bytes())
    other = tmp_path / "other"
    words = ["--dir", str(other), "--trust-domain", DOMAIN, str(chain)]
    with pytest.raises(InvalidInput, match="not that of the first certificate"):
        init.main_import([*words, str(pki / "root.key")])
    assert not other.exists()
    assert init.main_import([*words, str(pki / "intermediate.key")]) == 0
    assert "OK" in _openssl(other, "sslclient", _client(other, "bob") / "cert.pem")
    client = _client(pki, "alice")
    words = ["--dir", str(tmp_path / "third"), str(client / "cert.pem")]
    with pytest.raises(InvalidInput, match="must hold the authority's certificate"):
        init.main_import([*words, str(client / "key.pem")])


def test_keys_are_encrypted_and_closed_to_others(
    pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("root.key", "intermediate.key"):
        path = pki / name
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(keys.PASSPHRASE, "guess")
    with pytest.raises(Denied, match="does not open the key"):
        _client(pki, "alice")
    assert not (pki / "clients").exists()
    monkeypatch.setenv(keys.PASSPHRASE, "open sesame")
    (pki / "intermediate.key").chmod(0o640)
    with pytest.raises(Denied, match="mode 0640, which lets others at the key"):
        _client(pki, "alice")
    (pki / "intermediate.key").chmod(0o600)
    pki.chmod(0o755)
    with pytest.raises(Denied, match=f"chmod 700 {pki}"):
        _client(pki, "alice")


def test_nothing_is_asked_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.PASSPHRASE)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(InvalidInput, match="there is no terminal"):
        init.main(["--dir", str(tmp_path / "pki")])
    assert not (tmp_path / "pki").exists()
    assert init.main(["--dir", str(tmp_path / "pki"), "--no-passphrase"]) == 0


def test_what_exists_is_never_written_over(pki: Path, tmp_path: Path) -> None:
    key = (pki / "root.key").read_bytes()
    with pytest.raises(Conflict, match="has a certificate authority already"):
        init.main(["--dir", str(pki)])
    assert (pki / "root.key").read_bytes() == key
    place = tmp_path / "taken"
    shutil.copytree(_client(pki, "alice"), place)
    with pytest.raises(Conflict, match="has the key of another certificate"):
        _client(pki, "bob", "--out", str(place))
    stick = tmp_path / "stick"
    stick.mkdir(mode=0o700)
    (stick / "root.key").write_text("precious")
    with pytest.raises(Conflict, match=r"root\.key exists already"):
        init.main(["--dir", str(tmp_path / "new"), "--root-key-dir", str(stick)])
    assert (stick / "root.key").read_text() == "precious"
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["client", "alice"], "a client needs a role"),
        (["client", "--role", "Admin", "alice"], "invalid role"),
        (["client", "--role", "ci", "a/b"], "invalid name"),
        (["client", "--role", "ci", "a", "b"], "a client has one name"),
        (["client", "--role", "ci", "--install", "a"], "--install is for servers"),
        (["client", "--role", "ci", "--lifetime", "400d", "a"], "lives at most 397d"),
        (["server", "--role", "ci", "localhost"], "--role is for clients"),
        (["server", "local host"], "invalid server name"),
        (["server", "127.0.0"], "invalid server name"),
        (["server", "-evil"], None),
    ],
)
def test_bad_input_is_refused_in_words(pki: Path, words: list[str], message: str | None) -> None:
    if message is None:
        with pytest.raises(SystemExit):
            issue.main(["--dir", str(pki), *words])
    else:
        with pytest.raises(InvalidInput, match=message):
            issue.main(["--dir", str(pki), *words])
    assert not (pki / "issued").exists()


def test_a_directory_without_an_authority_says_what_to_do(tmp_path: Path) -> None:
    for main in (status.main, revoke.main_crl):
        with pytest.raises(NotFound, match="no certificate authority in") as caught:
            main(["--dir", str(tmp_path / "none")])
        assert "rootless pki init" in str(caught.value.hint)


@pytest.mark.parametrize("kind", keys.KINDS)
def test_each_kind_of_key_works_without_an_intermediate(tmp_path: Path, kind: str) -> None:
    pki = tmp_path / "pki"
    words = ["--trust-domain", DOMAIN, "--key", kind, "--no-intermediate"]
    assert init.main(["--dir", str(pki), *words]) == 0
    alice = _client(pki, "alice")
    shutil.copy(pki / "root.pem", pki / "intermediate.pem.none")
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-crl_check", "-purpose", "sslclient",
         "-CAfile", pki / "root.pem", "-CRLfile", pki / "crl.pem", alice / "cert.pem"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "OK" in done.stdout, done.stderr
    assert _verify(pki, alice / "cert.pem")[0] == 0


def test_verify_says_when_it_does_not_look_at_revocation(
    pki: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = _client(pki, "alice") / "cert.pem"
    revoke.main(["--dir", str(pki), "alice"])
    capsys.readouterr()
    words = ["--ca", str(pki / "root.pem"), str(alice)]
    assert status.main_verify(words) == 0
    assert "revocation is not looked at" in capsys.readouterr().err
    assert status.main_verify(["--crl", str(pki / "crl.pem"), *words]) == 1
    assert "revocation is not" not in capsys.readouterr().err


def test_verify_tells_all_that_is_wrong(pki: Path, tmp_path: Path) -> None:
    alice = _client(pki, "alice")
    code, told = _verify(pki, "--purpose", "server", "--host", "localhost", alice / "cert.pem")
    assert code == 1
    assert "it is not for servers: its extendedKeyUsage has no serverAuth" in told
    assert "it is not for the server localhost, but for spiffe://" in told
    other = tmp_path / "other"
    assert init.main(["--dir", str(other), "--trust-domain", "elsewhere.example"]) == 0
    code, told = _verify(other, alice / "cert.pem")
    assert code == 1
    assert "no trusted authority" in told
    assert "its trust domain is ci.example.org, not elsewhere.example" in told
    leaf = (alice / "cert.pem").read_bytes().split(b"-----END CERTIFICATE-----")[0]
    (tmp_path / "leaf.pem").write_bytes(leaf + b"-----END CERTIFICATE-----\n")
    code, told = _verify(pki, tmp_path / "leaf.pem")
    assert code == 1
    assert "no trusted authority and no intermediate is its issuer" in told


def test_what_another_command_changed_meanwhile_counts(pki: Path, tmp_path: Path) -> None:
    """The settings are read before the lock is had, and again with it."""
    early = Authority(Store(pki))
    place = tmp_path / "tls"
    place.mkdir(mode=0o700)
    other = Authority(Store(pki))
    with other.locked():
        other.install(place)
        other.publish()
    with early.locked():
        early.publish()
    # Its list is where the other one's daemon looks, with a number of its own.
    assert (place / "crl.pem").read_bytes() == (pki / "crl.pem").read_bytes()
    assert early.state.crl_number == other.state.crl_number + 1
    assert Store(pki).state() == early.state
