"""A real engine for tests: its own directories, its own daemon, nothing left behind."""

from __future__ import annotations

import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import processes, recording, swagger

SECONDS = 1200.0 if os.environ.get("ROOTLESS_TEST_VM") else 60.0
"""Bound of one command; a command that needs longer says so."""

UNCAUGHT = (
    "Traceback (most recent call last)",
    "Exception ignored in",
    "never retrieved",
    "never awaited",
    "ResourceWarning",
)
"""What in a daemon's log is a defect of the engine, whatever a test did to it."""


def program(name: str) -> list[str]:
    """The words that start ``rootless`` or ``rootlessd``, installed or from the checkout."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return [str(beside)]
    module = {"rootless": "rootless.cli.main", "rootlessd": "rootless.daemon.main"}[name]
    return [sys.executable, "-c", f"from {module} import main; main()"]


RECORDED = (
    sys.executable, "-P", "-c",
    f"import sys; sys.path.append({str(Path(__file__).resolve().parents[2])!r}); "
    "from tests.support.recording import main; sys.exit(main())",
)  # fmt: skip
"""The words that start ``rootlessd`` with its answers written down."""


@dataclass(slots=True)
class Engine:
    """One engine. ``root`` is short: a unix socket's path has 107 bytes."""

    root: Path
    daemon: subprocess.Popen[bytes] | None = field(default=None)
    wrapper: tuple[str, ...] = ()
    """Words that start the daemon in a world of its own; they must execute it in place."""
    checked: int = 0
    """Bytes of the recorded answers that were checked."""
    variables: dict[str, str] = field(default_factory=dict)
    """More of the environment."""

    @property
    def env(self) -> dict[str, str]:
        """The environment of the daemon and of commands."""
        kept = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "TMPDIR": str(self.root / "t"),
            "XDG_DATA_HOME": str(self.root / "d"),
            "XDG_RUNTIME_DIR": str(self.root / "r"),
            "XDG_CONFIG_HOME": str(self.root / "c"),
            "XDG_STATE_HOME": str(self.root / "s"),
            "XDG_CACHE_HOME": str(self.root / "k"),
            "DOCKER_CONFIG": str(self.root / "docker"),
            **self.variables,
        }

    @property
    def socket(self) -> Path:
        """The API's socket."""
        return self.root / "r/rootless/rootless.sock"

    @property
    def data(self) -> Path:
        """The data root."""
        return self.root / "d/rootless"

    @property
    def log(self) -> Path:
        """The log of a daemon that :meth:`start` started."""
        return self.root / "rootlessd.log"

    @property
    def recorded(self) -> Path:
        """The answers of its daemons, one a line."""
        return self.root / "answers.jsonl"

    def wrong_answers(self) -> list[str]:
        """What was answered since the last call and is not as Docker describes its API."""
        if not self.recorded.exists():
            return []
        with open(self.recorded, "rb") as file:
            file.seek(self.checked)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.checked += len(whole)
        return swagger.problems_in(line.decode() for line in whole.splitlines())

    def configure(self, **settings: object) -> None:
        """Write daemon.json; underscores in names become dashes."""
        path = self.root / "c/rootless/daemon.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({k.replace("_", "-"): v for k, v in settings.items()}))

    def start(self, *arguments: str) -> None:
        """Start ``rootlessd`` and wait until it says it is ready (sd_notify(3))."""
        assert self.daemon is None, "the daemon runs already"
        where = str(self.root / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(where)
            notify.settimeout(SECONDS)
            with open(self.log, "ab") as log:
                self.daemon = subprocess.Popen(
                    [*self.wrapper, *RECORDED, *arguments],
                    env={
                        **self.env,
                        "NOTIFY_SOCKET": where,
                        recording.FILE: str(self.recorded),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                self._await_ready(notify)
            finally:
                os.unlink(where)

    def _await_ready(self, notify: socket.socket) -> None:
        assert self.daemon is not None
        notify.settimeout(0.2)
        while True:
            try:
                if b"READY=1" in notify.recv(4096):
                    return
            except TimeoutError:
                if self.daemon.poll() is not None:
                    self.daemon = None
                    raise AssertionError(f"rootlessd ended:\n{self.log.read_text()}") from None

    def stop(self) -> int:
        """SIGTERM and wait; the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL and wait, as a crash would be."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        assert self.daemon is not None, "no daemon was started by this test"
        self.daemon.send_signal(number)
        try:
            return self.daemon.wait(SECONDS)
        finally:
            self.daemon = None

    def run(
        self,
        *arguments: str,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """A ``rootless`` command with its output as text; any exit status."""
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [*program("rootless"), *arguments],
            env={**self.env, **(env or {})},
            input=data if data is not None else b"",
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def ok(
        self,
        *arguments: str,
        input: str | bytes | None = None,
        timeout: float = SECONDS,
    ) -> str:
        """Standard output of a ``rootless`` command that must succeed, without the last newline."""
        done = self.run(*arguments, input=input, timeout=timeout)
        if done.returncode != 0:
            tail = self.log.read_text()[-4000:] if self.log.exists() else ""
            raise AssertionError(
                f"rootless {' '.join(arguments)} ended with {done.returncode}\n"
                f"stdout: {done.stdout}\nstderr: {done.stderr}\ndaemon: {tail}"
            )
        return done.stdout.removesuffix("\n")

    def popen(self, *arguments: str, **options: object) -> subprocess.Popen[bytes]:
        """A ``rootless`` command left running; the caller ends and waits for it."""
        return subprocess.Popen([*program("rootless"), *arguments], env=self.env, **options)  # type: ignore[call-overload, no-any-return]  # keywords of any field

    def containers(self) -> list[str]:
        """Full ids of all containers, running or not."""
        return self.ok("ps", "--all", "--quiet", "--no-trunc").split()

    def leftovers(self) -> list[str]:
        """What a test that cleaned up must not leave: containers, half-made things, sockets."""
        found = [f"container {item}" for item in self.containers()]
        # The answer comes when the built-in image is made, which a new engine does beside all else.
        self.ok("images", "--quiet")
        for pattern in ("containers/*", "layers/tmp-*", "content/tmp/*"):
            found += [str(path) for path in self.data.glob(pattern)]
        found += [str(path) for path in (self.root / "r/rootless/slirp").glob("*")]
        found += [f"network {name}" for name in self.networks()]
        return [*found, *self.on_bridges()]

    def networks(self) -> list[str]:
        """Names of the networks that were made."""
        return self.ok("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split()

    def on_bridges(self) -> list[str]:
        """What the network holder still has: containers, links, addresses in its rules."""
        path = self.data / "network/holder.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as holder:
            try:
                holder.connect(str(path))
            except OSError:
                return []  # there is none
            holder.settimeout(SECONDS)
            deadline = time.monotonic() + SECONDS
            while True:
                holder.send(json.dumps({"op": "left"}).encode())
                found: list[str] = json.loads(holder.recv(1 << 17))["left"]
                # The kernel removes links behind the end of their container.
                if not found or time.monotonic() > deadline:
                    return found
                time.sleep(0.4)

    def uncaught(self) -> str:
        """The logs of its daemons, when something in them happened that nobody thought of."""
        logs = [self.log, self.root / "s/rootless/rootlessd.log"]
        texts = [log.read_text(errors="replace") for log in logs if log.exists()]
        return "\n".join(text for text in texts if any(mark in text for mark in UNCAUGHT))

    def purge(self) -> None:
        """Remove every container, so that one test's failure is not the next one's."""
        ids = self.containers()
        if ids:
            self.run("rm", "--force", "--volumes", *ids)
        self.run("network", "prune", "--force")


@contextmanager
def new_engine(*, start: bool = True, **settings: object) -> Iterator[Engine]:
    """An engine of its own; afterwards the daemon ends and its directories are removed.

    Fails when a process of it survives, or when its log tells of an error that nobody caught.
    """
    before = processes.ours()
    engine = Engine(Path(tempfile.mkdtemp(prefix="e")))
    try:
        for name in ("t", "d", "r", "c", "s", "k", "docker"):
            (engine.root / name).mkdir(mode=0o700)
        if settings:
            engine.configure(**settings)
        if start:
            engine.start()
        yield engine
    finally:
        try:
            _shut_down(engine)
            left = processes.new_since(before)
            uncaught = engine.uncaught()
            wrong = engine.wrong_answers()
        finally:
            remove_tree(engine.root)
    assert not left, "the engine left processes:\n" + "\n".join(left)
    assert not uncaught, f"the daemon's log:\n{uncaught}"
    assert not wrong, "answers are not as Docker describes them:\n" + "\n".join(wrong)


def _shut_down(engine: Engine) -> None:
    if engine.daemon is not None:
        if engine.daemon.poll() is None:
            engine.purge()
            engine.stop()
        return
    pidfile = engine.root / "r/rootless/rootlessd.pid"
    if engine.socket.exists() and pidfile.exists():
        engine.purge()
        text = pidfile.read_text().strip()
        if text.isdigit():
            _end_pid(int(text))


def _end_pid(pid: int) -> None:
    """SIGTERM a daemon that a command started, and wait until it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        ended, _, _ = select.select([pidfd], [], [], SECONDS)
        assert ended, f"rootlessd (pid {pid}) goes on after SIGTERM"
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def remove_tree(path: Path) -> None:
    """Remove a directory with files of subordinate ids, as root of namespaces that map them.

    One for each range of the user: which of them an engine took is its own affair.
    """
    shutil.rmtree(path, ignore_errors=True)
    ranges = zip(subordinate_ranges("subuid"), subordinate_ranges("subgid"), strict=True)
    for (uid, uids), (gid, gids) in ranges:
        if path.exists():
            maps = f"--map-users={uid},1,{uids}", f"--map-groups={gid},1,{gids}"
            subprocess.run(
                ["unshare", "--user", "--map-root-user", *maps, "rm", "-rf", str(path)],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            )
    assert not path.exists(), f"{path} cannot be removed"


def subordinate_ranges(kind: str) -> list[tuple[int, int]]:
    """First id and count of each range that /etc/``kind`` (subuid, subgid) gives this user."""
    user = pwd.getpwuid(os.getuid()).pw_name
    lines = [line.split(":") for line in Path("/etc", kind).read_text().splitlines()]
    return [(int(start), int(count)) for name, start, count in lines if name == user]
