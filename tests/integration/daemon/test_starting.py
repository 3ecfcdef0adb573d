"""A daemon that cannot start says why, ends with status 1, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.support.api import IMAGE, until
from tests.support.engine import Engine, new_engine, program

pytestmark = pytest.mark.integration


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Directories of an engine whose daemon does not run."""
    with new_engine(start=False) as made:
        yield made


def refused(engine: Engine, *words: str, env: Mapping[str, str | None] | None = None) -> str:
    """The line that a daemon ends with."""
    changed = {**engine.env, **(env or {})}
    done = subprocess.run(
        [*program("rootlessd"), *words],
        env={key: value for key, value in changed.items() if value is not None},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rootlessd: ")
    return last


def _file(engine: Engine) -> tuple[str, ...]:
    (engine.root / "file").write_text("x")
    return "--data-root", f"{engine.root}/file"


def _read_only(engine: Engine) -> tuple[str, ...]:
    (engine.root / "ro").mkdir(mode=0o500)
    return "--data-root", f"{engine.root}/ro/data"


def _notes(engine: Engine) -> tuple[str, ...]:
    (engine.root / "notes").write_text("remember the milk")
    return "--pidfile", f"{engine.root}/notes"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (_file, "file: File exists"),
        (_read_only, "ro/data: Permission denied"),
        (lambda _: ("--data-root", "/proc/nowhere"), "cannot make /proc/nowhere"),
        (lambda _: ("--data-root", "/usr"), "/usr belongs to uid 0, not to you"),
        (lambda _: ("--data-root", "relative"), "'relative' is not an absolute path"),
        (_notes, "notes holds something else than a process id, and is not overwritten"),
        (lambda _: ("--pidfile", "/no/such/pid"), "cannot write /no/such/pid"),
        (lambda e: ("--exec-root", f"{e.root}/{'x' * 90}"), "socket path is longer than 107 bytes"),
        (lambda _: ("-H", "unix:///proc/x.sock"), "cannot listen on unix:///proc/x.sock"),
        (lambda e: ("--seccomp-profile", f"{e.root}/none"), "cannot read the default seccomp"),
        (lambda e: ("--init-path", f"{e.root}/none"), "is not a program"),
        (lambda _: ("--init-path", "/usr/bin/env"), "needs libraries, which images may lack"),
        (lambda e: ("--policy", f"{e.root}/none"), "none"),
        (lambda _: ("-G", "root"), "group 'root' is not one of yours"),
        (lambda _: ("-H", "fd://"), "no socket was passed"),
        (lambda _: ("--default-ulimit", "nofile=-1"), "nofile: hard -1 is above your own"),
        (lambda _: ("--raw-logs=false",), "raw-logs cannot be false here"),
        (lambda _: ("--selinux-enabled",), "this host does not run SELinux"),
        (lambda _: ("--bridge=docker0",), "only root can join containers to it"),
    ],
)
def test_the_reason_is_told(
    engine: Engine, words: Callable[[Engine], tuple[str, ...]], message: str
) -> None:
    assert message in refused(engine, *words(engine))
    left = [str(path) for path in (engine.root / "r").rglob("*") if not path.is_dir()]
    assert not left
    assert not list((engine.root / "d").rglob("daemon.lock"))


def test_a_file_that_is_no_pid_file_keeps_its_content(engine: Engine) -> None:
    refused(engine, *_notes(engine))
    assert (engine.root / "notes").read_text() == "remember the milk"


def test_cgroup_parent_without_delegation_is_refused_or_kept(engine: Engine) -> None:
    from rootless.linux import cgroupfs

    if delegated := cgroupfs.find().delegated:
        engine.start("--cgroup-parent", "team")
        path = engine.ok("run", "--rm", IMAGE, "sh", "-c", "sleep 0.1; cat /proc/self/cgroup")
        assert path
        engine.stop()
        # Whoever named it may have set limits in it: like Docker, the engine leaves it.
        os.rmdir(f"{delegated}/team")
    else:
        assert "no cgroup is delegated" in refused(engine, "--cgroup-parent", "team")


def test_one_daemon_has_a_data_root(engine: Engine) -> None:
    engine.start()
    assert engine.daemon is not None
    said = refused(engine, "--exec-root", f"{engine.root}/r2")
    assert f"another rootlessd (pid {engine.daemon.pid}) already uses the data root" in said
    pidfile = engine.root / "r/rootless/rootlessd.pid"
    said = refused(engine, "--data-root", f"{engine.root}/d2", "--exec-root", f"{engine.root}/r2",
                   "--pidfile", str(pidfile))  # fmt: skip
    assert f"already uses the pid file {pidfile}" in said
    said = refused(engine, "--data-root", f"{engine.root}/d2", "--exec-root", f"{engine.root}/r2",
                   "-H", f"unix://{engine.socket}")  # fmt: skip
    assert "another program listens there" in said
    assert engine.ok("version")
    assert pidfile.read_text() == f"{engine.daemon.pid}\n"


def test_what_a_killed_daemon_left_is_no_hindrance(engine: Engine) -> None:
    engine.start()
    engine.kill()
    assert engine.socket.exists()
    engine.start()
    assert engine.ok("version")


def test_the_end_leaves_neither_socket_nor_pid_file(engine: Engine) -> None:
    engine.start()
    assert engine.stop() == 0
    assert not [path for path in (engine.root / "r/rootless").iterdir() if path.is_file()]
    assert not engine.socket.exists()


def test_the_identity_stays_and_a_damaged_one_is_told(engine: Engine) -> None:
    engine.start()
    first = engine.ok("info", "-f", "{{.ID}}")
    engine.kill()
    engine.start()
    assert engine.ok("info", "-f", "{{.ID}}") == first
    engine.stop()
    key = engine.root / "c/rootless/key.json"
    assert json.loads(key.read_text())["kid"] == first
    key.write_text("{}")
    assert f"this engine's key {key} is damaged" in refused(engine)
    key.chmod(0o644)
    assert f"chmod 600 {key}" in refused(engine)
    key.unlink()
    engine.start()
    assert engine.ok("info", "-f", "{{.ID}}") != first


def test_without_xdg_directories_the_defaults_are_the_users(engine: Engine) -> None:
    done = subprocess.run(
        [*program("rootlessd"), "--validate"],
        env={key: value for key, value in engine.env.items() if not key.startswith("XDG_")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "configuration OK\n")
    done = subprocess.run(
        [*program("rootlessd"), "--validate", "--data-root", "/proc/none/of/this"],
        env=engine.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "cannot make /proc/none/of/this: /proc is" in done.stderr) == (1, True)
    assert "XDG_RUNTIME_DIR is 'run'" in refused(engine, env={"XDG_RUNTIME_DIR": "run"})


_ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="api")
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("host", ["", "fd://", "fd://api", "fd://3"])
def test_the_socket_that_systemd_passes_is_served(engine: Engine, host: str) -> None:

    engine.socket.parent.mkdir(mode=0o700)
    words = ("-H", host) if host else ()
    with socket.socket(socket.AF_UNIX) as listener, open(engine.log, "wb") as log:
        listener.bind(str(engine.socket))
        listener.listen()
        fd = listener.fileno()
        daemon = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATE, str(fd), *program("rootlessd"), *words],
            env=engine.env, pass_fds=(fd,), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            # It was listening before the daemon ran: the first request waits.
            assert engine.ok("version")
        finally:
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(60) == 0
        assert engine.socket.exists(), "the socket is systemd's"
    os.unlink(engine.socket)


def test_a_command_whose_daemon_listens_elsewhere_is_told_so(engine: Engine) -> None:
    elsewhere = engine.root / "r/elsewhere.sock"
    engine.configure(hosts=[f"unix://{elsewhere}"])
    try:
        done = engine.run("version", timeout=50)
        assert done.returncode != 0
        assert f"the daemon was started, but does not listen at {engine.socket}" in done.stderr
        assert engine.ok("--host", f"unix://{elsewhere}", "version")
    finally:
        pid = int((engine.root / "r/rootless/rootlessd.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        until(lambda: not elsewhere.exists())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("state.db", "cannot open the state database"),
        ("content", "content/blobs/sha256: Not a directory"),
        ("containers", "containers: File exists"),
    ],
)
def test_a_data_root_with_something_else_in_it_is_told(
    engine: Engine, name: str, message: str
) -> None:
    engine.data.mkdir(mode=0o700)
    place = engine.data / name
    if name == "state.db":
        place.mkdir()
    else:
        place.write_text("x")
    assert message in refused(engine)
    assert not engine.socket.exists()
