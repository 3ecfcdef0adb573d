"""Where the socket is, and whose directory may hold it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from rootless.client import lightos, paths
from rootless.client.autostart import connect_or_start
from rootless.errors import InvalidInput, RootlessError, Unavailable


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    assert paths.default_socket() == "/r/rootless/rootless.sock"
    assert paths.state_dir() == "/s/rootless"


def test_a_relative_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    with pytest.raises(InvalidInput, match="XDG_RUNTIME_DIR is not an absolute path: 'run'"):
        paths.default_socket()


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with tempfile.TemporaryDirectory() as short:  # a socket's path has room for 107 bytes
        closed = Path(short) / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(Unavailable, match=r"cannot make .*/closed/rootless for the daemon's"):
            connect_or_start(f"{closed}/rootless/rootless.sock")


def _fallback(monkeypatch: pytest.MonkeyPatch, uid: int) -> Path:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(lightos, "getuid", lambda: uid)
    return Path(f"/tmp/rootless-{uid}")


def test_a_private_directory_in_tmp_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = _fallback(monkeypatch, 3_000_000_001)
    try:
        assert paths.runtime_dir() == str(directory)
        assert directory.stat().st_mode & 0o777 == 0o700
    finally:
        directory.rmdir()


def test_somebody_elses_directory_in_tmp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = _fallback(monkeypatch, 3_000_000_002)
    directory.mkdir(mode=0o700)  # ours, while the process claims another uid
    try:
        with pytest.raises(RootlessError, match="not a private directory"):
            paths.runtime_dir()
    finally:
        directory.rmdir()


def test_a_link_in_tmp_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = _fallback(monkeypatch, 3_000_000_003)
    link.symlink_to(tmp_path)
    try:
        with pytest.raises(RootlessError, match="not a private directory"):
            paths.runtime_dir()
    finally:
        link.unlink()


def test_an_open_directory_is_not_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert not paths._is_private(str(tmp_path), os.getuid())
    tmp_path.chmod(0o700)
    assert paths._is_private(str(tmp_path), os.getuid())


def test_relative_sockets_are_refused() -> None:
    assert paths.socket_of("unix:///a/b") == "/a/b"
    with pytest.raises(InvalidInput, match="not an absolute socket path"):
        paths.socket_of("a/b")
