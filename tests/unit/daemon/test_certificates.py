"""The files of ``tcp://``: each thing that can be wrong with them is named, with its fix."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from rootless.daemon.certificates import Certificates, TlsFiles, load
from rootless.errors import RootlessError
from tests.support import pki

CA = pki.authority()
SERVER = pki.signed(CA, "server", server=True)


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """A right set of files."""
    directory = pki.write(tmp_path / "tls", CA, SERVER)
    names = ("ca.pem", "cert.pem", "key.pem", "crl.pem")
    return TlsFiles(*(directory / name for name in names))


def test_only_tls_1_3_with_a_client_certificate_and_no_tickets(files: TlsFiles) -> None:
    context = load(files).context
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET


def _write(text: bytes, name: str) -> Callable[[TlsFiles], None]:
    return lambda files: (files.key.parent / name).write_bytes(text) and None


@pytest.mark.parametrize(
    ("spoil", "message", "hint"),
    [
        (lambda f: f.authorities.unlink(), "cannot read tlscacert", "--tlscacert FILE"),
        (lambda f: f.certificate.unlink(), "cannot read tlscert", "--tlscert FILE"),
        (lambda f: f.key.unlink(), "cannot read tlskey", "--tlskey FILE"),
        (lambda f: f.key.chmod(0o640), "key.pem has mode 0640", "chmod 600"),
        (lambda f: f.key.parent.chmod(0o750), "tls has mode 0750", "chmod 700"),
        (lambda f: f.revocations.unlink(), "cannot read tlscrl", "rootless pki crl"),
        (_write(b"x", "crl.pem"), "holds no revocation list", "rootless pki crl"),
        (_write(pki.revocations(CA)[:200], "crl.pem"), "is cut off", ""),
        (_write(pki.revocations(CA, days=-1), "crl.pem"), "the list of CN=Test CA ended on",
         "rootless pki crl"),
        (_write(pki.revocations(pki.authority()), "crl.pem"), "no list that an authority",
         "intermediate"),
        (_write(pki.authority(strict=False).pem, "ca.pem"), "has no keyUsage", "pki init"),
        (_write(CA.pem + b"\n" * (1 << 20), "ca.pem"), "has more than 1048576 bytes", ""),
        (_write(b"x", "ca.pem"), "holds no certificate", "BEGIN CERTIFICATE"),
        (_write(b"x", "cert.pem"), "holds no certificate", "BEGIN CERTIFICATE"),
        (_write(b"x", "key.pem"), "holds no private key", "BEGIN PRIVATE KEY"),
        (_write(pki.authority().key_pem(), "key.pem"), "is not the key of tlscert", "first"),
        (_write(SERVER.key_pem(b"word"), "key.pem"), "locked by a passphrase", "openssl pkey"),
        (_write(SERVER.pem, "ca.pem"), "is not a certificate authority", "signed"),
        (_write(pki.authority(days=-1).pem, "ca.pem"), "CN=Test CA expired on", "renew"),
        (
            lambda f: pki.write(f.key.parent, CA, pki.signed(CA, "old", server=True, begins=-9,
                                                             days=-1)),
            "CN=old expired on", "renew",
        ),
        (
            lambda f: pki.write(f.key.parent, CA, pki.signed(CA, "new", server=True, begins=2)),
            "CN=new is not valid before", "clock",
        ),
        (
            lambda f: pki.write(f.key.parent, CA, pki.signed(CA, "client")),
            "is not for servers", "serverAuth",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    files: TlsFiles, spoil: Callable[[TlsFiles], object], message: str, hint: str
) -> None:
    spoil(files)
    with pytest.raises(RootlessError) as caught:
        load(files)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_changed_files_are_taken_and_wrong_ones_leave_the_former(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(files)
    first = certificates.context()
    assert certificates.context() is first
    replacement = pki.signed(CA, "second", server=True)
    files.certificate.write_bytes(replacement.pem)
    assert certificates.context() is first
    assert "is not the key of tlscert" in caplog.text
    caplog.clear()
    assert certificates.context() is first
    assert not caplog.text, "one change is told once"
    files.key.write_bytes(replacement.key_pem())
    assert certificates.context() is not first


def test_a_key_that_others_can_read_is_not_opened_by_a_link(
    files: TlsFiles, tmp_path: Path
) -> None:
    open_directory = tmp_path / "open"
    open_directory.mkdir(mode=0o755)
    open_directory.chmod(0o755)
    moved = open_directory / "key.pem"
    os.rename(files.key, moved)
    files.key.symlink_to(moved)
    with pytest.raises(RootlessError, match="open has mode 0755"):
        load(files)


def test_whose_certificate_is_in_the_list_is_known(files: TlsFiles) -> None:
    alice, bob = pki.signed(CA, "alice"), pki.signed(CA, "bob")
    certificates = Certificates(files)
    der = [pair.certificate.public_bytes(Encoding.DER) for pair in (alice, bob)]
    assert not any(certificates.is_revoked(one) for one in der)
    files.revocations.write_bytes(pki.revocations(CA, alice))
    certificates.refresh()
    assert certificates.generation == 1
    assert [certificates.is_revoked(one) for one in der] == [True, False]
    # Another authority's list says nothing about this one's certificates.
    other = pki.authority("Other CA")
    files.authorities.write_bytes(CA.pem + other.pem)
    files.revocations.write_bytes(pki.revocations(CA) + pki.revocations(other, bob))
    certificates.refresh()
    assert not any(certificates.is_revoked(one) for one in der)
