"""~/.docker/config.json: read, written, and credential helpers run."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from rootless.cli.main import run
from rootless.client import clientconfig, dockerconfig
from rootless.errors import InvalidInput, NotFound

_HELPER = """#!/bin/sh
read -r input
echo "$1 $input" >> "$(dirname "$0")/calls"
case "$1:$input" in
get:known*) echo '{"ServerURL":"known:1","Username":"<token>","Secret":"tok"}' ;;
get:*) echo "credentials not found in native keychain"; exit 1 ;;
esac
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file's path, with a helper on PATH."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("ROOTLESS_ALLOW_ROOT", "1")
    helper = tmp_path / "docker-credential-fake"
    helper.write_text(_HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "config.json"


def test_plain_credentials(config: Path) -> None:
    auth = base64.b64encode(b"me:pass:word").decode()
    config.write_text(json.dumps({"auths": {"reg:5000": {"auth": auth}}}))
    found = dockerconfig.credentials("reg:5000")
    assert found == {"username": "me", "password": "pass:word", "serveraddress": "reg:5000"}
    assert dockerconfig.credentials("other") is None
    header = dict(dockerconfig.auth_header("reg:5000/a/b:1"))["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header)) == found


def test_docker_hub_has_its_own_key(config: Path) -> None:
    auth = base64.b64encode(b"a:b").decode()
    config.write_text(json.dumps({"auths": {dockerconfig.HUB: {"auth": auth}}}))
    for image in ("busybox", "library/busybox", "docker.io/a/b"):
        assert dockerconfig.auth_header(image), image
    assert not dockerconfig.auth_header("localhost/a")


def test_helpers(config: Path) -> None:
    config.write_text(json.dumps({"credHelpers": {"known:1": "fake", "unknown:1": "fake"}}))
    assert dockerconfig.credentials("known:1") == {
        "identitytoken": "tok",
        "serveraddress": "known:1",
    }
    assert dockerconfig.credentials("unknown:1") is None
    config.write_text(json.dumps({"credsStore": "missing"}))
    with pytest.raises(NotFound, match="docker-credential-missing is not installed"):
        dockerconfig.credentials("x:1")
    config.write_text(json.dumps({"credsStore": "../evil"}))
    with pytest.raises(InvalidInput, match="invalid credential helper"):
        dockerconfig.credentials("x:1")


def test_a_broken_entry_is_named(config: Path) -> None:
    config.write_text('{"auths": {"r:1": {"auth": "%%%"}}}')
    with pytest.raises(InvalidInput, match=r"config\.json"):
        dockerconfig.credentials("r:1")


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\udc80"])
def test_a_broken_file_is_told_once_and_never_overwritten(
    config: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(text, errors="surrogateescape")
    assert clientconfig.read() == {}
    assert dockerconfig.credentials("r:1") is None
    said = capsys.readouterr().err
    assert said.startswith(f"WARNING: Error loading config file: {config} ")
    assert said.count("\n") == 1
    with pytest.raises(InvalidInput, match=r"config\.json"):
        dockerconfig.load()


def test_an_entry_under_a_url_of_an_old_client(config: Path) -> None:
    config.write_text('{"auths": {"https://r:1/v1/": {"registrytoken": "t"}}}')
    assert dockerconfig.credentials("r:1") == {"registrytoken": "t", "serveraddress": "r:1"}


def test_saving_keeps_the_rest_and_is_private(config: Path) -> None:
    config.write_text('{"currentContext": "x", "auths": {}}')
    value = dockerconfig.load()
    value["auths"]["r"] = {"auth": "YTpi"}
    dockerconfig.save(value)
    assert json.loads(config.read_text()) == {
        "currentContext": "x",
        "auths": {"r": {"auth": "YTpi"}},
    }
    assert config.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in config.parent.glob("config.json*")] == ["config.json"]


def test_logout(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text('{"auths": {"r:1": {"auth": "YTpi"}, "s:1": {"auth": "YTpi"}}}')
    assert run(["logout", "r:1"]) == 0
    assert json.loads(config.read_text()) == {"auths": {"s:1": {"auth": "YTpi"}}}
    assert run(["logout", "r:1"]) == 0
    out = capsys.readouterr().out
    assert out == "Removing login credentials for r:1\nNot logged in to r:1\n"


def test_proxies(config: Path) -> None:
    config.write_text('{"proxies": {"default": {"httpProxy": "http://p"}}}')
    assert clientconfig.proxies("unix:///s") == ["HTTP_PROXY=http://p", "http_proxy=http://p"]
    config.write_text(
        '{"proxies": {"default": {"httpProxy": "http://p"}, "unix:///s": {"noProxy": "a,b",'
        '"allProxy": "socks5://p", "ftpProxy": "http://f", "httpsProxy": "http://q"}}}'
    )
    assert clientconfig.proxies("tcp://h:1") == ["HTTP_PROXY=http://p", "http_proxy=http://p"]
    assert [pair.partition("=")[0] for pair in clientconfig.proxies("unix:///s")] == (
        "HTTPS_PROXY https_proxy FTP_PROXY ftp_proxy NO_PROXY no_proxy ALL_PROXY all_proxy".split()
    )
    config.write_text('{"proxies": {"default": {"httpProxy": "http://p"}, "unix:///s": {}}}')
    assert clientconfig.proxies("unix:///s") == []  # none for this daemon


def test_headers(config: Path) -> None:
    text = '{"HttpHeaders": {"X-Team": "red", "User-Agent": "me", "Host": "h"}}'
    config.write_text(text)
    assert clientconfig.headers(clientconfig.read()) == "X-Team: red\r\n"
    for bad in ({"X": "a\r\nY: b"}, {"X Y": "a"}, {"X": 1}):
        with pytest.raises(InvalidInput, match="HttpHeaders"):
            clientconfig.headers({"HttpHeaders": bad})
