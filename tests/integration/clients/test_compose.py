"""Debian's docker-compose against the engine: networks, names, health, ports, scale."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from tests.integration.clients.commands import Compose, composer, succeeding
from tests.support.api import until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration

FILE = """
version: "2.4"
services:
  db:
    image: rootless/busybox
    command: ["sh", "-c", "echo page > /data/page && exec httpd -f -p 8000 -h /data"]
    volumes: ["data:/data"]
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/page"]
      interval: 1s
      retries: 60
    networks:
      back:
        aliases: [database]
  web:
    image: rootless/busybox
    command:
      - sh
      - -c
      - wget -q -O /tmp/page http://database:8000/page && echo got it && exec httpd -f -p 80 -h /tmp
    depends_on:
      db: {condition: service_healthy}
    networks: [front, back]
    ports: ["127.0.0.1::80"]
  peer:
    image: rootless/busybox
    command: ["sleep", "1000"]
    networks: [front]
networks:
  front: {}
  back: {internal: true}
volumes:
  data: {}
"""


@pytest.fixture
def compose(engine: Engine, tmp_path: Path) -> Compose:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("host lacks docker-compose")
    return succeeding(composer(engine, program, tmp_path, "shop", FILE))


def test_several_services(engine: Engine, compose: Compose) -> None:
    compose("up", "-d")
    assert "shop_web_1" in compose("ps")
    assert "got it" in compose("logs", "--no-color", "web")
    assert compose("exec", "-T", "web", "wget", "-q", "-O", "-", "http://db:8000/page") == "page\n"
    inside = engine.run("exec", "shop_peer_1", "nslookup", "db")
    assert inside.returncode != 0, "peer shares no network with db"
    address, _, port = compose("port", "web", "80").strip().rpartition(":")
    assert until(lambda: _page(address, int(port))).endswith(b"page\n")
    compose("up", "-d", "--scale", "peer=3")
    found = engine.ok("exec", "shop_web_1", "nslookup", "peer")
    assert found.count("Name:") == 3
    compose("restart", "-t", "0", "web")
    until(lambda: engine.ok("logs", "shop_web_1").count("got it") == 2)
    compose("down", "-v", "-t", "0")
    assert engine.networks() == []
    assert engine.ok("volume", "ls", "-q") == ""


def _page(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), 60) as client:
            client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: client.recv(4096), b""))
    except OSError:
        return b""
