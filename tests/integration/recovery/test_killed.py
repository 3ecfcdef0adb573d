"""kill -9 of launcher, zygote, shim and command line while a container runs or is asked for."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess

import pytest

from rootless.linux import procfs
from tests.integration.recovery.world import IMAGE, QUIET, World, await_end
from tests.support.engine import SECONDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]
ROUNDS = 50


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it died with another one
    await_end(pid)


@pytest.mark.parametrize("victim", ["launcher", "zygote", "spare", "starter"])
def test_helpers_between_operations(world: World, victim: str) -> None:
    """The next request gets new ones, in the namespaces of the containers that run."""
    engine = world.engine
    engine.ok("run", "-d", "--name", "old", *QUIET, IMAGE, "sleep", "1000")
    find = {
        "launcher": world.launchers,
        "zygote": world.zygotes,
        "spare": world.spare,
        "starter": world.starters,
    }[victim]
    while not find():  # the spare comes when the launcher has nothing else to do
        select.select([], [], [], 0.02)
    for pid in find():
        _kill(pid)
    first = engine.run("run", "--rm", *QUIET, IMAGE, "echo", "new")
    assert first.returncode == 0 or first.stderr.count("\n") <= 2, first.stderr
    assert engine.ok("run", "--rm", *QUIET, IMAGE, "echo", "new") == "new"
    assert engine.ok("exec", "old", "echo", "reached") == "reached"
    if victim == "starter":
        own = engine.ok("run", "--rm", "--network", "slirp4netns", IMAGE, "ip", "address")
        assert "tap0" in own
    namespaces = [
        os.readlink(f"/proc/{p}/ns/user") for p in (world.shim("old"), *world.launchers())
    ]
    assert len(set(namespaces)) == 1


def test_the_next_launcher_is_where_the_one_before_was(world: World) -> None:
    """Also when no container tells where that was: one may be starting just now."""
    engine = world.engine
    engine.ok("run", "--rm", *QUIET, IMAGE, "true")
    (killed,) = world.launchers()
    before = [os.readlink(f"/proc/{killed}/ns/{name}") for name in ("user", "mnt")]
    _kill(killed)
    engine.ok("run", "--rm", *QUIET, IMAGE, "true")
    (found,) = world.launchers()
    assert found != killed
    assert [os.readlink(f"/proc/{found}/ns/{name}") for name in ("user", "mnt")] == before


@pytest.mark.parametrize(
    "options",
    [(), ("-t", *QUIET), ("--rm", "--userns=auto"), ("--user", "1000", *QUIET)],
    ids=["network", "terminal", "own-ids", "other-user"],
)
def test_shim(world: World, options: tuple[str, ...]) -> None:
    """Its container dies with it, nothing is left, and the cause is told."""
    engine = world.engine
    engine.ok("run", "-d", "--name", "one", *options, IMAGE, "sleep", "1000")
    engine.ok("exec", "-d", "one", "sleep", "1000")
    pids = [world.state("one")["Pid"], *world.network_of(world.inspect("one")["Id"])]
    waiting = engine.popen("wait", "one", stdout=subprocess.PIPE)
    _kill(world.shim("one"))
    for pid in pids:
        await_end(pid)
    output, _ = waiting.communicate(timeout=SECONDS)
    if "--rm" not in options:
        assert output.strip() == b"255"
        state = world.state("one")
        assert (state["Status"], state["ExitCode"]) == ("exited", 255)
        assert "was killed" in state["Error"]
        world.assert_sound()
        engine.ok("start", "one")
        assert engine.ok("exec", "one", "echo", "again") == "again"


def test_shim_of_a_container_that_restarts(world: World) -> None:
    engine = world.engine
    engine.ok("run", "-d", "--name", "one", "--restart", "always", *QUIET, IMAGE, "sleep", "1000")
    shim = world.shim("one")
    _kill(shim)
    # Until the daemon has noticed, the record still says that it runs.
    while (found := world.inspect("one"))["RestartCount"] == 0 or not found["State"]["Running"]:
        select.select([], [], [], 0.02)
    assert found["RestartCount"] == 1
    assert world.shim("one") != shim


def test_shim_of_an_exec(world: World) -> None:
    engine = world.engine
    engine.ok("run", "-d", "--name", "one", *QUIET, IMAGE, "sleep", "1000")
    script = "echo up; sleep 777; echo never"
    with engine.popen("exec", "one", "sh", "-c", script, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        [path] = engine.data.glob("containers/*/exec/*/shim.json")
        shim = json.loads(path.read_text())
        _kill(shim["shim_pid"])
        await_end(shim["init_pid"])
        assert client.wait(SECONDS) == 255
    assert engine.ok("exec", "one", "echo", "alive") == "alive"


# -- the command line ------------------------------------------------------------


def test_client_of_a_foreground_container(world: World) -> None:
    """Killed with SIGKILL it can tell nobody anything: its container goes on, as Docker's does."""
    engine = world.engine
    command = ("run", "--rm", "-i", "--name", "one", *QUIET, IMAGE, "sh", "-c")
    script = "echo up; read line; while [ ! -e /end ]; do sleep 0.05; done; exit 5"
    with engine.popen(*command, script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"up\n"
        client.kill()
    assert world.state("one")["Running"]
    waiting = engine.popen("wait", "one", stdout=subprocess.PIPE)
    engine.run("exec", "one", "touch", "/end")  # may be killed by the end it brings about
    output, _ = waiting.communicate(timeout=SECONDS)
    assert output.strip() in (b"5", b"")
    world.assert_clean()


def test_client_with_a_terminal(world: World) -> None:
    engine = world.engine
    master, slave = pty.openpty()
    try:
        with engine.popen(
            "run", "-it", "--name", "one", *QUIET, IMAGE, "sh",
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        ) as client:  # fmt: skip
            os.write(master, b"echo up$((1+1))\n")
            seen = b""
            while b"up2" not in seen:
                seen += os.read(master, 4096)
            client.kill()
    finally:
        os.close(slave)
        os.close(master)
    assert world.state("one")["Running"]
    assert engine.ok("exec", "one", "echo", "alive") == "alive"


def test_clients_of_pulls_leave_no_trace(world: World, registry_host: str) -> None:
    engine, name = world.engine, f"{registry_host}/copy:now"
    engine.ok("tag", IMAGE, name)
    engine.ok("push", name)
    engine.ok("rmi", name)
    for _ in range(3):
        with engine.popen("pull", name, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            client.kill()
    world.assert_sound()
    engine.ok("pull", name)
    engine.ok("rmi", name)


def test_fifty_killed_clients_cost_the_daemon_nothing(world: World) -> None:
    engine = world.engine
    engine.ok("run", "-d", "-i", "--name", "one", *QUIET, IMAGE, "sh", "-c", "echo up; exec cat")

    def one_round() -> None:
        clients = [
            engine.popen(
                *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for command in (("exec", "-i", "one", "cat"), ("attach", "one"), ("logs", "-f", "one"))
        ]
        # One that is killed before it is served leaves out what the daemon opens once (inotify).
        for client, line in ((clients[0], b"x\n"), (clients[2], b"up\n")):
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"x\n")
            client.stdin.flush()
            assert client.stdout.readline() == line
        for client in clients:
            client.kill()
            client.communicate()

    one_round()
    world.assert_sound()
    before = _settled(world)
    for _ in range(ROUNDS // 3 + 1):
        one_round()
    world.assert_sound()
    assert _settled(world) <= before
    assert procfs.is_alive(world.state("one")["Pid"], procfs.start_time(world.state("one")["Pid"]))


def _settled(world: World) -> int:
    """The daemon's descriptors, once those of clients that left are closed."""
    count, same = -1, 0
    while same < 5:
        now = world.daemon_fds()
        same = same + 1 if now == count else 0
        count = now
        select.select([], [], [], 0.05)
    return count
