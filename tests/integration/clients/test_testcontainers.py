"""testcontainers from PyPI: a test of somebody's service, in containers of this engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration

# The reaper is an image of theirs that is not here; its own switch turns it off.
# Where these tests run in a container of Docker themselves (/.dockerenv) it would look
# for published ports on a gateway of that Docker's.
_SETTINGS = {
    "TESTCONTAINERS_RYUK_DISABLED": "true",
    "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
    "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
    "TC_POOLING_INTERVAL": "0.1",
}
_THEIR_TEST = """
import urllib.request

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs

SERVE = (
    "mkdir /www; echo page > /www/index.html; httpd -p 8080 -h /www; "
    "echo serving; exec sleep 1000"
)


@pytest.fixture(scope="module")
def web():
    made = DockerContainer("rootless/busybox").with_command(["sh", "-c", SERVE])
    made = made.with_exposed_ports(8080).with_env("COLOUR", "red").with_name("served")
    with made.with_kwargs(init=True) as container:
        wait_for_logs(container, "serving", timeout=60)
        yield container


def test_a_published_port(web):
    address = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(8080)}/"
    assert urllib.request.urlopen(address, timeout=60).read() == b"page\\n"


def test_exec_and_logs(web):
    assert web.exec(["sh", "-c", "echo $COLOUR; exit 3"]) == (3, b"red\\n")
    assert web.get_logs()[0] == b"serving\\n"


def test_the_client_beneath(web):
    client = web.get_docker_client()
    assert client.client.containers.get("served").labels["org.testcontainers"] == "true"
"""


def test_a_suite_that_uses_it(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(_THEIR_TEST)
    env = {**engine.env, **_SETTINGS, "DOCKER_HOST": f"unix://{engine.socket}"}
    env["HOME"] = str(tmp_path)
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly",
         "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)],
        env=env, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert engine.containers() == []
