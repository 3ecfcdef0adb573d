"""Docker's own command line on a real terminal: sizes, signals, detaching, questions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.integration.cli.test_run import SCRIPT, Terminal
from tests.support.api import until
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"
Open = Callable[..., Terminal]


@pytest.fixture
def terminal(engine: Engine) -> Iterator[Open]:
    """``terminal("run", "-it", …)`` is Docker's client in a terminal of its own."""
    program = shutil.which("docker")
    assert program is not None
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        made = Terminal(
            engine, program, "--host", f"unix://{engine.socket}", *words, rootless=False
        )
        opened.append(made)
        return made

    yield start
    for each in opened:
        each.close()


def test_run_and_its_size(terminal: Open) -> None:
    shell = terminal("run", "--rm", "-it", IMAGE, "sh", "-c", SCRIPT)
    shell.until(b"READY")
    shell.type(b"hello\r")
    shell.until(b"<hello>")
    shell.type(b"size\r")
    shell.until(b"33 99")
    shell.resize(44, 88)
    shell.ask_until(b"44 88")
    shell.type(b"exit 5\r")
    assert shell.client.wait(60) == 5


def test_detach_attach_and_start_again(
    terminal: Open, docker_cli: DockerCli, engine: Engine
) -> None:
    shell = terminal("run", "-it", "--name", "shell", IMAGE, "sh", "-c", SCRIPT)
    shell.until(b"READY")
    shell.type(b"\x10\x11")
    assert shell.client.wait(60) == 0
    assert docker_cli("ps", "--format", "{{.Names}} {{.State}}").stdout == "shell running\n"
    again = terminal("attach", "--detach-keys", "ctrl-x,y", "shell")
    again.type(b"\x10hello\r")
    again.until(b"hello>")
    again.type(b"\x18y")
    again.until(b"read escape sequence")
    assert again.client.wait(60) == 1
    last = terminal("attach", "shell")
    last.type(b"exit 3\r")
    assert last.client.wait(60) == 3
    started = terminal("start", "-ai", "shell")
    started.until(b"READY")
    started.type(b"exit 4\r")
    assert started.client.wait(60) == 4
    docker_cli("rm", "shell")


def test_exec(terminal: Open, docker_cli: DockerCli, engine: Engine) -> None:
    docker_cli("run", "-d", "--name", "box", "--init", IMAGE, "sleep", "1000")
    shell = terminal("exec", "-it", "box", "sh", "-c", SCRIPT)
    shell.until(b"READY")
    shell.type(b"size\r")
    shell.until(b"33 99")
    shell.type(b"\x10\x11")
    shell.until(b"read escape sequence")
    assert shell.client.wait(60) == 1
    other = terminal("exec", "-it", "box", "sh", "-c", SCRIPT)
    other.until(b"READY")
    other.type(b"exit 9\r")
    assert other.client.wait(60) == 9
    docker_cli("rm", "-f", "box")


def test_interrupts_reach_a_container_without_a_terminal(terminal: Open) -> None:
    script = "trap 'echo CAUGHT; exit 3' INT; echo READY; while :; do sleep 0.1; done"
    shell = terminal("run", "--rm", IMAGE, "sh", "-c", script)
    shell.until(b"READY")
    shell.type(b"\x03")
    shell.until(b"CAUGHT")
    assert shell.client.wait(60) == 3


def test_follow_ends_by_an_interrupt(terminal: Open, docker_cli: DockerCli, engine: Engine) -> None:
    docker_cli("run", "-d", "--name", "box", "--init", IMAGE, "sh", "-c", "echo said; sleep 1000")
    for words, shown in (
        (("logs", "-f", "box"), b"said"),
        (("stats",), b"box"),  # named ones outlive an interrupt: Docker 28's client itself
        (("events", "--since", "1h"), b"container start"),
    ):
        client = terminal(*words)
        client.until(shown)
        client.type(b"\x03")
        assert client.client.wait(60) in (0, 130)  # whichever of its goroutines is first
    docker_cli("rm", "-f", "box")


def test_a_question(terminal: Open, docker_cli: DockerCli, engine: Engine) -> None:
    docker_cli("create", "--name", "old", IMAGE)
    for answer, left in ((b"n\r", 1), (b"y\r", 0)):
        client = terminal("container", "prune")
        client.until(b"[y/N] ")
        client.type(answer)
        assert client.client.wait(60) == 0
        until(lambda left=left: len(engine.containers()) == left)  # type: ignore[misc]  # bound now, not when it runs
