"""Listening sockets: made at once with mode 0600, and removed only while they are ours."""

from __future__ import annotations

import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.daemon import activation
from rootless.errors import InvalidInput


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
    theirs = activation.bind(path)
    ours.socket.close()
    ours.withdraw()
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
