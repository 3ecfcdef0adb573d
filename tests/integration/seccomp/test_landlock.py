"""Landlock on the real kernel: what is not allowed is denied, and was possible before."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.errors import HostUnsupported, SyscallError
from rootless.linux import landlock, process
from rootless.network import confine

pytestmark = pytest.mark.integration


def attempt(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return error.__class__.__name__
    except SyscallError as error:
        return os.strerror(error.errno)
    return "done"


def in_child(body: Callable[[], object]) -> object:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writer, json.dumps(body()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(data)


def test_only_what_is_allowed_is_possible(tmp_path: Path) -> None:
    for name in ("read", "write", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")

    def attempts() -> list[str]:
        return [
            attempt((tmp_path / "read/file").read_text),
            attempt(lambda: (tmp_path / "read/file").write_text("y")),
            attempt(lambda: (tmp_path / "read/new").write_text("y")),
            attempt(lambda: (tmp_path / "write/file").write_text("y")),
            attempt(lambda: (tmp_path / "write/new").write_text("y")),
            attempt((tmp_path / "other/file").read_text),
            attempt(lambda: os.listdir(tmp_path / "other")),
        ]

    def confined() -> list[str]:
        rights = landlock.file_rights(landlock.abi())
        ruleset = landlock.create_ruleset(handled_fs=rights)
        for name, access in (("read", landlock.READ), ("write", rights)):
            fd = os.open(tmp_path / name, os.O_PATH | os.O_CLOEXEC)
            landlock.allow_beneath(ruleset, fd, access)
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        landlock.restrict_self(ruleset)
        return attempts()

    no = "PermissionError"
    assert in_child(confined) == ["done", no, no, "done", "done", no, no]
    assert attempts() == ["done"] * 7


def test_tcp_ports() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        good, bad = one.getsockname(), two.getsockname()

        def attempts() -> list[str]:
            return [
                attempt(lambda: socket.create_connection(good).close()),
                attempt(lambda: socket.create_connection(bad).close()),
                attempt(lambda: socket.create_server(("127.0.0.1", 0)).close()),
            ]

        def confined() -> list[str]:
            ruleset = landlock.create_ruleset(handled_net=landlock.BIND_TCP | landlock.CONNECT_TCP)
            landlock.allow_ports(ruleset, [good[1]], landlock.CONNECT_TCP)
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            landlock.restrict_self(ruleset)
            return attempts()

        assert in_child(confined) == ["done", "PermissionError", "PermissionError"]
        assert in_child(attempts) == ["done"] * 3


def test_an_old_kernel_is_named_not_ignored() -> None:
    with pytest.raises(HostUnsupported, match="ABI 4 is needed and this kernel has 3"):
        landlock.create_ruleset(handled_net=landlock.BIND_TCP, version=3)
    with pytest.raises(HostUnsupported, match="ABI 5"):
        landlock.create_ruleset(handled_fs=landlock.IOCTL_DEV, version=4)
    with pytest.raises(HostUnsupported, match="ABI 1"):
        landlock.create_ruleset(handled_fs=landlock.READ_FILE, version=0)


def test_without_no_new_privs_it_is_refused() -> None:
    def body() -> str:
        ruleset = landlock.create_ruleset(handled_fs=landlock.READ_FILE)
        return attempt(lambda: landlock.restrict_self(ruleset))

    assert in_child(body) == "Operation not permitted"


@pytest.mark.parametrize("resolver", [True, False])
def test_what_processes_of_the_network_give_up(*, resolver: bool) -> None:
    """The resolver connects to one port, the publisher to any; neither has a file or listens."""
    if landlock.abi() < 6:
        pytest.skip("host lacks Landlock's scopes (Linux 6.12)")
    name = f"\0rootless-test-{os.getpid()}"
    parent = os.getpid()
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        abstract.bind(name)
        abstract.listen()

        def attempts() -> list[str]:
            return [
                attempt(lambda: socket.create_connection(port.getsockname())),
                attempt(lambda: socket.create_connection(other.getsockname())),
                attempt(lambda: socket.create_server(("127.0.0.1", 0))),
                attempt(lambda: os.listdir("/")),
                attempt(lambda: socket.socket(socket.AF_UNIX).connect(name)),
                attempt(lambda: os.kill(parent, 0)),
            ]

        def confined() -> list[str]:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            confine.give_up_files([port.getsockname()[1]] if resolver else None)
            return attempts()

        no = "PermissionError"
        assert in_child(confined) == ["done", no if resolver else "done", no, no, no, no]
        assert in_child(attempts) == ["done"] * 6
