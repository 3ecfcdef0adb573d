"""Listening sockets: made at once with mode 0600, and removed only while they are ours."""

from __future__ import annotations

import grp
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rootless.daemon import activation
from rootless.daemon.config import DaemonConfig
from rootless.errors import InvalidInput, RootlessError


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may be: pytest's directories can be too deep for its 107 bytes."""
    root = Path(tempfile.mkdtemp(prefix="a"))
    yield root / "run/s"
    shutil.rmtree(root)


def test_only_the_owner_may_connect(path: Path) -> None:
    made = activation.bind(path)
    with made.socket, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        client.connect(str(path))


def test_a_stale_socket_is_replaced_and_ours_withdrawn(path: Path) -> None:
    activation.bind(path).socket.close()
    made = activation.bind(path)
    with made.socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    made.withdraw()
    assert not path.exists()
    made.withdraw()


def test_anothers_socket_stays(path: Path) -> None:
    ours = activation.bind(path)
    path.unlink()
    theirs = activation.bind(path)
    ours.close()
    with theirs.socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_of_systemd_stays(path: Path) -> None:
    made = activation.bind(path)
    activation.Listening(made.socket).withdraw()
    made.socket.close()
    assert path.is_socket()


def test_long_paths_are_refused(path: Path) -> None:
    with pytest.raises(InvalidInput, match="longer than 107 bytes"):
        activation.bind(path.with_name("s" * 100))


def test_a_socket_where_somebody_listens_is_not_taken(path: Path) -> None:
    made = activation.bind(path)
    with made.socket, pytest.raises(RootlessError, match="another program listens there"):
        activation.bind(path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_no_socket_is_not_replaced(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(RootlessError, match="a file that is no socket"):
        activation.bind(path)
    assert path.read_text() == "mine"


def test_the_group_gets_the_socket_with_mode_0660(path: Path) -> None:
    group = os.getegid()
    made = activation.bind(path, group=group)
    with made.socket:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert path.stat().st_gid == group


def test_only_groups_of_the_user_are_taken() -> None:
    mine = grp.getgrgid(os.getegid()).gr_name
    assert activation.group_id(mine) == os.getegid()
    assert activation.group_id(str(os.getegid())) == os.getegid()
    assert activation.group_id("") is None
    with pytest.raises(InvalidInput, match="'root' is not one of yours") as caught:
        activation.group_id("root")
    assert mine in (caught.value.hint or "")
    with pytest.raises(InvalidInput, match="'nosuchgroup' does not exist"):
        activation.group_id("nosuchgroup")


def _config(*hosts: str, tls: bool = False, **settings: object) -> DaemonConfig:
    return DaemonConfig(hosts=hosts, exec_root="/nowhere", tlsverify=tls or None, **settings)  # type: ignore[arg-type]  # keywords of any field


def test_several_hosts_are_all_served(path: Path) -> None:
    found = activation.listen(
        _config(f"unix://{path}", f"unix://{path}2"),
        {},
    )
    assert [one.path for one in found] == [path, path.with_name("s2")]
    for one in found:
        one.close()
    assert not list(path.parent.iterdir())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "[::1]", ""])
def test_tcp_listens_on_the_address(address: str) -> None:
    port = _free_port()
    (found,) = activation.listen(_config(f"tcp://{address}:{port}", tls=True), {})
    with found.socket:
        expected = "::1" if ":" in address else "127.0.0.1"
        assert found.socket.getsockname()[:2] == (expected, port)
        assert found.remote


@pytest.mark.parametrize(("address", "family"), [("0.0.0.0", "127.0.0.1"), ("[::]", "127.0.0.1")])
def test_the_unspecified_address_is_every_address(address: str, family: str) -> None:
    port = _free_port()
    (found,) = activation.listen(_config(f"tcp://{address}:{port}", tls=True), {})
    with found.socket:
        socket.create_connection((family, port), timeout=10).close()


def test_when_a_host_cannot_be_served_nothing_is_left(path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        host = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(RootlessError, match="Address already in use") as caught:
            activation.listen(_config(f"unix://{path}", host, tls=True), {})
    assert "ss -ltnp" in (caught.value.hint or "")
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("tcp://192.0.2.1:2376", "Cannot assign requested address"),
        ("tcp://no.such.host.invalid:2376", "has no address"),
    ],
)
def test_addresses_of_others_are_refused(host: str, message: str) -> None:
    with pytest.raises(RootlessError, match=message):
        activation.listen(_config(host, tls=True), {})


def test_tls_alone_means_mutual_tls() -> None:
    config = DaemonConfig(hosts=(f"tcp://127.0.0.1:{_free_port()}",), tls=True)
    (found,) = activation.listen(config, {})
    found.close()
    assert config.uses_tls


def test_tcp_without_mutual_tls_is_refused() -> None:
    with pytest.raises(InvalidInput, match="TCP is served with mutual TLS only") as caught:
        activation.listen(_config("tcp://127.0.0.1:2375"), {})
    assert "--tlsverify" in (caught.value.hint or "")
    with pytest.raises(InvalidInput, match="tlsverify=false would let in anyone"):
        activation.listen(DaemonConfig(hosts=("tcp://127.0.0.1",), tls=True, tlsverify=False), {})


class Passing:
    """Sockets passed as systemd does, but not from descriptor 3 on: the tests use that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *sockets: socket.socket) -> None:
        monkeypatch.setattr(activation, "FIRST_FD", sockets[0].fileno())
        numbers = [sock.detach() for sock in sockets]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        self.first = numbers[0]
        self.environ = {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(sockets)),
            "LISTEN_FDNAMES": ":".join(f"name{index}" for index in range(len(sockets))),
        }


@pytest.fixture
def passing(path: Path, monkeypatch: pytest.MonkeyPatch) -> Passing:
    """Two listening Unix sockets that were passed."""
    path.parent.mkdir()
    made = []
    # Descriptors next to each other, whatever the test run has open.
    base = 200
    for index in range(2):
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{path}{index}")
        sock.listen()
        os.dup2(sock.fileno(), base + index)
        sock.close()
        made.append(socket.socket(fileno=base + index))
    return Passing(monkeypatch, *made)


def _names(found: Sequence[activation.Listening]) -> list[str]:
    names = [(one.path or Path(str(one.socket.getsockname()))).name for one in found]
    for one in found:
        one.close()
    return names


def test_passed_sockets_are_served_and_stay(passing: Passing, path: Path) -> None:
    found = activation.listen(_config(), passing.environ)
    assert passing.environ == {}
    assert _names(found) == ["s0", "s1"]
    assert path.with_name("s0").is_socket()


@pytest.mark.parametrize(
    ("hosts", "served"),
    [
        (("fd://",), ["s0", "s1"]),
        (("fd://*",), ["s0", "s1"]),
        (("fd://name1",), ["s1"]),
        (("fd://200",), ["s0"]),
        (("fd://name1", "fd://name0"), ["s1", "s0"]),
    ],
)
def test_fd_chooses_by_number_or_name(
    passing: Passing, path: Path, hosts: tuple[str, ...], served: list[str]
) -> None:
    assert _names(activation.listen(_config(*hosts), passing.environ)) == served
    for fd in (200, 201):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_host_beside_passed_sockets_is_served_too(passing: Passing, path: Path) -> None:
    hosts = (f"unix://{path}0", f"unix://{path}9")
    assert _names(activation.listen(_config(*hosts), passing.environ)) == ["s0", "s1", "s9"]


def test_fd_without_its_socket_is_refused(passing: Passing) -> None:
    with pytest.raises(InvalidInput, match="no such socket was passed") as caught:
        activation.listen(_config("fd://other"), passing.environ)
    assert "200 name0, 201 name1" in (caught.value.hint or "")
    with pytest.raises(InvalidInput, match="no socket was passed"):
        activation.listen(_config("fd://"), {})


def test_a_passed_tcp_socket_needs_mutual_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    passing = Passing(monkeypatch, sock)
    with pytest.raises(InvalidInput, match=f"fd://{passing.first}: TCP is served with mutual TLS"):
        activation.listen(_config(), passing.environ)
