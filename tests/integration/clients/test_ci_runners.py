"""What CI runners do with Docker's API, step by step as they do it."""

from __future__ import annotations

import gc
import io
import shutil
import socket
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import docker
import pytest

from tests.support.api import until
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

# docker-py leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "rootless/busybox"


@pytest.fixture
def api(engine: Engine) -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=f"unix://{engine.socket}", version="auto", timeout=60)
    yield found
    found.close()
    gc.collect()


def _frames(sock: socket.socket) -> tuple[bytes, bytes]:
    """stdout and stderr of a framed stream until it ends."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    out = {1: b"", 2: b""}
    while data:
        kind, size = struct.unpack(">BxxxI", data[:8])
        out[kind] += data[8 : 8 + size]
        data = data[8 + size :]
    return out[1], out[2]


def _script(api: docker.APIClient, name: str, script: bytes, **config: Any) -> tuple[int, bytes]:
    """GitLab's way: the shell reads the job's script from its standard input."""
    made = api.create_container(IMAGE, ["sh"], stdin_open=True, name=name, **config)["Id"]
    stream = api.attach_socket(made, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    sock = stream._sock
    api.start(made)
    sock.sendall(script)
    sock.shutdown(socket.SHUT_WR)
    out, _ = _frames(sock)
    stream.close()
    status = api.wait(made, condition="not-running")["StatusCode"]
    api.remove_container(made, v=False, force=True)
    return int(status), out


def test_gitlab_helper_and_build_containers_share_volumes(
    api: docker.APIClient, engine: Engine
) -> None:
    """A helper fetches the sources, the job's own container works on them, a cache stays."""
    for name in ("builds", "cache"):
        api.create_volume(name, labels={"com.gitlab.gitlab-runner.managed": "true"})
    host = api.create_host_config(
        binds=["builds:/builds", "cache:/cache"], restart_policy={"Name": "no"}, userns_mode=""
    )
    permission = b"chmod 777 /builds && echo ready\n"
    assert _script(api, "runner-permission", permission, host_config=host) == (0, b"ready\n")
    helper = b"set -eo pipefail\nmkdir -p /builds/project; cd /builds/project\necho 42 > answer\n"
    assert _script(api, "runner-predefined", helper, host_config=host) == (0, b"")
    big = b"#" + b"x" * 200_000 + b"\n"
    job = (
        big
        + b"cd /builds/project\nread a < answer\necho $a $CI\ncp answer /cache\nexit $((a - 37))\n"
    )
    status, out = _script(
        api, "runner-build", job, host_config=host, environment=["CI=true"],
        labels={"com.gitlab.gitlab-runner.type": "build"}, working_dir="/builds",
    )  # fmt: skip
    assert (status, out) == (5, b"42 true\n")
    assert _script(api, "runner-next", b"cat /cache/answer\n", host_config=host) == (0, b"42\n")
    assert api.containers(all=True, filters={"label": "com.gitlab.gitlab-runner.type"}) == []
    for name in ("builds", "cache"):
        api.remove_volume(name)


def test_gitlab_cancels_a_job(api: docker.APIClient, engine: Engine) -> None:
    """The job's container is killed, removed, and its attached stream ends."""
    made = api.create_container(IMAGE, ["sh"], stdin_open=True)["Id"]
    stream = api.attach_socket(made, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    api.start(made)
    stream._sock.sendall(b"echo started; sleep 1000\n")
    assert stream._sock.recv(8 + len(b"started\n")).endswith(b"started\n")
    api.remove_container(made, force=True, v=True)
    assert stream._sock.recv(100) == b""
    stream.close()


def test_github_keeps_a_container_and_runs_steps_in_it(docker_cli: DockerCli) -> None:
    """``create`` with a work directory and an idle entry point, ``start``, ``exec -i``, ``rm``."""
    made = docker_cli(
        "create", "--name", "job_alpine", "--label", "ab12cd", "--workdir", "/__w/repo/repo",
        "-e", "HOME=/github/home", "-e", "GITHUB_ACTIONS=true", "-e", "CI=true",
        "-v", "work:/__w", "-v", "temp:/__w/_temp", "--entrypoint", "tail", IMAGE,
        "-f", "/dev/null",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    ident = made.stdout.strip()
    assert docker_cli("start", ident).returncode == 0
    shown = docker_cli(
        "ps", "--all", "--filter", f"id={ident}", "--filter", "status=running", "--no-trunc",
        "--format", "{{.ID}} {{.Status}}",
    )  # fmt: skip
    assert shown.stdout.startswith(f"{ident} Up ")
    env = docker_cli("inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", ident)
    assert "GITHUB_ACTIONS=true" in env.stdout.splitlines()
    script = 'echo "step in $(pwd)"\nread -r line\necho "<$line>"\nexit 7\n'
    step = docker_cli(
        "exec", "-i", "-e", "STEP=1", "--workdir", "/__w/repo/repo", ident, "sh", "-e", "-c",
        script, input="from stdin\n",
    )  # fmt: skip
    assert (step.returncode, step.stdout) == (7, "step in /__w/repo/repo\n<from stdin>\n")
    for words in (("rm", "--force", ident), ("volume", "rm", "work", "temp")):
        assert docker_cli(*words).returncode == 0


def test_gitlab_links_its_services(api: docker.APIClient) -> None:
    """A service by its link: one container waits for its port by the variables, one uses it."""
    serve = "echo page > /tmp/page; exec httpd -f -p 8000 -h /tmp"
    service = api.create_container(IMAGE, ["sh", "-c", serve], name="svc-0", ports=[8000])["Id"]
    api.start(service)
    host = api.create_host_config(links={"svc-0": "service"})
    address = "$SERVICE_PORT_8000_TCP_ADDR:$SERVICE_PORT_8000_TCP_PORT"
    wait = f"until wget -q -O - http://{address}/page; do sleep 0.1; done"
    waiting = api.create_container(IMAGE, ["sh", "-c", wait], host_config=host)["Id"]
    api.start(waiting)
    assert api.wait(waiting)["StatusCode"] == 0
    links = [("/svc-0", "rootless-web"), ("/svc-0", "rootless__web")]
    host = api.create_host_config(links=links)
    fetch = "for at in rootless-web rootless__web; do wget -q -O - http://$at:8000/page; done"
    build = api.create_container(IMAGE, ["sh", "-c", fetch], host_config=host)["Id"]
    api.start(build)
    assert (api.wait(build)["StatusCode"], api.logs(build)) == (0, b"page\n" * 2)
    shown = api.inspect_container(build)
    name = shown["Name"]
    assert shown["HostConfig"]["Links"] == [f"/svc-0:{name}/{alias}" for _, alias in links]
    for ident in (service, waiting, build):
        api.remove_container(ident, force=True)


def test_github_runs_a_service_and_reads_its_health_and_port(docker_cli: DockerCli) -> None:
    made = docker_cli(
        "create", "--name", "svc", "--label", "ab12cd", "-p", "6379", "--health-cmd", "true",
        "--health-interval", "100ms", "--init", IMAGE, "sleep", "1000",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    docker_cli("start", "svc")
    assert docker_cli("port", "svc").stdout.startswith("6379/tcp -> 127.0.0.1:")
    form = "{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}"
    assert docker_cli("inspect", "--format", form, "svc").stdout in ("starting\n", "healthy\n")
    assert docker_cli("logs", "--details", "svc").returncode == 0
    listed = docker_cli("ps", "-aq", "--filter", "label=ab12cd")
    assert docker_cli("rm", "--force", *listed.stdout.split()).returncode == 0


def test_a_container_action_is_created_and_started_attached(docker_cli: DockerCli) -> None:
    docker_cli("create", "--name", "action", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 4")
    done = docker_cli("start", "-a", "action")
    assert (done.returncode, done.stdout, done.stderr) == (4, "out\n", "err\n")
    assert docker_cli("wait", "action").stdout == "4\n"
    docker_cli("rm", "action")


def test_jenkins_looks_for_its_process(docker_cli: DockerCli) -> None:
    """``withDockerContainer``: runs ``cat``, asks ``top`` for it, execs the steps, stops it."""
    made = docker_cli(
        "run", "-t", "-d", "-u", "1000:1000", "-w", "/w", "-v", "jw:/w:rw,z", IMAGE, "cat"
    )
    assert made.returncode == 0, made.stderr
    ident = made.stdout.strip()
    top = docker_cli("top", ident, "-eo", "pid,comm")
    assert any(line.split()[1] == "cat" for line in top.stdout.splitlines()[1:])
    assert docker_cli("exec", ident, "id", "-u").stdout == "1000\n"
    assert docker_cli("inspect", "-f", "{{.State.Running}}", ident).stdout == "true\n"
    assert docker_cli("stop", "--time=1", ident).returncode == 0
    assert docker_cli("rm", "-f", "--volumes", ident).returncode == 0
    docker_cli("volume", "rm", "jw")


def test_act_copies_the_sources_and_execs(api: docker.APIClient, engine: Engine) -> None:
    """act and woodpecker's local runs: PUT of a tar, exec with a terminal, wait by inspect."""
    host = api.create_host_config(auto_remove=True, network_mode="none")
    made = api.create_container(
        IMAGE, ["tail", "-f", "/dev/null"], entrypoint=[], host_config=host, tty=True
    )["Id"]
    api.start(made)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data, mode in (("run.sh", b"#!/bin/sh\necho ran $1\nexit 2\n", 0o755),):
            member = tarfile.TarInfo(f"var/run/act/{name}")
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))
    assert api.put_archive(made, "/", archive.getvalue())
    command = api.exec_create(made, ["/var/run/act/run.sh", "it"], tty=True, workdir="/")["Id"]
    assert api.exec_start(command, tty=True) == b"ran it\r\n"
    assert api.exec_inspect(command)["ExitCode"] == 2
    api.kill(made)
    until(lambda: api.containers(all=True) == [])


def test_drone_follows_the_log_of_each_step(api: docker.APIClient) -> None:
    """A step is created, started, followed by ``logs -f`` and waited for; then all is removed."""
    volume = api.create_volume(labels={"io.drone": "true"})["Name"]
    host = api.create_host_config(binds=[f"{volume}:/drone/src"])
    for number, status in (("1", 0), ("2", 3)):
        made = api.create_container(
            IMAGE, ["echo $STEP $DRONE; exit $STATUS"], entrypoint=["/bin/sh", "-c"],
            environment={"STEP": number, "DRONE": "true", "STATUS": str(status)},
            working_dir="/drone/src", host_config=host, labels={"io.drone": "true"},
        )["Id"]  # fmt: skip
        api.start(made)
        assert b"".join(api.logs(made, stream=True, follow=True)) == f"{number} true\n".encode()
        assert api.wait(made)["StatusCode"] == status
        assert api.inspect_container(made)["State"]["ExitCode"] == status
    for found in api.containers(all=True, filters={"label": "io.drone=true"}):
        api.remove_container(found["Id"], force=True, v=True)
    api.remove_volume(volume, force=True)


def test_a_client_finds_the_engine_by_environment_and_by_context(engine: Engine) -> None:
    program = shutil.which("docker")
    assert program is not None
    words = [program, "info", "--format", "{{.DockerRootDir}}"]
    host = f"unix://{engine.socket}"

    def ask(*more: str, **env: str) -> str:
        done = subprocess.run(
            [program, *more, *words[1:]], env={**engine.env, **env}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout.strip() or done.stderr

    assert ask(DOCKER_HOST=host) == str(engine.data)
    engine.ok("context", "create", "mine", "--docker", f"host={host}")
    assert ask("--context", "mine") == str(engine.data)
    assert ask(DOCKER_CONTEXT="mine") == str(engine.data)
    engine.ok("context", "use", "mine")
    assert ask() == str(engine.data)
    engine.ok("context", "rm", "-f", "mine")
    assert str(engine.data) not in ask()
