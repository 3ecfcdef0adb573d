"""Docker's own clients against the whole engine: what the fake cannot show."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import select
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.support.api import Api
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

# docker-py leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "rootless/busybox"


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    found = docker.DockerClient(base_url=f"unix://{engine.socket}", version="auto")
    yield found
    found.close()
    # Here the warnings about its sockets are expected, in a later test they are not.
    gc.collect()


def test_version_is_negotiated(client: docker.DockerClient, engine: Engine) -> None:
    assert client.api._version == "1.51"
    with pytest.raises(docker.errors.APIError, match="too new"):
        docker.APIClient(base_url=f"unix://{engine.socket}", version="1.99").info()


def test_info_names_the_driver_of_every_network(api: Api) -> None:
    api.ok("POST", "/networks/create", {"Name": "listed"})
    drivers = {network["Driver"] for network in api.ok("GET", "/networks")}
    assert drivers == set(api.ok("GET", "/info")["Plugins"]["Network"])
    api.ok("DELETE", "/networks/listed")


def test_docker_run(docker_cli: DockerCli) -> None:
    done = docker_cli("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    done = docker_cli("run", "--rm", IMAGE, "nosuch")
    assert (done.returncode, "executable file not found" in done.stderr) == (127, True)
    done = docker_cli("run", "--rm", IMAGE, "/etc")
    assert (done.returncode, "permission denied" in done.stderr) == (126, True)
    done = docker_cli("run", "--rm", "--privileged", IMAGE, "true")
    assert (done.returncode, "privileges.privileged" in done.stderr) == (125, True)


def test_piped_input_arrives_whole(docker_cli: DockerCli) -> None:
    """tar c . | docker run -i … with more than any buffer on the way holds."""
    text = "".join(f"{number:010}\n" for number in range(1 << 20))
    wanted = hashlib.sha256(text.encode()).hexdigest()
    done = docker_cli("run", "--rm", "-i", IMAGE, "sha256sum", input=text)
    assert done.stdout.split()[0] == wanted
    done = docker_cli("run", "--rm", "-i", IMAGE, "cat", input=text)
    assert hashlib.sha256(done.stdout.encode()).hexdigest() == wanted


def test_exec_by_docker_py_loses_no_output(client: docker.DockerClient) -> None:
    """Its buffered reader swallows output that comes together with the answer's head."""
    made = client.containers.run(IMAGE, ["sleep", "600"], detach=True)
    try:
        for _ in range(10):
            result = made.exec_run(["echo", "hello"], demux=True)
            assert result == (0, (b"hello\n", None))
        assert made.exec_run(["sh", "-c", "exit 4"]).exit_code == 4
        assert made.exec_run(["nosuch"]).exit_code == 127
        assert made.top()["Processes"][0][-1] == "sleep 600"
    finally:
        made.remove(force=True)


def test_archives_by_docker_py(client: docker.DockerClient) -> None:
    made = client.containers.run(IMAGE, ["sleep", "600"], detach=True)
    try:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            entry = tarfile.TarInfo("file")
            entry.size = 3 << 20
            archive.addfile(entry, io.BytesIO(b"z" * entry.size))
        assert made.put_archive("/tmp", buffer.getvalue())
        assert made.exec_run(["wc", "-c", "/tmp/file"]).output.split()[0] == b"3145728"
        bits, stat = made.get_archive("/tmp/file")
        assert (stat["name"], stat["size"]) == ("file", 3 << 20)
        with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as archive:
            found = archive.extractfile("file")
            assert found is not None
            assert found.read() == b"z" * (3 << 20)
        with pytest.raises(docker.errors.NotFound):
            made.get_archive("/absent")
    finally:
        made.remove(force=True)


def test_life_of_a_container(docker_cli: DockerCli) -> None:
    def ok(*words: str) -> str:
        done = docker_cli(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    ok("run", "-d", "--name", "aa", "--label", "x=y", IMAGE, "sh", "-c", "echo one; exec sleep 600")
    assert ok("ps", "--filter", "label=x=y", "--format", "{{.Names}} {{.State}}") == "aa running"
    while ok("logs", "aa") != "one":
        continue
    assert ok("inspect", "-f", "{{.State.Running}} {{.Config.Image}}", "aa") == f"true {IMAGE}"
    assert ok("exec", "aa", "sh", "-c", "echo new > /new; echo $$").isdigit()
    assert "A /new" in ok("diff", "aa").splitlines()
    image = ok("commit", "-m", "hi", "aa", "mine:1")
    assert ok("run", "--rm", "mine:1", "cat", "/new") == "new"
    assert ok("history", "--format", "{{.Comment}}", "mine:1").splitlines()[0] == "hi"
    assert ok("image", "inspect", "-f", "{{.Id}}", "mine:1") == image
    ok("rmi", "mine:1")
    ok("rename", "aa", "bb")
    ok("stop", "-t", "1", "bb")
    assert ok("wait", "bb") == "137"
    ok("start", "bb")
    ok("kill", "-s", "KILL", "bb")
    # A relative time such as 0s has whole seconds only.
    words = ("--since", "10m", "--until", f"{time.time():.9f}", "--filter", "container=bb")
    events = ok("events", *words, "--format", "{{.Action}}").splitlines()
    assert {"start", "rename", "stop", "die", "kill"} <= {*events}
    ok("rm", "bb")


def test_images_move_through_files(docker_cli: DockerCli, tmp_path: Path) -> None:
    archive = str(tmp_path / "image.tar")
    assert docker_cli("save", "-o", archive, IMAGE).returncode == 0
    done = docker_cli("load", "-i", archive)
    assert f"Loaded image: {IMAGE}:latest" in done.stdout


@pytest.mark.usefixtures("docker_description")
def test_every_answer_of_a_test_is_checked(engine: Engine, api: Api) -> None:
    assert api.ok("GET", "/containers/json") == []
    assert '["GET", "/containers/json", 200, "application/json"' in engine.recorded.read_text()
    with open(engine.recorded, "a") as file:
        file.write('["GET", "/info", 418, "text/plain", ""]\n')
    assert engine.wrong_answers() == ["GET /info 418: status 418 is not declared", *WRONG_ERROR]


WRONG_ERROR = (
    "GET /info 418: content type 'text/plain' instead of application/json",
    "GET /info 418: no JSON: ''",
)


def get(engine: Engine, path: str) -> bytes:
    """The body of a GET, by a connection that is closed after it."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(engine.socket))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while part := sock.recv(1 << 16):
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], data
    return body


def test_a_dead_client_leaves_the_container(engine: Engine, docker_cli: DockerCli) -> None:
    """kill -9 of an attached client ends neither the container nor the daemon's part for others."""
    process = subprocess.Popen(
        ["docker", "run", "--name", "kk", IMAGE, "sh", "-c", "echo up; exec sleep 600"],
        env={**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process, process.stdout as out:
        assert out.readline() == b"up\n"
        process.kill()
    done = docker_cli("inspect", "-f", "{{.State.Status}}", "kk")
    assert done.stdout.strip() == "running"
    assert docker_cli("rm", "-f", "kk").returncode == 0


STREAMS = (
    ("POST", "/containers/kk/attach?stream=1&stdin=1&stdout=1"),
    ("GET", "/containers/kk/logs?follow=1&stdout=1"),
    ("GET", "/containers/kk/stats"),
    ("GET", "/containers/kk/export"),
    ("GET", "/containers/kk/archive?path=/bin"),
    ("GET", f"/images/{IMAGE}/get"),
    ("POST", "/containers/kk/wait"),
    ("GET", "/events"),
)


def descriptors(engine: Engine) -> list[str]:
    """What the daemon has open; a daemon that is gone is named, not a missing directory."""
    assert engine.daemon is not None
    try:
        return os.listdir(f"/proc/{engine.daemon.pid}/fd")
    except (FileNotFoundError, ProcessLookupError):
        status = engine.daemon.wait(30)
        raise AssertionError(f"the daemon ended with {status}: {engine.log.read_text()}") from None


def test_refused_commits_leak_nothing(engine: Engine, api: Api) -> None:
    made = api.create("true")
    bad = {"container": made, "repo": "UPPER"}
    assert api.refused("POST", "/commit", **bad)[0] == 400
    before = len(descriptors(engine))
    for _ in range(10):
        api.refused("POST", "/commit", **bad)
        api.refused("POST", "/commit", container=made, changes="NONSENSE x")
    assert len(descriptors(engine)) <= before + 5, descriptors(engine)
    api.remove(made)


@pytest.mark.parametrize(("method", "path"), STREAMS, ids=lambda text: text.partition("?")[0])
@pytest.mark.parametrize("wait", [True, False], ids=["answered", "at-once"])
def test_clients_that_vanish_leak_nothing(
    engine: Engine, method: str, path: str, wait: bool
) -> None:
    """However early or late in a stream a client goes, the daemon's descriptors come back."""
    engine.ok("run", "-d", "--name", "kk", IMAGE, "sh", "-c", "yes | head -n 1000; exec sleep 600")
    get(engine, "/containers/kk/export")
    before = len(descriptors(engine))
    for half_close in (True, False) * 10:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(engine.socket))
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            if wait:
                assert sock.recv(64).startswith(b"HTTP/1.1 200")
            if half_close:
                sock.shutdown(socket.SHUT_WR)
    deadline = time.monotonic() + 60
    # Five are for what the daemon opens once, such as inotify; a leak would be twenty.
    while len(descriptors(engine)) > before + 5 and time.monotonic() < deadline:
        select.select([], [], [], 0.05)  # the processor is for those that clean up
    left = descriptors(engine)
    assert len(left) <= before + 5, left
    assert "Traceback" not in engine.log.read_text()
    engine.ok("rm", "-f", "kk")
