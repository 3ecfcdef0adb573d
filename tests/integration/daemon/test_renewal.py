"""A client renews its certificate over the API, and a daemon its own."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from rootless.linux import procfs
from rootless.pki import build, keys
from rootless.pki.identity import ClientId
from tests.integration.daemon.test_pki_endpoint import DOMAIN, Site
from tests.integration.policy.forced import policy
from tests.support.api import Api, TlsApi
from tests.support.engine import new_engine, program
from tests.support.registry import free_port

pytestmark = pytest.mark.integration
DEFAULT = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """An engine that has the authority, by whose name its own certificate ends within a day."""
    with new_engine(start=False) as engine:
        site = Site(engine, free_port())
        engine.variables["ROOTLESS_PKI_PASSPHRASE"] = "correct horse"
        site.rootless("init", "--trust-domain", DOMAIN, "--permit-dns", "localhost")
        site.rootless("issue", "server", "--lifetime", "1d", "--install", "localhost")
        engine.start(
            "--tlsverify", "-H", f"tcp://127.0.0.1:{site.port}", "-H", f"unix://{engine.socket}",
            "--pki-dir", str(site.pki),
        )  # fmt: skip
        yield site


def _files(site: Site, name: str, place: Path) -> Path:
    return site.client(name, place)


def _serial(files: Path) -> int:
    return x509.load_pem_x509_certificate((files / "cert.pem").read_bytes()).serial_number


def _renew(site: Site, files: Path, *words: str) -> tuple[int, str]:
    env = {"DOCKER_CERT_PATH": str(files), "DOCKER_TLS_VERIFY": "1",
           "DOCKER_HOST": f"tcp://localhost:{site.port}"}  # fmt: skip
    done = site.engine.run("pki", "renew", "--remote", *words, env=env)
    return done.returncode, done.stdout + done.stderr


def test_a_client_renews_what_it_holds(site: Site, tmp_path: Path) -> None:
    files = _files(site, "alice", tmp_path)
    before, key = _serial(files), (files / "key.pem").read_bytes()
    assert _renew(site, files, "--within", "12h") == (
        0, f"{files}/cert.pem: until {_until(files)}, not due yet\n",
    )  # fmt: skip
    assert _serial(files) == before
    old = site.context(files)
    status, told = _renew(site, files)
    assert (status, f"spiffe://{DOMAIN}/role/ci/alice, serial " in told) == (0, True), told
    assert _serial(files) != before
    assert (files / "key.pem").read_bytes() == key
    assert site.ping(site.context(files)) == b"OK"
    # Whoever is taken back by name is taken back with everything that was renewed.
    site.rootless("revoke", "alice")
    for context in (old, site.context(files)):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            site.ping(context)
    status, told = _renew(site, files)
    assert (status, "revoked" in told) == (1, True), told


def _until(files: Path) -> str:
    found = x509.load_pem_x509_certificate((files / "cert.pem").read_bytes())
    return f"{found.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"


def test_nobody_becomes_somebody_else(site: Site, tmp_path: Path) -> None:
    files = _files(site, "mallory", tmp_path)
    api = TlsApi(site.engine, site.port, files)
    admin = ClientId(DOMAIN, "admin", "mallory")
    asked = build.request(keys.generate("p256"), "mallory", build.client_names(admin))
    status, message = api.refused("POST", "/rootless/certificate", {"Request": asked.decode()})
    assert status == 403
    assert f"asks for {admin.uri}, not for spiffe://{DOMAIN}/role/ci/mallory" in message
    assert api.refused("POST", "/rootless/certificate", {"Request": "x"})[0] == 400
    # One that the engine's authority did not issue, though a daemon may trust its issuer.
    status, message = Api(site.engine).refused("POST", "/rootless/certificate", {"Request": "x"})
    assert (status, "has no certificate of `rootless pki`" in message) == (400, True)


def test_the_policy_decides(site: Site, tmp_path: Path) -> None:
    files = _files(site, "carol", tmp_path)
    with policy(site.engine, "{api: {denyActions: [certificate.renew]}}", head=DEFAULT):
        status, told = _renew(site, files)
    assert (status, "api.action: action=certificate.renew" in told) == (1, True), told


def test_the_daemons_own_certificate_is_renewed_in_time(site: Site) -> None:
    log = site.engine.log.read_text()
    assert "renewed the certificate of localhost, until " in log
    own = x509.load_pem_x509_certificate(
        (site.engine.root / "c/rootless/tls/cert.pem").read_bytes()
    )
    assert (own.not_valid_after_utc - own.not_valid_before_utc).days >= 30


def test_the_passphrase_stays_with_the_daemon(site: Site) -> None:
    """What the daemon starts, and so what runs beside containers, does not inherit it."""
    daemon = site.engine.daemon
    assert daemon is not None
    seen = 0
    for pid in procfs.descendants(daemon.pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"ROOTLESS_PKI_PASSPHRASE" not in environment
        seen += 1
    assert seen


def test_an_engine_without_an_authority_says_so(tmp_path: Path) -> None:
    with new_engine() as engine:
        status, message = Api(engine).refused("POST", "/rootless/certificate", {"Request": "x"})
        assert (status, "this engine renews no certificates" in message) == (400, True)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--pki-dir", "/nowhere"), "pki-dir renews certificates of clients that come over TLS"),
        (("--tlsverify", "--pki-dir", "/nowhere"), "no certificate authority in /nowhere"),
    ],
)
def test_a_wrong_authority_stops_the_start(site: Site, words: tuple[str, ...], wrong: str) -> None:
    done = subprocess.run(
        [*program("rootlessd"), "--validate", *words], env=site.engine.env, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, wrong in done.stderr) == (1, True), done.stderr
