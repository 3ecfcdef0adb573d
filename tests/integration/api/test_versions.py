"""Docker's own clients at the versions of the API that they might speak."""

from __future__ import annotations

import gc
import subprocess

import docker
import pytest

from tests.support.api import IMAGE
from tests.support.engine import Engine

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
VERSIONS = ("1.24", "1.29", "1.30", "1.40", "1.41", "1.43", "1.44", "1.47", "1.51")
"""The ends, and where something that clients see changed."""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_docker_command(engine: Engine, version: str) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "--host", f"unix://{engine.socket}", *words],
            env={**engine.env, "DOCKER_API_VERSION": version},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def ok(*words: str) -> str:
        done = run(*words)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    done = run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    ok("run", "--detach", "--name", "kk", IMAGE, "sh", "-c", "echo one; exec sleep 600")
    assert ok("exec", "kk", "echo", "two") == "two"
    assert ok("logs", "kk") == "one"
    assert ok("inspect", "--format", "{{.State.Status}}", "kk") == "running"
    assert ok("ps", "--format", "{{.Names}}") == "kk"
    ok("stop", "--time", "0", "kk")
    assert ok("wait", "kk") == "137"
    ok("rm", "kk")
    assert ok("images", "--format", "{{.Repository}}:{{.Tag}}", IMAGE) == f"{IMAGE}:latest"
    assert version in ok("version", "--format", "{{.Client.APIVersion}}")
    ok("info")


@pytest.mark.parametrize("version", ["1.24", "1.41", "1.51"])
def test_docker_py(engine: Engine, version: str) -> None:
    client = docker.DockerClient(base_url=f"unix://{engine.socket}", version=version)
    try:
        assert client.containers.run(IMAGE, ["echo", "hi"], remove=True) == b"hi\n"
        made = client.containers.run(IMAGE, ["sleep", "600"], detach=True)
        try:
            assert made.exec_run(["echo", "there"]).output == b"there\n"
            made.kill()
            assert made.wait()["StatusCode"] == 137
        finally:
            made.remove(force=True)
        assert any(f"{IMAGE}:latest" in image.tags for image in client.images.list())
    finally:
        client.close()
        gc.collect()
