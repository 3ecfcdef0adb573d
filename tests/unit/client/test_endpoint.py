"""Which daemon a command speaks to: flags, environment, configuration, in Docker's order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless.client import contexts, paths
from rootless.client.api import Client
from rootless.client.contexts import Context
from rootless.client.endpoint import Where, choose
from rootless.errors import InvalidInput, NotFound
from tests.unit.client.server import reply, serving

_VARIABLES = (
    *"ROOTLESS_HOST DOCKER_HOST DOCKER_CONTEXT DOCKER_TLS_VERIFY DOCKER_TLS".split(),
    "DOCKER_CERT_PATH",
)


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing but what a test says."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("one", "two"):
        endpoint = {"Host": f"unix:///{name}.sock"}
        contexts.create(Context(name, {"Endpoints": {"docker": endpoint}}, {}))
    return tmp_path


def test_the_order(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = choose()
    assert (own.host, own.own, own.source) == (f"unix://{paths.default_socket()}", True, "")
    (configuration / "config.json").write_text(json.dumps({"currentContext": "one"}))
    assert choose().host == "unix:///one.sock"
    assert choose().source.startswith("currentContext in ")
    monkeypatch.setenv("DOCKER_CONTEXT", "two")
    assert (choose().host, choose().source) == ("unix:///two.sock", "DOCKER_CONTEXT")
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker.sock")
    assert (choose().host, choose().source) == ("unix:///docker.sock", "DOCKER_HOST")
    monkeypatch.setenv("ROOTLESS_HOST", "/rootless.sock")
    assert (choose().host, choose().source) == ("unix:///rootless.sock", "")
    assert choose(Where(context="one")).host == "unix:///one.sock"
    assert choose(Where(context="default")).host == "unix:///docker.sock"
    assert choose(Where("unix:///flag.sock")).host == "unix:///flag.sock"
    assert not choose(Where("unix:///flag.sock")).own
    with pytest.raises(InvalidInput, match="both --host and --context"):
        choose(Where("unix:///x", "one"))


def test_a_context_that_is_gone_is_no_reason_for_another_daemon(configuration: Path) -> None:
    (configuration / "config.json").write_text(json.dumps({"currentContext": "gone"}))
    with pytest.raises(NotFound, match='context "gone": context not found'):
        choose()


def test_tcp_needs_tls(configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="without TLS"):
        choose(Where("tcp://box:2375"))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with pytest.raises(InvalidInput, match=r"no .*/ca\.pem"):
        choose(Where("tcp://box"))
    for name in ("ca", "cert", "key"):
        (configuration / f"{name}.pem").write_text("x")
    tls = choose(Where("tcp://box")).tls
    assert tls is not None
    assert (tls.ca, tls.verify) == (str(configuration / "ca.pem"), True)
    certificates = configuration / "certs"
    certificates.mkdir()
    (certificates / "ca.pem").write_text("x")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    tls = choose(Where("tcp://box")).tls
    assert tls is not None
    assert (tls.ca, tls.cert, tls.key) == (str(certificates / "ca.pem"), "", "")


def test_the_tls_of_a_context(configuration: Path) -> None:
    files = {"ca.pem": b"a", "cert.pem": b"c", "key.pem": b"k"}
    document = {"Endpoints": {"docker": {"Host": "tcp://box:2376", "SkipTLSVerify": True}}}
    contexts.create(Context("far", document, files))
    tls = choose(Where(context="far")).tls
    assert tls is not None
    assert (Path(tls.key).read_bytes(), tls.verify) == (b"k", False)
    assert Path(tls.key).stat().st_mode & 0o777 == 0o600
    contexts.create(Context("bare", {"Endpoints": {"docker": {"Host": "tcp://box:2375"}}}, {}))
    with pytest.raises(InvalidInput, match="without TLS"):
        choose(Where(context="bare"))


@pytest.mark.parametrize(
    "host",
    ["tcp://", "tcp://h:x", "ssh://-h", "ssh://-l@h", "ssh://a:b@h", "ssh://h/p", "tcp://[::"],
)
def test_what_is_no_address(host: str, configuration: Path) -> None:
    (configuration / "ca.pem").write_text("x")
    where = Where(host)
    where.tlsverify = True
    with pytest.raises(InvalidInput, match="invalid host"):
        choose(where)


def test_a_docker_that_was_not_named_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """DOCKER_HOST is for docker: a container there would have more rights than one here."""
    asked = []

    def answer(peer: object, request: bytes) -> None:
        asked.append(request.split(b"\r\n")[0].split()[1])
        head = b"HTTP/1.1 200 OK\r\nServer: Docker/28.2.2 (linux)\r\nContent-Length: 2\r\n\r\n{}"
        peer.sendall(head)  # type: ignore[attr-defined]  # a socket

    with serving(answer) as path:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        with pytest.raises(
            InvalidInput, match=r"DOCKER_HOST names .* not this engine but Docker/28"
        ):
            Client().post("/containers/create", {})
        assert asked == [b"/v1.51/_ping"]
        named = Client(f"unix://{path}")
        assert named.get("/info") == {}
        named.close()


def test_one_of_this_kind_is_spoken_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(peer: object, request: bytes) -> None:
        text = reply("{}").replace(b"\r\n\r\n", b"\r\nServer: Rootless/9 (linux)\r\n\r\n")
        peer.sendall(text)  # type: ignore[attr-defined]  # a socket

    with serving(answer) as path:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        client = Client()
        client.connect_ahead(2)
        assert client.get("/info") == {}
        client.close()


def test_headers_of_the_configuration_are_sent(configuration: Path) -> None:
    (configuration / "config.json").write_text('{"HttpHeaders": {"X-Team": "red"}}')
    heads = []

    def answer(peer: object, request: bytes) -> None:
        heads.append(request)
        peer.sendall(reply("{}"))  # type: ignore[attr-defined]  # a socket

    with serving(answer) as path:
        client = Client(path)
        client.get("/info")
        sibling = client.sibling()
        sibling.get("/info")
        for each in (client, sibling):
            each.close()
    assert all(b"\r\nX-Team: red\r\n" in head for head in heads)
