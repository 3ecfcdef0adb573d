"""``~/.docker/config.json``: what it does to commands, of both clients alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.cli.test_run import SCRIPT, Terminal
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"
RUN = ("run", "--rm", "--network", "none")
Write = Callable[[dict[str, Any]], None]


@pytest.fixture
def config(engine: Engine) -> Iterator[Write]:
    """Writes the configuration; it is gone afterwards."""
    path = engine.root / "docker/config.json"

    def write(value: dict[str, Any]) -> None:
        path.write_text(json.dumps(value))

    yield write
    path.unlink(missing_ok=True)


def _variables(text: str) -> dict[str, str]:
    found = dict(line.partition("=")[::2] for line in text.splitlines())
    return {name: value for name, value in found.items() if name.lower().endswith("_proxy")}


def test_proxies_are_put_into_containers(
    engine: Engine, docker_cli: DockerCli, config: Write
) -> None:
    default = {"httpProxy": "http://p:1", "httpsProxy": "http://q:1", "noProxy": "a,b"}
    config({"proxies": {"default": default}})
    both = {}
    for name, value in (("HTTP", "http://p:1"), ("HTTPS", "http://q:1"), ("NO", "a,b")):
        both |= {f"{name}_PROXY": value, f"{name.lower()}_proxy": value}
    assert _variables(engine.ok(*RUN, IMAGE, "env")) == both
    assert _variables(docker_cli(*RUN, IMAGE, "env").stdout) == both
    given = ("-e", "HTTP_PROXY=http://mine", "-e", "no_proxy")
    seen = [
        _variables(engine.ok(*RUN, *given, IMAGE, "env")),
        _variables(docker_cli(*RUN, *given, IMAGE, "env").stdout),
    ]
    assert seen[0] == seen[1]
    assert seen[0]["HTTP_PROXY"] == "http://mine"
    assert seen[0]["http_proxy"] == "http://p:1"
    assert "no_proxy" not in seen[0]
    special = {"ftpProxy": "http://f", "allProxy": "socks5://a"}
    config({"proxies": {"default": default, f"unix://{engine.socket}": special}})
    for text in (engine.ok(*RUN, IMAGE, "env"), docker_cli(*RUN, IMAGE, "env").stdout):
        assert _variables(text) == {
            "FTP_PROXY": "http://f", "ftp_proxy": "http://f",
            "ALL_PROXY": "socks5://a", "all_proxy": "socks5://a",
        }  # fmt: skip
    engine.ok("run", "-d", "--name", "box", "--init", IMAGE, "sleep", "1000")
    config({})
    assert _variables(engine.ok("exec", "box", "env"))["FTP_PROXY"] == "http://f"
    engine.ok("rm", "-f", "box")


def test_default_formats(engine: Engine, docker_cli: DockerCli, config: Write) -> None:
    engine.ok("create", "--name", "box", IMAGE)
    config(
        {
            "psFormat": "ps {{.Names}}",
            "imagesFormat": "image {{.Repository}}",
            "volumesFormat": "volume {{.Name}}",
            "networksFormat": "network {{.Name}}",
        }
    )
    engine.ok("volume", "create", "data")
    for words in (("ps", "-a"), ("images",), ("volume", "ls"), ("network", "ls")):
        ours = engine.ok(*words)
        assert ours + "\n" == docker_cli(*words).stdout
        assert ours.splitlines()[0].split()[0] in ("ps", "image", "volume", "network")
    assert engine.ok("ps", "-aq", "--no-trunc") == docker_cli("ps", "-aq", "--no-trunc").stdout[:-1]
    assert engine.ok("ps", "-a", "--format", "table").startswith("CONTAINER ID")
    engine.ok("rm", "box")
    engine.ok("volume", "rm", "data")


def test_detach_keys(engine: Engine, config: Write) -> None:
    config({"detachKeys": "ctrl-x,y"})
    shell = Terminal(engine, "run", "-it", "--name", "shell", IMAGE, "sh", "-c", SCRIPT)
    try:
        shell.until(b"READY")
        shell.type(b"\x10\x11hello\r")  # the usual ones are nothing special now
        shell.until(b"hello>")
        shell.type(b"\x18y")
        assert shell.client.wait(60) == 0
    finally:
        shell.close()
    assert engine.ok("ps", "-q") != ""
    engine.ok("rm", "-f", "shell")


def test_a_broken_file_stops_no_command(
    engine: Engine, docker_cli: DockerCli, config: Write
) -> None:
    path = engine.root / "docker/config.json"
    path.write_text("{not json")
    done = engine.run(*RUN, IMAGE, "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert done.stderr.startswith(f"WARNING: Error loading config file: {path} ")
    assert done.stderr.count("WARNING") == 1
    assert docker_cli("ps").stderr.startswith("WARNING: Error ")
    done = engine.run("context", "use", "default")
    assert (done.returncode, "not valid JSON" in done.stderr) == (1, True)
    assert path.read_text() == "{not json"


def test_another_directory(engine: Engine, tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text('{"psFormat": "here {{.Names}}"}')
    engine.ok("create", "--name", "box", IMAGE)
    assert engine.ok("--config", str(tmp_path), "ps", "-a") == "here box"
    engine.ok("rm", "box")
