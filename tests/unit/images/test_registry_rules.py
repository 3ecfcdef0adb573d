"""Decisions of the registry client that need no server."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from rootless.errors import InvalidInput, Unavailable
from rootless.images.registry import challenge
from rootless.images.registry.challenge import Challenge
from rootless.images.registry.credentials import Credentials, from_config, lookup
from rootless.images.registry.progress import Meter, amount
from rootless.images.registry.settings import (
    HUB_HOST,
    Endpoint,
    RegistrySettings,
    endpoints,
    is_insecure,
    is_loopback,
)
from rootless.images.registry.transport import _secured, proxy_for


def test_challenges() -> None:
    assert challenge.parse('Bearer realm="https://a/b?c=d,e",service="x\\"y", scope="a:b:c,d"') == (
        Challenge(
            "bearer", (("realm", "https://a/b?c=d,e"), ("service", 'x"y'), ("scope", "a:b:c,d"))
        ),
    )
    found = challenge.parse("Basic realm=simple, Bearer Realm=\"r\" , error='x'")
    assert [c.scheme for c in found] == ["basic", "bearer"]
    assert found[1].get("realm") == "r"
    assert found[1].get("absent") == ""
    assert challenge.parse("Negotiate") == (Challenge("negotiate"),)
    assert challenge.parse("") == ()


@given(st.text(max_size=200))
def test_any_challenge_header_is_read_without_an_error(text: str) -> None:
    challenge.parse(text)
    challenge.parse("Bearer " + text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:80", True),
        ("[::1]:5000", True),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("registry.example", False),
        ("10.1.2.3:5000", False),
        ("[::2]", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_plain_http_only_where_it_was_allowed() -> None:
    some = RegistrySettings(insecure=("10.1.0.0/16", "reg.example:5000", "any.example"))
    assert [e.base for e in endpoints("secure.example", some)] == ["https://secure.example"]
    assert endpoints("secure.example", some)[0].verify
    assert [e.scheme for e in endpoints("reg.example:5000", some)] == ["https", "http"]
    assert is_insecure("10.1.2.3:5000", some)
    assert is_insecure("any.example:1234", some)
    assert not is_insecure("reg.example:5001", some)
    assert not is_insecure("10.2.0.1", some)
    assert [e.base for e in endpoints("docker.io", some)] == [f"https://{HUB_HOST}"]


def test_mirrors() -> None:
    some = RegistrySettings(mirrors=("https://m1.example/", "http://m2.example:80"))
    assert [e.base for e in endpoints("docker.io", some)] == [
        "https://m1.example",
        "http://m2.example:80",
        f"https://{HUB_HOST}",
    ]
    assert [e.mirror for e in endpoints("docker.io", some)] == [True, True, False]
    assert len(endpoints("docker.io", some, push=True)) == 1
    assert len(endpoints("other.example", some)) == 1
    for bad in ("m.example", "ftp://m", "https://m/path", "https://"):
        with pytest.raises(InvalidInput, match="invalid mirror"):
            endpoints("docker.io", RegistrySettings(mirrors=(bad,)))


def test_proxies_come_from_the_environment_but_not_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxy_for(URL("https://reg.example/v2/")) == "http://proxy.example:3128"
    assert proxy_for(URL("https://inside.example/v2/")) is None
    assert proxy_for(URL("https://127.0.0.1:5000/v2/")) is None
    assert proxy_for(URL("http://reg.example/v2/")) is None
    configured = (("http-proxy", "http://p:1"), ("https-proxy", ""), ("no-proxy", ".corp.example"))
    assert proxy_for(URL("http://reg.example/v2/"), configured) == "http://p:1"
    assert proxy_for(URL("https://reg.example/v2/"), configured) == "http://proxy.example:3128"
    assert proxy_for(URL("http://a.corp.example/v2/"), configured) is None
    assert proxy_for(URL("http://inside.example/v2/"), configured) == "http://p:1"


def test_an_upload_never_goes_from_https_to_http() -> None:
    safe, plain = Endpoint("https", "reg.example:5000"), Endpoint("http", "127.0.0.1:5000")
    away = URL("https://storage.example/x?sig=1")
    assert _secured(away, safe) == away
    assert str(_secured(URL("http://reg.example/v2/u?a=b"), safe)) == (
        "https://reg.example:5000/v2/u?a=b"
    )
    assert _secured(URL("http://other.example/x"), plain) == URL("http://other.example/x")
    for bad in ("http://storage.example/x?sig=1", "ftp://reg.example/x"):
        with pytest.raises(Unavailable, match="which is not https") as caught:
            _secured(URL(bad), safe)
        assert "sig" not in str(caught.value)


def test_credentials_of_one_object() -> None:
    assert from_config({}) is None
    assert from_config({"username": "u", "password": "p"}) == Credentials("u", "p")
    assert from_config({"identitytoken": "t"}) == Credentials(identity_token="t")
    assert from_config({"auth": base64.b64encode(b"u:p:q").decode()}) == Credentials("u", "p:q")
    with pytest.raises(InvalidInput, match="not base64"):
        from_config({"auth": "\u00e9"})


async def test_which_entry_of_dockers_config_counts(tmp_path: Path) -> None:
    def pair(text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    config = tmp_path / "config.json"
    assert await lookup("reg.example", config) is None
    auths = {
        "https://index.docker.io/v1/": pair("hub:1"),
        "reg.example": pair("plain:2"),
        "https://old.example/v1/": pair("old:3"),
        "reg.example.evil": pair("evil:4"),
    }
    config.write_text(json.dumps({"auths": auths}))
    assert await lookup("docker.io", config) == Credentials("hub", "1")
    assert await lookup("reg.example", config) == Credentials("plain", "2")
    assert await lookup("old.example", config) == Credentials("old", "3")
    assert await lookup("reg.example:5000", config) is None
    assert await lookup("example", config) is None


def test_progress_is_bounded_and_ends_full() -> None:
    lines: list[dict[str, object]] = []
    meter = Meter(lines.append, "sha256:" + "a" * 64, 10 << 20)
    for done in range(0, (10 << 20) + 1, 4096):
        meter.at("Downloading", done)
    assert 15 < len(lines) < 30
    assert lines[-1]["progressDetail"] == {"current": 10 << 20, "total": 10 << 20}
    assert lines[-1]["id"] == "a" * 12
    assert amount("x", "i", 5, 0)["progress"] == "[>" + " " * 49 + "]  5B/0B"
