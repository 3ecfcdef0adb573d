"""Starting the daemon on demand, with small programs in its place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from rootless.client import autostart
from rootless.errors import Unavailable

_GOOD = """
import os, socket, sys
root = os.environ["XDG_RUNTIME_DIR"] + "/rootless"
with open(root + "/starts", "a") as log:
    log.write(f"{os.getpid()}\\n")
listener = socket.socket(socket.AF_UNIX)
listener.bind(root + "/rootless.sock")
listener.listen(8)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
peers = []
while True:
    peers.append(listener.accept())
"""
_BAD = """
import sys
print("an early line", flush=True)
print("cannot open the store: disk on fire", file=sys.stderr)
sys.exit(3)
"""
_LISTENS_AND_FAILS = """
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX)
path = os.environ["XDG_RUNTIME_DIR"] + "/rootless/rootless.sock"
listener.bind(path)
listener.listen(8)
time.sleep(1)
os.unlink(path)
sys.exit("cannot map uids: /etc/subuid has no entry for joe")
"""
_CLIENT = """
import os, sys
from rootless.client import autostart
autostart.ARGUMENTS = tuple(sys.argv[1:2])
connection = autostart.connect_or_start(os.environ["XDG_RUNTIME_DIR"] + "/rootless/rootless.sock")
print(connection.sock.getpeername())
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short runtime directory; the daemons started in it are ended."""
    with TemporaryDirectory(prefix="cli-") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        monkeypatch.setenv("XDG_STATE_HOME", directory + "/state")
        yield Path(directory)
        for pid in _starts(Path(directory)):
            os.kill(pid, signal.SIGKILL)
            _reap(pid)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # a child of a client that has ended


def _starts(runtime: Path) -> list[int]:
    log = runtime / "rootless" / "starts"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def _program(runtime: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    path = runtime / "daemon.py"
    path.write_text(text)
    monkeypatch.setattr(autostart, "ARGUMENTS", (str(path),))
    return str(path)


def test_it_is_started_and_reached(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(runtime, _GOOD, monkeypatch)
    path = str(runtime / "rootless" / "rootless.sock")
    autostart.connect_or_start(path).close()
    autostart.connect_or_start(path).close()
    assert len(_starts(runtime)) == 1
    assert not list((runtime / "rootless").glob("notify-*"))
    assert (runtime / "rootless").stat().st_mode & 0o777 == 0o700


def test_a_stale_socket_is_no_daemon(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _GOOD.replace(
        "listener.bind",
        'os.path.exists(root + "/rootless.sock") and os.unlink('
        'root + "/rootless.sock")\nlistener.bind',
    )
    _program(runtime, text, monkeypatch)
    directory = runtime / "rootless"
    directory.mkdir(mode=0o700)
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "rootless.sock"))
    autostart.connect_or_start(str(directory / "rootless.sock")).close()
    assert len(_starts(runtime)) == 1


def test_a_failure_shows_the_last_line_of_the_log(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(runtime, _BAD, monkeypatch)
    with pytest.raises(Unavailable) as caught:
        autostart.connect_or_start(str(runtime / "rootless" / "rootless.sock"))
    assert caught.value.message == (
        "the daemon did not start (it ended with status 3): cannot open the store: disk on fire"
    )
    assert str(runtime / "state/rootless/rootlessd.log") in str(caught.value.hint)


def test_a_daemon_that_listens_and_then_fails(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(runtime, _LISTENS_AND_FAILS, monkeypatch)
    with pytest.raises(Unavailable, match="cannot map uids: /etc/subuid has no entry for joe"):
        autostart.connect_or_start(str(runtime / "rootless" / "rootless.sock"))


def test_clients_that_race_start_one_daemon(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(runtime, _GOOD, monkeypatch)
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", _CLIENT, program],
            cwd=Path(autostart.__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        for _ in range(6)
    ]
    outputs = [client.communicate()[0] for client in clients]
    assert [client.returncode for client in clients] == [0] * 6
    assert all(b"rootless.sock" in output for output in outputs)
    assert len(_starts(runtime)) == 1


def test_nothing_of_the_working_directory_becomes_part_of_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "rootless").mkdir()
    for name in ("rootless/__init__.py", "json.py", "argparse.py"):
        (tmp_path / name).write_text("import os; os._exit(66)\n")
    done = subprocess.run(
        [sys.executable, *autostart.ARGUMENTS, "--version"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("rootlessd "), done
