"""docker-py over the whole engine: its high and its low interface."""

from __future__ import annotations

import gc
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest
from docker.types import Healthcheck, LogConfig, Mount, Ulimit

from tests.support import registry
from tests.support.api import until
from tests.support.engine import Engine

# docker-py leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "rootless/busybox"
FOREVER = ["sleep", "1000"]


@pytest.fixture
def client(engine: Engine) -> Iterator[docker.DockerClient]:
    found = docker.DockerClient(base_url=f"unix://{engine.socket}", version="auto", timeout=60)
    yield found
    found.close()
    # Here the warnings about its sockets are expected, in a later test they are not.
    gc.collect()


@pytest.fixture
def box(client: docker.DockerClient) -> Iterator[Any]:
    """A container that sleeps."""
    made = client.containers.run(IMAGE, FOREVER, detach=True, init=True, name="box")
    yield made
    made.remove(force=True, v=True)


# -- running --------------------------------------------------------------------


def test_run(client: docker.DockerClient) -> None:
    assert client.containers.run(IMAGE, ["echo", "out"], remove=True) == b"out\n"
    words = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    with pytest.raises(docker.errors.ContainerError) as caught:
        client.containers.run(IMAGE, words, remove=True)
    assert (caught.value.exit_status, caught.value.stderr) == (3, b"err\n")
    lines = client.containers.run(IMAGE, ["sh", "-c", "echo a; echo b"], stream=True, remove=True)
    assert list(lines) == [b"a\n", b"b\n"]
    env = client.containers.run(
        IMAGE, ["sh", "-c", "echo $A; pwd; id -u; hostname"], environment={"A": "b"},
        working_dir="/tmp", user=1000, hostname="me", remove=True, network_disabled=True,
    )  # fmt: skip
    assert env == b"b\n/tmp\n1000\nme\n"


def test_errors_are_of_their_kinds(client: docker.DockerClient, box: Any) -> None:
    with pytest.raises(docker.errors.NotFound, match="No such container: absent"):
        client.containers.get("absent")
    with pytest.raises(docker.errors.ImageNotFound, match="No such image: absent:latest"):
        client.images.get("absent")
    with pytest.raises(docker.errors.APIError, match="already in use") as caught:
        client.containers.create(IMAGE, name="box")
    assert caught.value.status_code == 409
    with pytest.raises(docker.errors.APIError, match="executable file not found") as caught:
        client.containers.run(IMAGE, ["nope"], name="never")
    assert caught.value.status_code == 400
    client.containers.get("never").remove()
    with pytest.raises(docker.errors.APIError) as caught:
        client.containers.create(IMAGE, log_config=LogConfig(type="asdf"))
    assert caught.value.explanation == "logger: no log driver named 'asdf' is registered"
    with pytest.raises(docker.errors.APIError, match="not supported"):
        client.images.build(fileobj=io.BytesIO(b"FROM scratch"))
    with pytest.raises(docker.errors.APIError, match="denied by policy") as caught:
        client.containers.create(IMAGE, privileged=True)
    assert caught.value.status_code == 403


def test_everything_of_a_host_config_comes_back(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    api = client.api
    host = api.create_host_config(
        binds=[f"{tmp_path}:/host:ro"],
        cap_add=["CHOWN"],
        cap_drop=["ALL"],
        dns=["9.9.9.9"],
        dns_opt=["ndots:2"],
        dns_search=["x.example"],
        extra_hosts={"a.example": "1.2.3.4"},
        group_add=["5000"],
        init=True,
        ipc_mode="shareable",
        isolation="default",
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "2"}),
        mem_limit=0,
        mounts=[Mount("/data", "named", labels={"a": "b"}), Mount("/t2", "", type="tmpfs")],
        network_mode="none",
        oom_score_adj=100,
        publish_all_ports=True,
        read_only=True,
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        security_opt=["no-new-privileges"],
        shm_size="1m",
        sysctls={"net.ipv4.ip_forward": "1"},
        tmpfs={"/t1": "size=1m,mode=0700"},
        ulimits=[Ulimit(name="nofile", soft=100, hard=200)],
    )
    ident = api.create_container(
        IMAGE, "true", host_config=host, labels={"l": "1"}, environment={"A": "b", "NONE": None},
        healthcheck=Healthcheck(test=["CMD", "true"], interval=10**9), stop_signal="SIGINT",
        stop_timeout=3, ports=[(53, "udp"), 80], entrypoint=["/bin/sh", "-c"], tty=True,
    )["Id"]  # fmt: skip
    shown = api.inspect_container(ident)
    api.remove_container(ident, v=True)
    client.volumes.get("named").remove()
    got = shown["HostConfig"]
    for key, value in host.items():
        if key == "Mounts":
            assert [(m["Type"], m["Target"]) for m in got[key]] == [
                ("volume", "/data"), ("tmpfs", "/t2"),
            ]  # fmt: skip
        else:
            assert got[key] == value, key
    config = shown["Config"]
    assert {"A=b", "NONE"} <= set(config["Env"])
    assert config["Labels"] == {"l": "1"}
    assert (config["StopSignal"], config["StopTimeout"]) == ("SIGINT", 3)
    assert set(config["ExposedPorts"]) == {"53/udp", "80/tcp"}
    assert config["Healthcheck"]["Interval"] == 10**9


def test_the_life_of_a_container(client: docker.DockerClient, box: Any) -> None:
    assert box.status in ("created", "running")
    box.reload()
    assert (box.status, box.name) == ("running", "box")
    assert f"{IMAGE}:latest" in box.image.tags
    assert [found.id for found in client.containers.list(filters={"name": "box"})] == [box.id]
    box.rename("other")
    box.restart(timeout=0)
    # An init that has made its child takes signals; the kernel drops those before (signal(7)).
    until(lambda: len(box.top()["Processes"]) == 2)
    box.kill(signal="TERM")
    assert box.wait()["StatusCode"] == 143
    box.start()
    box.stop(timeout=0)
    box.reload()
    assert box.status == "exited"
    assert client.containers.list() == []
    assert len(client.containers.list(all=True)) == 1
    box.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 1})
    box.reload()
    assert box.attrs["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"


def test_wait_ends_though_the_container_is_restarted(client: docker.DockerClient) -> None:
    made = client.containers.run(
        IMAGE, ["sleep", "0.5"], detach=True, restart_policy={"Name": "always"}
    )
    assert made.wait()["StatusCode"] == 0
    with pytest.raises(docker.errors.APIError, match="stop the container before"):
        until(lambda: made.remove() or False)
    made.remove(force=True)


def test_wait_for_what_is_removed(client: docker.DockerClient) -> None:
    made = client.containers.create(IMAGE, ["sleep", "0.3"], auto_remove=True)
    made.start()
    assert made.wait(condition="removed")["StatusCode"] == 0
    with pytest.raises(docker.errors.NotFound):
        made.reload()


# -- streams --------------------------------------------------------------------


def test_exec(box: Any) -> None:
    both = ["sh", "-c", "echo out; echo err >&2; exit 5"]
    assert box.exec_run(both, demux=True) == (5, (b"out\n", b"err\n"))
    assert sorted(box.exec_run(both).output.split()) == [b"err", b"out"]
    assert b"".join(box.exec_run(both, stream=True).output).count(b"\n") == 2
    assert box.exec_run("id -u", user="1000", workdir="/tmp").output == b"1000\n"
    assert box.exec_run("sh -c 'echo $A'", environment={"A": "b"}).output == b"b\n"
    assert box.exec_run("nope").exit_code == 127
    assert not box.exec_run(["true"], detach=True).output
    assert box.exec_run(["echo", "tty"], tty=True).output == b"tty\r\n"


def test_an_exec_with_a_terminal_is_framed_when_its_start_names_none(
    client: docker.DockerClient, box: Any
) -> None:
    """Docker's rule: the frames belong to the start, the terminal to the exec."""
    api = client.api
    exec_id = api.exec_create(box.id, ["printf", "words"], tty=True)["Id"]
    stream = api.exec_start(exec_id, socket=True)
    got = b""
    while data := stream.read(4096):
        got += data
    stream.close()
    assert got == b"\x01\0\0\0\0\0\0\x05words"


def test_attach_socket(client: docker.DockerClient) -> None:
    made = client.containers.create(IMAGE, ["cat"], stdin_open=True)
    stream = made.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    made.start()
    raw = stream._sock
    raw.sendall(b"words")
    raw.shutdown(socket.SHUT_WR)
    got = b""
    while data := raw.recv(4096):
        got += data
    stream.close()
    assert got == b"\x01\0\0\0\0\0\0\x05words"
    assert made.wait()["StatusCode"] == 0
    made.remove()


def test_attach_and_logs(client: docker.DockerClient) -> None:
    made = client.containers.create(IMAGE, ["sh", "-c", "echo out; echo err >&2"])
    seen: list[tuple[bytes | None, bytes | None]] = []
    output = made.attach(stream=True, demux=True)
    reader = threading.Thread(target=lambda: seen.extend(output))
    reader.start()
    made.start()
    made.wait()
    reader.join(60)
    assert b"".join(out or b"" for out, _ in seen) == b"out\n"
    assert b"".join(err or b"" for _, err in seen) == b"err\n"
    assert made.logs(stderr=False) == b"out\n"
    assert sorted(made.logs(stream=True, follow=True)) == [b"err\n", b"out\n"]
    assert made.logs(tail=0) == b""
    stamped = made.logs(stdout=False, timestamps=True)
    assert stamped.endswith(b"Z err\n")
    made.remove()


def test_stats_top_and_diff(box: Any) -> None:
    once = box.stats(stream=False)
    assert once["id"] == box.id
    live = box.stats(stream=True, decode=True)
    assert next(live)["name"] in ("/box", "box")
    live.close()
    table = box.top(ps_args="-o pid,comm")
    assert table["Titles"] == ["PID", "COMMAND"]
    assert any("sleep" in row[1] for row in table["Processes"])
    box.exec_run(["touch", "/new"])
    assert {"Path": "/new", "Kind": 1} in box.diff()


def test_archives(box: Any) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"words"))
    assert box.put_archive("/tmp", data.getvalue())
    bits, stat = box.get_archive("/tmp/file")
    assert (stat["name"], stat["size"]) == ("file", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as archive:
        content = archive.extractfile("file")
        assert content is not None
        assert content.read() == b"words"
    with pytest.raises(docker.errors.NotFound, match="Could not find the file /no in container"):
        box.get_archive("/no")
    exported = b"".join(box.export())
    with tarfile.open(fileobj=io.BytesIO(exported)) as archive:
        assert "tmp/file" in archive.getnames()


def test_health(client: docker.DockerClient) -> None:
    check = {"test": ["CMD-SHELL", "test -e /well"], "interval": 10**8, "retries": 1}
    made = client.containers.run(IMAGE, FOREVER, detach=True, init=True, healthcheck=check)

    def health() -> str:
        made.reload()
        return str(made.attrs["State"]["Health"]["Status"])

    until(lambda: health() == "unhealthy")
    made.exec_run(["touch", "/well"])
    until(lambda: health() == "healthy")
    assert made.health == "healthy"
    made.remove(force=True)


# -- images, volumes, networks, system ---------------------------------------------


def test_images(client: docker.DockerClient, tmp_path: Path) -> None:
    image = client.images.get(IMAGE)
    assert image.tag("other/name", tag="1")
    assert "other/name:1" in client.images.get(IMAGE).tags
    image.reload()
    archive = b"".join(image.save(named="other/name:1"))
    client.images.remove("other/name:1")
    (loaded,) = client.images.load(archive)
    assert loaded.tags[-1] in ("other/name:1", f"{IMAGE}:latest")
    with pytest.raises(docker.errors.ImageLoadError, match="invalid tar archive"):
        client.images.load(b"abc")
    assert image.history()[0]["Size"] > 0
    made = client.containers.create(IMAGE)
    kept = made.commit(repository="kept", tag="1", message="m", changes=["ENV A=b"])
    made.remove()
    assert kept.attrs["Comment"] == "m"
    assert "A=b" in kept.attrs["Config"]["Env"]
    assert [i.id for i in client.images.list(name="kept")] == [kept.id]
    client.images.remove("kept:1")
    client.images.remove("other/name:1")
    assert client.images.prune(filters={"dangling": True})["SpaceReclaimed"] == 0
    imported = client.api.import_image_from_data(archive, repository="made", tag="1")
    assert "sha256:" in imported
    client.images.remove("made:1")


def test_registries(client: docker.DockerClient, tmp_path: Path) -> None:
    """Credentials go in a header of their own with each request; progress comes as it happens."""
    with (
        registry.token_realm(tmp_path / "realm", user="me", password="secret") as realm,
        registry.running(tmp_path / "registry", auth=realm.auth) as found,
    ):
        name = f"{found.host}/team/tool"
        client.images.get(IMAGE).tag(name, tag="1")
        refused = list(client.images.push(name, tag="1", stream=True, decode=True))
        assert "unauthorized" in refused[-1]["error"]
        auth = {"username": "me", "password": "secret"}
        lines = list(client.images.push(name, tag="1", stream=True, decode=True, auth_config=auth))
        assert lines[-1]["aux"]["Tag"] == "1"
        assert not any("error" in line for line in lines)
        client.images.remove(f"{name}:1")
        image = client.images.pull(name, tag="1", auth_config=auth)
        assert f"{name}:1" in image.tags
        data = client.images.get_registry_data(f"{name}:1", auth_config=auth)
        assert data.id == lines[-1]["aux"]["Digest"]
        with pytest.raises(docker.errors.NotFound, match="manifest unknown"):
            client.images.pull(name, tag="2")
        with pytest.raises(docker.errors.APIError, match="unauthorized"):
            client.login("me", "wrong", registry=found.host)
        assert client.login("me", "secret", registry=found.host)["Status"] == "Login Succeeded"
        client.images.remove(f"{name}:1", force=True)


def test_volumes(client: docker.DockerClient) -> None:
    made = client.volumes.create("data", driver="local", labels={"a": "b"})
    assert made.attrs in client.api.volumes()["Volumes"]
    client.containers.run(
        IMAGE, ["sh", "-c", "echo kept > /d/file"], volumes={"data": {"bind": "/d", "mode": "rw"}},
        remove=True,
    )  # fmt: skip
    text = client.containers.run(IMAGE, ["cat", "/d/file"], volumes=["data:/d:ro"], remove=True)
    assert text == b"kept\n"
    user = client.containers.create(IMAGE, volumes=["data:/d"])
    with pytest.raises(docker.errors.APIError, match="volume is in use") as caught:
        made.remove()
    assert caught.value.status_code == 409
    user.remove()
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        client.volumes.get("data")
    assert client.volumes.prune()["VolumesDeleted"] in (None, [])


def test_published_ports(client: docker.DockerClient) -> None:
    made = client.containers.run(
        IMAGE, ["sh", "-c", "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w"],
        detach=True, init=True, ports={"80/tcp": None},
    )  # fmt: skip
    made.reload()
    (binding,) = made.ports["80/tcp"]
    assert client.api.port(made.id, 80) == [binding]

    def page() -> bytes:
        try:
            with socket.create_connection((binding["HostIp"], int(binding["HostPort"])), 60) as s:
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return b"".join(iter(lambda: s.recv(4096), b""))
        except ConnectionError:
            return b""

    assert until(lambda: page().endswith(b"page\n"))
    made.remove(force=True)


def test_events_and_system(client: docker.DockerClient) -> None:
    seen: list[dict[str, Any]] = []
    events = client.events(decode=True, filters={"type": "container", "event": ["die", "destroy"]})

    def follow() -> None:
        for event in events:
            seen.append(event)
            if event["Action"] == "destroy":
                return

    reader = threading.Thread(target=follow)
    reader.start()
    client.containers.run(IMAGE, ["true"], remove=True)
    reader.join(60)
    events.close()
    assert [event["Action"] for event in seen] == ["die", "destroy"]
    assert seen[0]["Actor"]["Attributes"]["exitCode"] == "0"
    assert client.ping()
    assert client.version()["ApiVersion"] == client.api._version
    assert client.info()["OSType"] == "linux"
    assert {"Images", "Containers", "Volumes"} <= set(client.df())
    assert client.api.base_url.startswith("http+docker://")
    assert {"none", "host"} <= {network.name for network in client.networks.list()}
    assert client.containers.prune()["SpaceReclaimed"] == 0


@pytest.mark.parametrize("version", ["1.24", "1.35", "1.41", "1.43", "1.47"])
def test_older_versions(engine: Engine, version: str) -> None:
    old = docker.DockerClient(base_url=f"unix://{engine.socket}", version=version, timeout=60)
    assert old.containers.run(IMAGE, ["echo", "old"], remove=True) == b"old\n"
    box = old.containers.run(IMAGE, FOREVER, detach=True, stop_signal="KILL")
    assert box.exec_run(["echo", "x"]).output == b"x\n"
    assert box.logs() == b""
    box.remove(force=True)
    old.close()
    gc.collect()
