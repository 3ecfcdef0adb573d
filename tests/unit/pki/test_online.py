"""An authority at a daemon's hand: what it renews, and for whom it does nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from rootless.errors import Conflict, Denied, InvalidInput
from rootless.pki import build, creation, keys
from rootless.pki.authority import Authority
from rootless.pki.creation import Plan
from rootless.pki.identity import ClientId
from rootless.pki.online import MOST, OnlineAuthority
from rootless.pki.renewal import Wish, make
from rootless.pki.store import Record, Store, format_time

ALICE = ClientId("example.org", "developer", "alice")
BOB = ClientId("example.org", "admin", "bob")


def authority(place: Path, passphrase: bytes = b"") -> Authority:
    constraints = build.constraints_of("example.org")
    plan = Plan("example.org", constraints, "Test", "p256", True, None, passphrase)
    creation.make(Store(place), plan)
    return Authority(Store(place), passphrase)


def issued(by: Authority, client: ClientId, lifetime: timedelta | None = None) -> Record:
    key = keys.generate("p256")
    names = build.client_names(client)
    return by.issue(
        "client", client.name, client.role, names, key.public_key(), lifetime=lifetime
    ).record


def request(client: ClientId = ALICE) -> str:
    made = build.request(keys.generate("p256"), client.name, build.client_names(client))
    return made.decode()


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return authority(tmp_path / "pki")


def online(ours: Authority) -> OnlineAuthority:
    return OnlineAuthority(ours.store.path, b"")


def test_a_holder_gets_the_next_one_for_as_long_as_the_last(ours: Authority) -> None:
    old = issued(ours, ALICE, timedelta(hours=2))
    new = online(ours).renew(old.fingerprint, ALICE.uri, request())
    chain = x509.load_pem_x509_certificates(new.chain.encode())
    assert len(chain) == 2
    assert new.serial != old.serial
    [record] = [r for r in ours.store.records() if r.serial == new.serial]
    assert (record.identity, record.role) == (ALICE.uri, "developer")
    left = record.ends - datetime.now(UTC)
    assert timedelta(hours=1, minutes=59) < left <= timedelta(hours=2)
    # And by that one the next.
    online(ours).renew(record.fingerprint, ALICE.uri, request())


def test_nobody_gets_another_identity(ours: Authority) -> None:
    old = issued(ours, ALICE)
    ask = online(ours).renew
    with pytest.raises(Denied, match=r"asks for spiffe://example\.org/role/admin/bob"):
        ask(old.fingerprint, ALICE.uri, request(BOB))
    with pytest.raises(Denied, match="was not issued by the authority"):
        ask(old.fingerprint, BOB.uri, request(BOB))
    with pytest.raises(Denied, match="was not issued by the authority"):
        ask("00" * 32, ALICE.uri, request())


def test_what_is_revoked_or_ended_is_not_renewed(ours: Authority) -> None:
    old = issued(ours, ALICE)
    ours.revoke([old], "key-compromise")
    with pytest.raises(Denied, match="not in force any more"):
        online(ours).renew(old.fingerprint, ALICE.uri, request())
    ended = issued(ours, ALICE)
    past = format_time(datetime.now(UTC) - timedelta(seconds=1))
    ours.store.update(replace(ended, not_after=past))
    with pytest.raises(Denied, match="not in force any more"):
        online(ours).renew(ended.fingerprint, ALICE.uri, request())


def test_a_request_is_signed_by_the_key_it_is_about(ours: Authority) -> None:
    old = issued(ours, ALICE)
    data = bytearray(x509.load_pem_x509_csr(request().encode()).public_bytes(_DER))
    data[-1] ^= 1
    bent = x509.load_der_x509_csr(bytes(data)).public_bytes(_PEM).decode()
    with pytest.raises(Denied, match="not signed with the key"):
        online(ours).renew(old.fingerprint, ALICE.uri, bent)
    for text in (
        "",
        "x",
        "-----BEGIN CERTIFICATE REQUEST-----\n-----END",
        "\udcff",
        request()[:90],
    ):
        with pytest.raises(InvalidInput, match="is no request"):
            online(ours).renew(old.fingerprint, ALICE.uri, text)
    with pytest.raises(InvalidInput, match="more than"):
        online(ours).renew(old.fingerprint, ALICE.uri, request() + " " * 70000)


def test_renewals_are_bounded(ours: Authority) -> None:
    old = issued(ours, ALICE)
    for _ in range(MOST - 1):
        online(ours).renew(old.fingerprint, ALICE.uri, request())
    with pytest.raises(Conflict, match=f"has {MOST} certificates in force"):
        online(ours).renew(old.fingerprint, ALICE.uri, request())


def test_a_key_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    locked = authority(tmp_path / "locked", b"secret")
    with pytest.raises(InvalidInput, match="is locked by a passphrase"):
        OnlineAuthority(locked.store.path, b"")
    with pytest.raises(Denied, match="does not open the key"):
        OnlineAuthority(locked.store.path, b"wrong")
    old = issued(locked, ALICE)
    OnlineAuthority(locked.store.path, b"secret").renew(old.fingerprint, ALICE.uri, request())
    locked.store.path.chmod(0o755)
    with pytest.raises(Denied, match="has mode 0755"):
        OnlineAuthority(locked.store.path, b"secret")


def test_servers_and_the_list_are_renewed_before_they_end(ours: Authority, tmp_path: Path) -> None:
    assert online(ours).renew_due() == []
    names = [x509.DNSName("localhost")]
    wish = Wish("server", "localhost", "", names, str(tmp_path / "tls"))
    soon = make(ours, wish, timedelta(days=9))
    ours.publish(timedelta(days=9))
    told = online(ours).renew_due()
    assert [one.partition(",")[0] for one in told] == [
        "the certificate of localhost", "the revocation list",
    ]  # fmt: skip
    assert online(ours).renew_due() == []
    leaf = x509.load_pem_x509_certificate((tmp_path / "tls/cert.pem").read_bytes())
    assert leaf.not_valid_after_utc > soon.ends + timedelta(days=20)
    state = json.loads((ours.store.path / "pki.json").read_text())
    assert state["crl_number"] == 3


_DER, _PEM = build.Encoding.DER, build.Encoding.PEM
