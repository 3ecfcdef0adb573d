"""docker-py speaks to the API over the fake engine."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import docker
import docker.errors
import pytest

from tests.unit.api.conftest import Served

# docker-py leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def client(served: Served) -> Iterator[docker.DockerClient]:
    # version=None would ask the server while its loop stands still.
    found = docker.DockerClient(base_url=f"unix://{served.path}", version="1.51")
    yield found
    found.close()
    # Here the warnings about its sockets are expected, in a later test they are not.
    gc.collect()


async def run(action: Callable[[], Any]) -> Any:
    """Run a blocking call beside the server."""
    return await asyncio.to_thread(action)


async def test_run(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ContainerError) as caught:
        await run(lambda: client.containers.run("busybox", ["both"], stdout=True, stderr=True))
    assert caught.value.exit_status == 3


async def test_objects(client: docker.DockerClient, served: Served) -> None:
    made = await run(
        lambda: client.containers.create(
            "busybox", ["silent"], name="a", ports={"80/tcp": 8080}, volumes=["/tmp:/t:ro"],
            labels={"x": "y"}, mem_limit="64m", tmpfs={"/r": "size=1m"}, detach=True,
        )
    )  # fmt: skip
    host = served.engine.containers.requests[-1].host
    assert [m.target for m in host.mounts] == ["/t", "/r"]
    assert host.resources.memory == 64 << 20
    assert (await run(lambda: client.containers.get("a"))).id == made.id
    assert [c.name for c in await run(lambda: client.containers.list(all=True))] == ["a"]
    assert await run(made.diff) == [{"Path": "/etc", "Kind": 0}, {"Path": "/etc/new", "Kind": 1}]
    with pytest.raises(docker.errors.NotFound, match="No such container"):
        await run(lambda: client.containers.get("absent"))
    await run(made.remove)


async def test_exec_and_streams(client: docker.DockerClient, served: Served) -> None:
    ref = await served.create("x")
    found = await run(lambda: client.containers.get(ref))
    result = await run(lambda: found.exec_run(["both"], demux=True))
    assert result == (5, (b"out\n", b"err\n"))
    samples = await run(lambda: list(found.stats(stream=True, decode=True)))
    assert [sample["pids_stats"]["current"] for sample in samples] == [1, 2, 3]
    bits, stat = await run(lambda: found.get_archive("/etc"))
    assert stat["name"] == "etc"
    assert sum(map(len, await run(lambda: list(bits)))) == 4 << 20
    assert await run(lambda: found.put_archive("/etc", b"tar"))


async def test_attach_socket(client: docker.DockerClient, served: Served) -> None:
    """docker-py takes the raw socket and half-closes it."""
    import socket

    ref = await served.create("sink", OpenStdin=True)

    def attach() -> bytes:
        stream = client.api.attach_socket(ref, {"stdin": 1, "stdout": 1, "stream": 1})
        sock = stream._sock
        sock.sendall(b"x" * 1000)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while data := sock.recv(4096):
            got += data
        stream.close()
        return got

    assert await run(attach) == b"\x01\0\0\0\0\0\0\x04" + b"1000"


async def test_websocket(client: docker.DockerClient, served: Served) -> None:
    import aiohttp

    ref = await served.create("cat", OpenStdin=True)
    connector = aiohttp.UnixConnector(served.path)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://localhost/v1.51/containers/{ref}/attach/ws?stream=1&stdin=1&stdout=1"
        async with session.ws_connect(url, origin="http://localhost") as socket:
            await socket.send_bytes(b"hello")
            message = await socket.receive()
            assert message.data == b"hello"
    while not served.engine.containers.attached[0].closed:
        await asyncio.sleep(0.001)


async def test_images_and_system(client: docker.DockerClient) -> None:
    assert (await run(lambda: client.images.get("busybox"))).tags == ["busybox:latest"]
    assert (await run(lambda: client.images.pull("busybox", tag="latest"))).id.startswith("sha256")
    assert await run(client.ping)
    assert (await run(client.version))["ApiVersion"] == "1.51"
    assert (await run(client.df))["LayersSize"] == 100
    assert [v.name for v in await run(client.volumes.list)] == []
    assert [n.name for n in await run(client.networks.list)] == ["slirp4netns", "host", "none"]
