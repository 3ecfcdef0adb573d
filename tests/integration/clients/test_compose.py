"""Compose over services that share a network, publish a port or have none."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.api import until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration

_PROJECT = """
version: "2.4"
services:
  db:
    image: rootless/busybox
    init: true
    command: sh -c "echo kept > /data/file; exec sleep 1000"
    network_mode: none
    environment: {COLOUR: red}
    volumes: ["data:/data"]
    healthcheck: {test: ["CMD", "test", "-e", "/data/file"], interval: 1s}
  web:
    image: rootless/busybox
    init: true
    command: sh -c "mkdir /w; echo page > /w/index.html; echo web up; exec httpd -f -p 8080 -h /w"
    network_mode: bridge
    ports: ["8080"]
    depends_on: {db: {condition: service_healthy}}
  beside:
    image: rootless/busybox
    init: true
    command: sleep 1000
    network_mode: "service:web"
volumes:
  data: {}
"""
Compose = Callable[..., str]


@pytest.fixture
def compose(engine: Engine, tmp_path: Path) -> Iterator[Compose]:
    """Runs ``docker-compose`` in a project; everything of it is taken down afterwards."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("host lacks docker-compose")
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "docker-compose.yml").write_text(_PROJECT)
    env = {**engine.env, "DOCKER_HOST": f"unix://{engine.socket}"}

    def run(*words: str) -> str:
        done = subprocess.run(
            [program, *words], cwd=directory, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    yield run
    run("down", "-v", "-t", "0")
    assert engine.ok("volume", "ls", "-q") == ""


def _page(address: str) -> bytes:
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=60) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_a_project(compose: Compose, engine: Engine) -> None:
    compose("up", "-d")
    web, db = compose("ps", "-q", "web").strip(), compose("ps", "-q", "db").strip()
    assert engine.ok("inspect", "-f", "{{.State.Health.Status}}", db) == "healthy"
    address = compose("port", "web", "8080").strip()
    assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
    assert until(lambda: _page(address)) == b"page\n"
    assert compose("exec", "-T", "db", "sh", "-c", "echo $COLOUR; cat /data/file") == "red\nkept\n"
    shared = compose("exec", "-T", "beside", "wget", "-qO-", "http://127.0.0.1:8080/")
    assert shared == "page\n"
    assert "web up" in compose("logs", "--no-color", "web")
    compose("up", "-d")  # nothing changed: the same containers
    assert compose("ps", "-q", "web").strip() == web
    compose("restart", "-t", "0", "db")
    compose("stop", "-t", "0", "beside", "web")
    compose("start", "web")
    assert until(lambda: _page(compose("port", "web", "8080").strip())) == b"page\n"
