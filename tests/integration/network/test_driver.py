"""The engine's facade: published ports both ways, restore after a restart, clean failures."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rootless.errors import Conflict, HostUnsupported
from rootless.model.request import PortBinding
from rootless.model.spec import NetworkSpec
from rootless.network import helper, ports, relay_udp
from rootless.network.addresses import ipv6_for
from rootless.network.driver import NetworkDriver, NetworkState
from rootless.network.slirp_api import SlirpApi
from tests.integration.network.conftest import WAIT_IPV6, Sandbox, open_sandbox, own_address

pytestmark = pytest.mark.integration

SERVE = """
import socket
with socket.socket(socket.AF_INET, {kind}) as s:
    s.bind(("0.0.0.0", {port}))
    {body}
"""
TCP = """s.listen()
    with s.accept()[0] as c:
        result = c.recv(100).decode()
        c.sendall(b"from inside")"""
UDP = """data, peer = s.recvfrom(100)
    result = data.decode()
    s.sendto(b"from inside", peer)"""


@pytest.fixture
async def driver(run_dir: Path) -> AsyncIterator[NetworkDriver]:
    made = NetworkDriver(str(run_dir))
    yield made
    for container_id in list(made._running):
        await made.disconnect(container_id)
    slirp_dir = run_dir / "slirp"
    assert not slirp_dir.exists() or not list(slirp_dir.iterdir())


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


def ask_tcp(port: int) -> bytes:
    """Connect until the service inside listens: slirp4netns accepts first and then resets."""
    for _ in range(1000):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            try:
                client.sendall(b"hello")
                if answer := client.recv(100):
                    return answer
            except ConnectionError:
                continue
    return b""


def ask_udp(port: int, address: str = "127.0.0.1") -> bytes:
    """Ask until the service inside listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        for _ in range(300):
            client.sendto(b"hello", (address, port))
            try:
                return client.recv(100)
            except (TimeoutError, ConnectionRefusedError):
                continue
    return b""


async def test_published_ports_lead_inside(driver: NetworkDriver, sandbox: Sandbox) -> None:
    state = await connect(
        driver,
        sandbox,
        PortBinding(8000, "tcp"),
        PortBinding(8000, "udp"),
        PortBinding(9, "tcp"),
    )
    assert [(p.container_port, p.protocol, p.host_ip) for p in state.ports] == [
        (8000, "tcp", "127.0.0.1"),
        (8000, "udp", "127.0.0.1"),
        (9, "tcp", "127.0.0.1"),
    ]
    for kind, body, ask, port in (
        ("socket.SOCK_STREAM", TCP, ask_tcp, state.ports[0]),
        ("socket.SOCK_DGRAM", UDP, ask_udp, state.ports[1]),
    ):
        sandbox.send(SERVE.format(kind=kind, port=8000, body=body))
        assert await asyncio.to_thread(ask, port.host_port) == b"from inside"
        assert await asyncio.to_thread(sandbox.receive) == "hello"


async def test_udp_on_every_address(driver: NetworkDriver, sandbox: Sandbox) -> None:
    """Clients on loopback are the relay's, others slirp4netns'; both get their answers."""
    state = await connect(driver, sandbox, PortBinding(8000, "udp", "0.0.0.0"))
    for address in ("127.0.0.1", own_address(socket.AF_INET)):
        sandbox.send(SERVE.format(kind="socket.SOCK_DGRAM", port=8000, body=UDP))
        answer = await asyncio.to_thread(ask_udp, state.ports[0].host_port, address)
        assert answer == b"from inside"
        assert await asyncio.to_thread(sandbox.receive) == "hello"


async def test_the_relay_is_confined(driver: NetworkDriver, sandbox: Sandbox) -> None:
    state = await connect(driver, sandbox, PortBinding(53, "udp"))
    text = Path(f"/proc/{state.relay_pid}/status").read_text()
    facts = dict(line.split(":", 1) for line in text.splitlines())
    assert str(os.getuid()) not in facts["Uid"].split()
    assert facts["Groups"].split() == []
    assert {int(facts[f"Cap{kind}"], 16) for kind in ("Eff", "Prm", "Inh", "Bnd", "Amb")} == {0}
    assert facts["NoNewPrivs"].strip() == "1"
    with pytest.raises(PermissionError):  # undumpable
        os.readlink(f"/proc/{state.relay_pid}/exe")


async def test_the_relay_ends_with_the_shim(driver: NetworkDriver, sandbox: Sandbox) -> None:
    told = asyncio.Event()
    state = await driver.connect(
        NetworkSpec(mode="slirp4netns", ports=(PortBinding(53, "udp"),)),
        "c1",
        netns_fd=sandbox.netns_fd,
        userns_fd=sandbox.userns_fd,
        exit_fd=sandbox.exit_fd,
        report=lambda *_: told.set(),
    )
    relay = helper.reattach(state.relay_pid, state.relay_start)
    assert relay is not None
    sandbox.end_shim()
    await told.wait()
    assert await helper.readable(relay.pidfd, 60)
    helper.close(relay)


async def test_many_udp_clients_do_not_mix(driver: NetworkDriver, sandbox: Sandbox) -> None:
    """More clients than the relay remembers; each gets its own datagram back."""
    state = await connect(driver, sandbox, PortBinding(8000, "udp"))
    count = relay_udp.MAX_CLIENTS + 100
    echo = f"""for _ in range({count}):
        data, peer = s.recvfrom(100)
        s.sendto(data, peer)
    result = True"""
    sandbox.send(SERVE.format(kind="socket.SOCK_DGRAM", port=8000, body=echo))

    def client(number: int) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.5)
            sock.connect(("127.0.0.1", state.ports[0].host_port))
            for _ in range(100):
                try:
                    sock.send(str(number).encode())
                    return sock.recv(100)
                except (TimeoutError, ConnectionRefusedError):
                    continue
        return b""

    for number in range(count):
        assert await asyncio.to_thread(client, number) == str(number).encode()
    assert await asyncio.to_thread(sandbox.receive) is True


async def test_published_on_loopback_only_unless_asked(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    """Another address of the host does not serve a port that was published without one."""
    state = await connect(
        driver, sandbox, PortBinding(80, "tcp"), PortBinding(81, "tcp", "0.0.0.0")
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", state.ports[0].host_port)).close()
    socket.create_connection(("127.0.0.2", state.ports[1].host_port)).close()


async def test_disconnect_frees_ports_and_process(driver: NetworkDriver, sandbox: Sandbox) -> None:
    state = await connect(driver, sandbox, PortBinding(80, "tcp"))
    await driver.disconnect("c1")
    assert ports.probe_bind("tcp", "127.0.0.1", state.ports[0].host_port) == 0
    assert helper.reattach(state.pid, state.start_time) is None
    assert driver.ports.of("c1") == ()
    await driver.disconnect("c1")


async def test_the_mac_and_ipv6_address_are_those_told(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    state = await connect(driver, sandbox)
    assert state.mac
    found = await asyncio.to_thread(
        sandbox.run,
        "import fcntl, socket\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "    raw = fcntl.ioctl(s, 0x8927, b'tap0'.ljust(40, bytes(1)))\n"  # SIOCGIFHWADDR
        "result = ':'.join(f'{b:02x}' for b in raw[18:24])",
    )
    assert found == state.mac
    hexadecimal = await asyncio.to_thread(sandbox.run, WAIT_IPV6)
    assert socket.inet_ntop(socket.AF_INET6, bytes.fromhex(hexadecimal)) == ipv6_for(state.mac)


async def test_a_port_of_another_container_is_refused_in_dockers_words(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    state = await connect(driver, sandbox, PortBinding(80, "tcp"))
    port = state.ports[0].host_port
    other = open_sandbox()
    try:
        with pytest.raises(
            Conflict, match=rf"Bind for 127\.0\.0\.1:{port} failed: port is already allocated"
        ):
            await connect(driver, other, PortBinding(80, "tcp", "", port), container_id="c2")
    finally:
        other.close()
    assert driver.ports.of("c2") == ()
    assert len(await SlirpApi(state.directory).list()) == 1


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_port_of_a_stranger_is_refused(
    driver: NetworkDriver, sandbox: Sandbox, protocol: str
) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as stranger:
        stranger.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(Conflict, match=rf"127\.0\.0\.1:{port}/{protocol}: address already"):
            await connect(driver, sandbox, PortBinding(80, protocol, "", port))


async def test_a_port_taken_after_the_check_leaves_nothing_behind(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    """The probe said free, and then somebody listened: slirp4netns' own refusal is explained."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        driver.ports = ports.PortTable(probe=lambda *_: 0)
        with pytest.raises(Conflict, match="address already in use"):
            await connect(driver, sandbox, PortBinding(80, "tcp", "", port))
    assert driver.ports.of("c1") == ()
    assert not driver._running


async def test_a_privileged_port_names_the_sysctl(driver: NetworkDriver, sandbox: Sandbox) -> None:
    with pytest.raises(HostUnsupported) as caught:
        await connect(driver, sandbox, PortBinding(80, "tcp", "", 1))
    assert "sudo sysctl net.ipv4.ip_unprivileged_port_start=1" in str(caught.value)


async def test_restored_by_the_next_daemon(run_dir: Path, sandbox: Sandbox) -> None:
    first = NetworkDriver(str(run_dir))
    state = await connect(first, sandbox, PortBinding(8000, "tcp"), PortBinding(8000, "udp"))
    stored = json.dumps(state.to_json())
    await first.detach()

    second = NetworkDriver(str(run_dir))
    restored = await second.restore("c1", NetworkState.from_json(json.loads(stored)))
    assert restored == state
    await second.sweep(frozenset({"c1"}))
    port = state.ports[0].host_port
    with pytest.raises(Conflict, match="port is already allocated"):
        second.ports.reserve("c2", (PortBinding(1, "tcp", "", port),))
    sandbox.send(SERVE.format(kind="socket.SOCK_STREAM", port=8000, body=TCP))
    assert await asyncio.to_thread(ask_tcp, port) == b"from inside"
    assert await asyncio.to_thread(sandbox.receive) == "hello"
    sandbox.send(SERVE.format(kind="socket.SOCK_DGRAM", port=8000, body=UDP))
    assert await asyncio.to_thread(ask_udp, state.ports[1].host_port) == b"from inside"
    assert await asyncio.to_thread(sandbox.receive) == "hello"
    await second.disconnect("c1")
    assert helper.reattach(state.relay_pid, state.relay_start) is None

    third = NetworkDriver(str(run_dir))
    told = asyncio.Event()
    assert await third.restore("c1", state, lambda *_: told.set()) is None
    await told.wait()
    assert third.ports.of("c1") == ()


async def test_its_end_is_told_once_and_frees_the_ports(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    told: asyncio.Queue[object] = asyncio.Queue()
    state = await driver.connect(
        NetworkSpec(mode="slirp4netns", ports=(PortBinding(80, "tcp"),)),
        "c1",
        netns_fd=sandbox.netns_fd,
        userns_fd=sandbox.userns_fd,
        exit_fd=sandbox.exit_fd,
        report=lambda *what: told.put_nowait(what),
    )
    sandbox.end_shim()
    assert await told.get() == (None, "")
    assert told.empty()
    assert driver.ports.of("c1") == ()
    assert not Path(state.directory).exists()
    await driver.disconnect("c1")


async def test_sweep_removes_what_no_container_owns(driver: NetworkDriver, run_dir: Path) -> None:
    left = run_dir / "slirp" / "gone"
    left.mkdir(parents=True)
    (left / "slirp4netns.log").write_text("x")
    await driver.sweep(frozenset())
    assert not left.exists()


async def test_a_thousand_ports(driver: NetworkDriver, sandbox: Sandbox) -> None:
    state = await connect(driver, sandbox, *(PortBinding(n, "tcp") for n in range(1000, 2000)))
    assert len({port.host_port for port in state.ports}) == 1000
    assert len(await SlirpApi(state.directory).list()) == 1000


async def test_more_udp_ports_than_a_message_carries_descriptors(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    wanted = [PortBinding(n, "udp") for n in range(8000, 8600)]
    state = await connect(driver, sandbox, *wanted)
    assert len({port.host_port for port in state.ports}) == 600
    last = state.ports[-1]
    sandbox.send(SERVE.format(kind="socket.SOCK_DGRAM", port=last.container_port, body=UDP))
    assert await asyncio.to_thread(ask_udp, last.host_port) == b"from inside"
    assert await asyncio.to_thread(sandbox.receive) == "hello"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_port_of_the_relay_taken_after_the_check(
    driver: NetworkDriver, sandbox: Sandbox, protocol: str
) -> None:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6, kind) as stranger:
        stranger.bind(("::1", 0))
        if protocol == "tcp":
            stranger.listen()
        port = stranger.getsockname()[1]
        driver.ports = ports.PortTable(probe=lambda *_: 0)
        with pytest.raises(Conflict, match=rf"\[::1\]:{port}/{protocol}: address already in use"):
            await connect(driver, sandbox, PortBinding(80, protocol, "::1", port))
    assert driver.ports.of("c1") == ()
    assert not driver._running


@pytest.mark.parametrize("mode", ["none", "host", "container:" + "a" * 64])
async def test_other_modes_start_nothing(driver: NetworkDriver, mode: str) -> None:
    state = await driver.connect(NetworkSpec(mode=mode), "c1")
    assert state.pid == 0
    assert NetworkState.from_json(json.loads(json.dumps(state.to_json()))) == state
    assert await driver.restore("c1", state) == state


async def test_eight_at_once(driver: NetworkDriver) -> None:
    opened = [open_sandbox() for _ in range(8)]
    try:
        states = await asyncio.gather(
            *(
                connect(driver, box, PortBinding(80, "tcp"), container_id=f"c{number}")
                for number, box in enumerate(opened)
            )
        )
        assert len({state.pid for state in states}) == 8
        assert len({state.ports[0].host_port for state in states}) == 8
        for number in range(8):
            await driver.disconnect(f"c{number}")
    finally:
        for box in opened:
            box.close()
