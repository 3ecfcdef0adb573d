"""Helpers that are killed while their container lives are started again, also by a later daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rootless.model.request import PortBinding
from rootless.model.spec import NetworkSpec
from rootless.network import driver as driver_module
from rootless.network import helper, ports
from rootless.network.driver import NetworkDriver, NetworkState
from rootless.network.slirp_api import SlirpApi
from tests.integration.network.conftest import CONNECT, Sandbox, own_address
from tests.integration.network.test_driver import SERVE, TCP, UDP, ask_tcp, ask_udp

pytestmark = pytest.mark.integration

BINDINGS = PortBinding(8000, "tcp"), PortBinding(8000, "udp")


class Reports:
    """What the driver told of one container."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[NetworkState | None, str]] = asyncio.Queue()

    def __call__(self, state: NetworkState | None, reason: str) -> None:
        self._queue.put_nowait((state, reason))

    async def next(self) -> tuple[NetworkState | None, str]:
        return await self._queue.get()

    async def repaired(self, *, after: str) -> NetworkState:
        """The new state, after one report of the reason."""
        _, reason = await self.next()
        assert after in reason
        state, reason = await self.next()
        assert reason == ""
        assert state is not None
        assert self._queue.empty()
        return state


@pytest.fixture
async def driver(run_dir: Path) -> AsyncIterator[NetworkDriver]:
    made = NetworkDriver(str(run_dir))
    yield made
    await made.disconnect("c1")
    assert not list((run_dir / "slirp").iterdir())
    assert not made.ports._owners


async def connect(
    driver: NetworkDriver, sandbox: Sandbox, *bindings: PortBinding, report: Reports
) -> NetworkState:
    return await driver.connect(
        NetworkSpec(mode="slirp4netns", ports=bindings),
        "c1",
        netns_fd=sandbox.netns_fd,
        userns_fd=sandbox.userns_fd,
        exit_fd=sandbox.exit_fd,
        init_pid=sandbox.pid,
        shim_pid=os.getpid(),
        report=report,
    )


async def assert_works(state: NetworkState, sandbox: Sandbox) -> None:
    """In by both protocols, and out."""
    by_protocol = {port.protocol: port.host_port for port in state.ports}
    for protocol, kind, body in (("tcp", "STREAM", TCP), ("udp", "DGRAM", UDP)):
        sandbox.send(SERVE.format(kind=f"socket.SOCK_{kind}", port=8000, body=body))
        ask = ask_tcp if protocol == "tcp" else ask_udp
        assert await asyncio.to_thread(ask, by_protocol[protocol]) == b"from inside"
        assert await asyncio.to_thread(sandbox.receive) == "hello"
    with socket.socket() as server:
        address = own_address(socket.AF_INET)
        server.bind((address, 0))
        server.listen()
        sandbox.send(CONNECT.format(family=2, address=address, port=server.getsockname()[1]))
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            assert await asyncio.to_thread(connection.recv, 100) == b"out"
            connection.sendall(b"in")
        assert await asyncio.to_thread(sandbox.receive) == "in"


async def test_slirp4netns(driver: NetworkDriver, sandbox: Sandbox) -> None:
    reports = Reports()
    before = await connect(driver, sandbox, *BINDINGS, report=reports)
    os.kill(before.pid, signal.SIGKILL)
    after = await reports.repaired(after="slirp4netns ended")
    assert after.pid != before.pid
    assert after.relay_pid == before.relay_pid
    assert [p.host_port for p in after.ports] == [p.host_port for p in before.ports]
    await assert_works(after, sandbox)


async def test_the_relay(driver: NetworkDriver, sandbox: Sandbox) -> None:
    reports = Reports()
    before = await connect(driver, sandbox, *BINDINGS, report=reports)
    os.kill(before.relay_pid, signal.SIGKILL)
    after = await reports.repaired(after="the relay of its ports ended")
    assert after.relay_pid != before.relay_pid
    assert after.pid == before.pid
    await assert_works(after, sandbox)


async def test_both_at_once(driver: NetworkDriver, sandbox: Sandbox) -> None:
    reports = Reports()
    before = await connect(driver, sandbox, *BINDINGS, report=reports)
    for pid in (before.relay_pid, before.pid):
        os.kill(pid, signal.SIGKILL)
    after = await reports.repaired(after="ended")
    while {after.pid, after.relay_pid} & {before.pid, before.relay_pid}:
        after = await reports.repaired(after="ended")
    await assert_works(after, sandbox)


async def test_again_and_again_takes_longer(
    driver: NetworkDriver, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that brings its slirp4netns down must not keep the daemon busy."""
    waited: list[float] = []
    monkeypatch.setattr(driver_module, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(driver_module, "LONGEST_DELAY", 0.04)
    reports = Reports()
    state = await connect(driver, sandbox, report=reports)
    for _ in range(4):
        os.kill(state.pid, signal.SIGKILL)
        state = await reports.repaired(after="slirp4netns ended")
        waited.append(driver._running["c1"].delay)
    assert waited == [0.01, 0.02, 0.04, 0.04]


async def test_a_port_that_was_taken_meanwhile_is_given_up(
    driver: NetworkDriver, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    reports = Reports()
    before = await connect(driver, sandbox, *BINDINGS, report=reports)
    port = before.ports[0].host_port
    api = SlirpApi(before.directory)
    await api.remove(before.ports[0].forward_id)
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        os.kill(before.pid, signal.SIGKILL)
        after = await reports.repaired(after="slirp4netns ended")
        assert port not in [p.host_port for p in after.ports if p.protocol == "tcp"]
    assert f"127.0.0.1:{port}/tcp was taken meanwhile" in caplog.text
    driver.ports.reserve("c2", (PortBinding(80, "tcp", "", port),))
    driver.ports.release("c2")


async def test_while_no_daemon_was_there(run_dir: Path, sandbox: Sandbox) -> None:
    reports = Reports()
    first = NetworkDriver(str(run_dir))
    before = await connect(first, sandbox, *BINDINGS, report=reports)
    stored = before.to_json()
    await first.detach()
    process = helper.reattach(before.pid, before.start_time)
    assert process is not None
    await helper.stop(process)
    second = NetworkDriver(str(run_dir))
    assert await second.restore("c1", NetworkState.from_json(stored), reports) is None
    await assert_works(await reports.repaired(after="slirp4netns ended"), sandbox)
    await second.disconnect("c1")


async def test_helpers_that_a_killed_daemon_had_just_started(
    run_dir: Path, sandbox: Sandbox
) -> None:
    """They are in nobody's notes, and in the way of others."""
    reports = Reports()
    first = NetworkDriver(str(run_dir))
    stray = await connect(first, sandbox, *BINDINGS, report=reports)
    noted = NetworkState.from_json({**stray.to_json(), "pid": 2**22 + 1, "relay_pid": 2**22 + 1})
    await first.detach()
    second = NetworkDriver(str(run_dir))
    assert await second.restore("c1", noted, reports) is None
    after = await reports.repaired(after="slirp4netns ended")
    assert {after.pid, after.relay_pid}.isdisjoint({stray.pid, stray.relay_pid})
    assert helper.reattach(stray.pid, stray.start_time) is None
    assert helper.reattach(stray.relay_pid, stray.relay_start) is None
    await assert_works(after, sandbox)
    await second.disconnect("c1")


async def test_the_end_of_the_container_is_no_reason(
    driver: NetworkDriver, sandbox: Sandbox
) -> None:
    reports = Reports()
    state = await connect(driver, sandbox, *BINDINGS, report=reports)
    sandbox.end_shim()
    assert await reports.next() == (None, "")
    assert not Path(state.directory).exists()
    assert ports.probe_bind("tcp", "127.0.0.1", state.ports[0].host_port) == 0


async def test_disconnected_while_it_is_repaired(
    driver: NetworkDriver, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = Reports()
    state = await connect(driver, sandbox, *BINDINGS, report=reports)
    driver._running["c1"].delay = 3600.0
    driver._running["c1"].since = asyncio.get_running_loop().time()
    os.kill(state.pid, signal.SIGKILL)
    _, reason = await reports.next()
    assert reason
    await driver.disconnect("c1")
    assert helper.reattach(state.relay_pid, state.relay_start) is None
    assert driver.ports.of("c1") == ()
