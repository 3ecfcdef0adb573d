"""Ports on IPv6 addresses of the host, which the relay serves: both protocols, both families."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rootless.errors import Conflict
from rootless.model.request import PortBinding
from rootless.model.spec import NetworkSpec
from rootless.network import relay_tcp
from rootless.network.driver import NetworkDriver, NetworkState
from tests.integration.network.conftest import WAIT_IPV6, Sandbox, own_address

pytestmark = pytest.mark.integration

ECHO_TCP = """
import socket
with socket.socket({family}, socket.SOCK_STREAM) as s:
    if {family} == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(({address!r}, 8000))
    s.listen()
    with s.accept()[0] as c:
        result = 0
        while data := c.recv(1 << 16):
            result += len(data)
            c.sendall(data)
"""
ECHO_UDP = """
import socket
with socket.socket({family}, socket.SOCK_DGRAM) as s:
    if {family} == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind(({address!r}, 8000))
    data, peer = s.recvfrom(100)
    s.sendto(data, peer)
    result = len(data)
"""
FAMILIES = [("socket.AF_INET", "0.0.0.0"), ("socket.AF_INET6", "::")]


@pytest.fixture
async def driver(run_dir: Path) -> AsyncIterator[NetworkDriver]:
    made = NetworkDriver(str(run_dir))
    yield made
    await made.disconnect("c1")
    await made.disconnect("c2")
    assert not list((run_dir / "slirp").iterdir())


async def connect(
    driver: NetworkDriver, sandbox: Sandbox, *bindings: PortBinding, container_id: str = "c1"
) -> NetworkState:
    return await driver.connect(
        NetworkSpec(mode="slirp4netns", ports=bindings),
        container_id,
        netns_fd=sandbox.netns_fd,
        userns_fd=sandbox.userns_fd,
        exit_fd=sandbox.exit_fd,
    )


def dial(address: str, port: int, first: bytes) -> tuple[socket.socket, bytes]:
    """A connection on which the service inside answered to ``first``: until then it is reset."""
    for _ in range(1000):
        with contextlib.ExitStack() as stack, contextlib.suppress(ConnectionError):
            client = stack.enter_context(socket.create_connection((address, port), timeout=60))
            client.sendall(first)
            if answer := client.recv(100):
                stack.pop_all()
                return client, answer
    raise AssertionError("nobody answers inside")


def stream(address: str, port: int, size: int) -> tuple[str, str]:
    """Send ``size`` bytes and the end, and read all back: digests of both."""
    client, back = dial(address, port, b"hello")
    sent, got = hashlib.sha256(b"hello"), hashlib.sha256(back)
    chunk = hashlib.sha256(str(port).encode()).digest() * 4096

    def write() -> None:
        for _ in range(0, size, len(chunk)):
            client.sendall(chunk)
            sent.update(chunk)
        client.shutdown(socket.SHUT_WR)

    with client:
        writer = threading.Thread(target=write)
        writer.start()
        while data := client.recv(1 << 16):
            got.update(data)
        writer.join()
    return sent.hexdigest(), got.hexdigest()


def ask_udp(address: str, port: int) -> bytes:
    """Ask until the service inside listens; only an answer from where it was asked counts."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect((address, port))
        for _ in range(300):
            try:
                client.send(b"hello")
                return client.recv(100)
            except (TimeoutError, ConnectionRefusedError):
                continue
    return b""


@pytest.mark.parametrize(("family", "inside"), FAMILIES)
async def test_a_stream_both_ways_and_its_end(
    driver: NetworkDriver, sandbox: Sandbox, family: str, inside: str
) -> None:
    state = await connect(driver, sandbox, PortBinding(8000, "tcp", "::1"))
    assert state.ports[0].host_ip == "::1"
    assert await asyncio.to_thread(sandbox.run, WAIT_IPV6)
    sandbox.send(ECHO_TCP.format(family=family, address=inside))
    size = 64 << 20
    sent, got = await asyncio.to_thread(stream, "::1", state.ports[0].host_port, size)
    assert got == sent
    assert await asyncio.to_thread(sandbox.receive) == size + len(b"hello")


@pytest.mark.parametrize(("family", "inside"), FAMILIES)
async def test_datagrams(driver: NetworkDriver, sandbox: Sandbox, family: str, inside: str) -> None:
    state = await connect(driver, sandbox, PortBinding(8000, "udp", "::1"))
    assert await asyncio.to_thread(sandbox.run, WAIT_IPV6)
    sandbox.send(ECHO_UDP.format(family=family, address=inside))
    assert await asyncio.to_thread(ask_udp, "::1", state.ports[0].host_port) == b"hello"
    assert await asyncio.to_thread(sandbox.receive) == 5


async def test_every_ipv6_address_and_no_ipv4_one(driver: NetworkDriver, sandbox: Sandbox) -> None:
    """Answers to datagrams come from the address that was asked."""
    # The same port of IPv4 is bound, but not listened on, so that no other engine has it.
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        tcp = bound.getsockname()[1]
        both = PortBinding(8000, "tcp", "::", tcp), PortBinding(8000, "udp", "::")
        state = await connect(driver, sandbox, *both)
        udp = next(port.host_port for port in state.ports if port.protocol == "udp")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", tcp)).close()
    for address in filter(None, ("::1", own_address(socket.AF_INET6))):
        sandbox.send(ECHO_UDP.format(family="socket.AF_INET", address="0.0.0.0"))
        assert await asyncio.to_thread(ask_udp, address, udp) == b"hello"
        assert await asyncio.to_thread(sandbox.receive) == 5
    # The same port of IPv4 is another port.
    driver.ports.reserve("c2", (PortBinding(8000, "tcp", "0.0.0.0", tcp),))
    with pytest.raises(Conflict, match=rf"Bind for \[::1\]:{tcp} failed: port is already alloc"):
        driver.ports.reserve("c3", (PortBinding(8000, "tcp", "::1", tcp),))


async def test_nobody_listens_inside(driver: NetworkDriver, sandbox: Sandbox) -> None:
    state = await connect(driver, sandbox, PortBinding(8000, "tcp", "::1"))

    def ask() -> None:
        with socket.create_connection(("::1", state.ports[0].host_port), timeout=60) as client:
            client.recv(1)

    with pytest.raises(ConnectionResetError):
        await asyncio.to_thread(ask)


async def test_a_reset_inside_reaches_the_client(driver: NetworkDriver, sandbox: Sandbox) -> None:
    """A cut stream must not look like a whole one."""
    state = await connect(driver, sandbox, PortBinding(8000, "tcp", "::1"))
    sandbox.send("""
import socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.bind(("0.0.0.0", 8000))
    s.listen()
    with s.accept()[0] as c:
        c.sendall(c.recv(100))
        c.recv(1)
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
""")
    client, answer = await asyncio.to_thread(dial, "::1", state.ports[0].host_port, b"hello")
    with client:
        assert answer == b"hello"
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            await asyncio.to_thread(client.recv, 1)
    assert await asyncio.to_thread(sandbox.receive) is None


async def test_a_client_that_does_not_read_costs_little_and_holds_up_nobody(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    state = await connect(driver, sandbox, PortBinding(8000, "tcp", "::1"))
    port = state.ports[0].host_port
    sandbox.send("""
import socket, threading
def flood(c):
    with c:
        c.recv(100)
        c.settimeout(1)
        try:
            while True:
                c.send(bytes(1 << 16))
        except OSError:
            pass
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.bind(("0.0.0.0", 8000))
    s.listen()
    threads = []
    for _ in range(4):
        threads.append(threading.Thread(target=flood, args=[s.accept()[0]]))
        threads[-1].start()
    with s.accept()[0] as c:
        c.sendall(c.recv(100))
    for thread in threads:
        thread.join()
""")
    idle = []
    for _ in range(4):
        client, _ = await asyncio.to_thread(dial, "::1", port, b"go")
        idle.append(client)
    client, answer = await asyncio.to_thread(dial, "::1", port, b"hello")
    client.close()
    assert answer == b"hello"
    await asyncio.to_thread(sandbox.receive)
    status = Path(f"/proc/{state.relay_pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert rss << 10 < (64 << 20) + len(idle) * 2 * relay_tcp.CHUNK
    for client in idle:
        client.close()


async def test_found_again_by_the_next_daemon(run_dir: Path, sandbox: Sandbox) -> None:
    first = NetworkDriver(str(run_dir))
    state = await connect(first, sandbox, PortBinding(8000, "tcp", "::1"))
    stored = json.dumps(state.to_json())
    await first.detach()
    second = NetworkDriver(str(run_dir))
    assert await second.restore("c1", NetworkState.from_json(json.loads(stored))) == state
    sandbox.send(ECHO_TCP.format(family="socket.AF_INET", address="0.0.0.0"))
    sent, got = await asyncio.to_thread(stream, "::1", state.ports[0].host_port, 1 << 20)
    assert got == sent
    await asyncio.to_thread(sandbox.receive)
    await second.disconnect("c1")
