"""slirp4netns against the real kernel: confinement, both directions, its end, live restore."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rootless.errors import HostUnsupported, Unavailable
from rootless.network import helper, slirp, starter, starter_main
from rootless.network.helper import HelperProcess
from rootless.network.slirp_api import SlirpApi
from tests.integration.network.conftest import (
    CONNECT,
    ENGINE_NAMESPACE,
    WAIT_IPV6,
    Refused,
    Sandbox,
    own_address,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def attached(sandbox: Sandbox, run_dir: Path) -> AsyncIterator[HelperProcess]:
    process = await attach(sandbox, run_dir / "slirp" / "c1")
    yield process
    await helper.stop(process)
    slirp.remove_directory(str(run_dir / "slirp" / "c1"))
    assert not (run_dir / "slirp" / "c1").exists()


async def attach(sandbox: Sandbox, directory: Path) -> HelperProcess:
    return await slirp.start(
        netns_fd=sandbox.netns_fd,
        userns_fd=sandbox.userns_fd,
        exit_fd=sandbox.exit_fd,
        directory=str(directory),
        mac="02:42:0a:00:02:64",
    )


def status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }


async def test_runs_as_a_subordinate_id_confined(attached: HelperProcess, sandbox: Sandbox) -> None:
    facts = status(attached.pid)
    assert facts["Name"] == "slirp4netns"
    for ids in (facts["Uid"], facts["Gid"]):
        assert str(os.getuid()) not in ids.split()
    assert facts["Groups"] == ""
    assert facts["Seccomp"] == "2"
    assert facts["NoNewPrivs"] == "1"
    assert int(facts["CapEff"], 16) == 1 << 10, "only CAP_NET_BIND_SERVICE, in the container's ns"
    mounts = Path(f"/proc/{attached.pid}/mountinfo").read_text()
    points = [line.split()[4] for line in mounts.splitlines()]
    assert all(point == "/" or point.startswith(("/etc", "/run")) for point in points), points
    assert os.stat(f"/proc/{attached.pid}/ns/user").st_ino == os.fstat(sandbox.userns_fd).st_ino


async def test_its_directory_is_closed_to_others(attached: HelperProcess, run_dir: Path) -> None:
    assert stat.S_IMODE((run_dir / "slirp" / "c1").stat().st_mode) == 0o700
    assert stat.S_IMODE((run_dir / "slirp").stat().st_mode) == 0o700


async def test_no_thread_is_left_for_it(attached: HelperProcess) -> None:
    for thread in threading.enumerate():
        if "for pid" in thread.name:
            thread.join(30)
            assert not thread.is_alive()


@contextlib.contextmanager
def listener(
    address: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM
) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as server:
        server.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        server.settimeout(30)
        yield server


async def test_reaches_the_outside_by_its_gateway(
    attached: HelperProcess, sandbox: Sandbox
) -> None:
    """The host's own outer address stands for the outside here."""
    address = own_address(socket.AF_INET)
    assert address, "this machine has no IPv4 address but loopback"
    with listener(address) as server:
        sandbox.send(
            CONNECT.format(family="socket.AF_INET", address=address, port=server.getsockname()[1])
        )
        connection, _ = await asyncio.to_thread(server.accept)
        with connection:
            assert await asyncio.to_thread(connection.recv, 100) == b"out"
            connection.sendall(b"in")
        assert await asyncio.to_thread(sandbox.receive) == "in"


@pytest.mark.parametrize(
    ("family", "host", "target"),
    [
        (socket.AF_INET, "127.0.0.1", "10.0.2.2"),
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.1", "10.0.2.3"),
        (socket.AF_INET6, "::1", "fd00::2"),
        (socket.AF_INET6, "::1", "fd00::3"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
async def test_services_on_the_hosts_loopback_are_out_of_reach(
    attached: HelperProcess, sandbox: Sandbox, family: int, host: str, target: str
) -> None:
    if family == socket.AF_INET6:
        assert await asyncio.to_thread(sandbox.run, WAIT_IPV6)
    with listener(host, family) as server:
        server.setblocking(False)
        source = CONNECT.format(
            family=int(family), address=target, port=server.getsockname()[1]
        ).replace("settimeout(20)", "settimeout(3)")
        with pytest.raises(Refused):
            await asyncio.to_thread(sandbox.run, source)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_abstract_sockets_of_the_host_are_out_of_reach(
    attached: HelperProcess, sandbox: Sandbox
) -> None:
    name = f"\0rootless-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        source = f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})"
        with pytest.raises(Refused, match="ConnectionRefused"):
            await asyncio.to_thread(sandbox.run, source)


@pytest.mark.parametrize("resolver", ["127.0.0.1", "::1"])
def test_a_host_with_a_loopback_resolver(resolver: str) -> None:
    """Only the resolver's port 53 is reachable through the forwarder, and IPv6 goes out."""
    outcome = subprocess.run(
        [
            *ENGINE_NAMESPACE,
            "--net",
            sys.executable,
            "-m",
            "tests.integration.network.world",
            resolver,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(outcome.stdout)
    assert found.pop("ipv6").startswith("fd00")
    assert found == {
        "outside4": True,
        "outside6": True,
        "resolver": True,
        "resolver-other-port": False,
        "gateway4": False,
        "gateway6": False,
    }


async def test_ends_when_the_shim_ends(sandbox: Sandbox, run_dir: Path) -> None:
    process = await attach(sandbox, run_dir / "slirp" / "c1")
    ended = asyncio.Event()
    helper.supervise(process, ended.set)
    sandbox.end_shim()
    await ended.wait()
    await helper.stop(process)


async def test_its_death_is_noticed(sandbox: Sandbox, run_dir: Path) -> None:
    process = await attach(sandbox, run_dir / "slirp" / "c1")
    ended = asyncio.Event()
    helper.supervise(process, ended.set)
    helper.kill(process, signal.SIGKILL)
    await ended.wait()
    await helper.stop(process)


async def test_found_again_after_a_restart(sandbox: Sandbox, run_dir: Path) -> None:
    process = await attach(sandbox, run_dir / "slirp" / "c1")
    helper.close(process)
    assert helper.reattach(process.pid, process.start_time + 1) is None
    again = helper.reattach(process.pid, process.start_time)
    assert again is not None
    assert await SlirpApi(str(run_dir / "slirp" / "c1")).list() == ()
    await helper.stop(again)
    assert helper.reattach(process.pid, process.start_time) is None


async def test_outlives_a_killed_daemon(sandbox: Sandbox, run_dir: Path) -> None:
    """A process that started slirp4netns and was killed leaves it running and usable."""
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import asyncio, os, signal, sys\n"
        "from rootless.network import slirp\n"
        "async def main():\n"
        "    n, u, e = map(int, sys.argv[1:4])\n"
        "    p = await slirp.start(netns_fd=n, userns_fd=u, exit_fd=e, directory=sys.argv[4])\n"
        "    print(p.pid, p.start_time, flush=True)\n"
        "    os.killpg(0, signal.SIGKILL)\n"
        "asyncio.run(main())",
        *map(str, (sandbox.netns_fd, sandbox.userns_fd, sandbox.exit_fd)),
        str(run_dir / "slirp" / "c1"),
        pass_fds=(sandbox.netns_fd, sandbox.userns_fd, sandbox.exit_fd),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    out, _ = await daemon.communicate()
    assert daemon.returncode == -signal.SIGKILL
    pid, started = map(int, out.split())
    again = helper.reattach(pid, started)
    assert again is not None
    assert await SlirpApi(str(run_dir / "slirp" / "c1")).list() == ()
    await helper.stop(again)


async def test_a_broken_start_says_why_and_leaves_nothing(sandbox: Sandbox, run_dir: Path) -> None:
    directory = run_dir / "slirp" / "c1"
    with pytest.raises(Unavailable, match=r"slirp4netns did not start: setns\(CLONE_NEWNET\)"):
        await slirp.start(
            netns_fd=sandbox.userns_fd,  # not a network namespace
            userns_fd=sandbox.userns_fd,
            exit_fd=sandbox.exit_fd,
            directory=str(directory),
        )
    assert not directory.exists()


async def test_a_foreign_namespace_is_refused_with_the_programs_words(
    sandbox: Sandbox, run_dir: Path
) -> None:
    foreign = os.open("/proc/self/ns/user", os.O_RDONLY)
    try:
        with pytest.raises(Unavailable, match="nsenter: "):
            await slirp.start(
                netns_fd=sandbox.netns_fd,
                userns_fd=foreign,
                exit_fd=sandbox.exit_fd,
                directory=str(run_dir / "slirp" / "c1"),
            )
    finally:
        os.close(foreign)


async def test_a_missing_program_is_named(
    sandbox: Sandbox, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(run_dir))
    with pytest.raises(HostUnsupported, match="nsenter") as caught:
        await attach(sandbox, run_dir / "slirp" / "c1")
    assert caught.value.hint == "sudo apt-get install util-linux"


async def test_one_that_hangs_is_ended(
    sandbox: Sandbox, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in that never gets ready, since the real one always does."""
    with tempfile.TemporaryDirectory() as programs:
        os.chmod(programs, 0o755)
        fake = Path(programs, "slirp4netns")
        fake.write_text("#!/bin/sh\necho $$ >&2\nexec sleep 1000\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        with pytest.raises(Unavailable, match=r"was not ready after 1 seconds: \d+") as caught:
            await slirp.start(
                netns_fd=sandbox.netns_fd,
                userns_fd=sandbox.userns_fd,
                exit_fd=sandbox.exit_fd,
                directory=str(run_dir / "slirp" / "c1"),
                timeout=1,
            )
    pid = int(caught.value.message.rpartition(" ")[2])
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)


async def test_a_starter_that_hangs_is_replaced(
    sandbox: Sandbox, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starter, "ANSWER_SECONDS", 1)
    helper.open_starter()
    while not (found := _children_named("rootless.network.starter_main")):
        await asyncio.sleep(0.01)  # its command line is there a moment after it is executed
    (first,) = found
    os.kill(first, signal.SIGSTOP)

    async def start() -> HelperProcess:
        return await slirp.start(
            netns_fd=sandbox.netns_fd,
            userns_fd=sandbox.userns_fd,
            exit_fd=sandbox.exit_fd,
            directory=str(run_dir / "slirp" / "c1"),
        )

    with pytest.raises(Unavailable, match="did not answer for 1 seconds"):
        await start()
    assert not (run_dir / "slirp" / "c1").exists()
    monkeypatch.undo()
    await helper.stop(await start())
    assert first not in _children_named("rootless.network.starter_main")


def _children_named(module: str) -> list[int]:
    """Our own children that run a module."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in map(int, children) if module in Path(f"/proc/{pid}/cmdline").read_text()]


async def test_its_log_is_bounded(attached: HelperProcess) -> None:
    limits = Path(f"/proc/{attached.pid}/limits").read_text()
    line = next(x for x in limits.splitlines() if x.startswith("Max file size"))
    assert line.split()[3] == str(starter_main.LOG_LIMIT)
    ignored = int(status(attached.pid)["SigIgn"], 16)
    assert ignored >> (signal.SIGXFSZ - 1) & 1
