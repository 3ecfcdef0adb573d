"""An engine under test, and what must be true of it after any crash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rootless.linux import procfs
from tests.integration.recovery.crashpoint import MEASURE, WORDS, Control
from tests.support import processes
from tests.support.engine import SECONDS, Engine

IMAGE = "rootless/busybox"
QUIET = ("--network", "none")
CRASHPOINT = Path(__file__).with_name("crashpoint.py")
CLEAN_SECONDS = 10.0
"""Bound of the wait for background work, which nothing announces."""

Check = Callable[[], Sequence[str]]


class World:
    """See the module."""

    def __init__(self, engine: Engine, before: dict[int, str]) -> None:
        self.engine = engine
        self._before = before
        path = engine.root / "control"
        path.write_bytes(bytes(WORDS.size))
        self.control = Control(str(path))
        self._path = path

    # -- the daemon ------------------------------------------------------------

    def start(self) -> None:
        """Start a daemon that can be killed at a step, and wait until it is ready."""
        engine = self.engine
        self.control.disarm()
        where = str(engine.root / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(where)
            notify.settimeout(SECONDS)
            with open(engine.log, "ab") as log:
                engine.daemon = subprocess.Popen(
                    [sys.executable, str(CRASHPOINT), str(self._path)],
                    env={**engine.env, "NOTIFY_SOCKET": where},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                assert b"READY=1" in notify.recv(4096)
            except TimeoutError:
                raise AssertionError(f"rootlessd is not ready:\n{self.tail()}") from None
            finally:
                os.unlink(where)
        # Its launcher too: the first command would wait for it anyway.
        engine.ok("version")

    @property
    def alive(self) -> bool:
        """Whether the daemon runs."""
        daemon = self.engine.daemon
        if daemon is not None and daemon.poll() is not None:
            self.engine.daemon = None
        return self.engine.daemon is not None

    def restart_if_dead(self) -> None:
        """Start a daemon when the last one was killed."""
        if not self.alive:
            self.start()

    def await_death(self) -> None:
        """Wait for the end of a daemon that was killed."""
        assert self.engine.daemon is not None
        assert self.engine.daemon.wait(SECONDS) == -signal.SIGKILL, self.tail()
        self.engine.daemon = None

    def tail(self) -> str:
        """The end of the daemon's log."""
        return self.engine.log.read_text()[-4000:]

    def launchers(self) -> set[int]:
        """The launcher's pid, alone; nothing when it was killed and nobody needed it since."""
        return self._workers("runtime.launcher")

    def starters(self) -> set[int]:
        """The process that starts network helpers, in the same way."""
        return self._workers("network.starter")

    def _workers(self, module: str) -> set[int]:
        assert self.engine.daemon is not None
        daemon = self.engine.daemon.pid
        return {pid for pid in _children(daemon) if module in " ".join(_words(pid))}

    def zygotes(self) -> set[int]:
        """The process that forks the launcher's shims, alone."""
        return {
            pid
            for launcher in self.launchers()
            for pid in _children(launcher)
            if _name(pid) == "rootless-shim"
        }

    def spare(self) -> set[int]:
        """The processes of the sandbox that waits for the next container."""
        for zygote in self.zygotes():
            for shim in _children(zygote):
                family = {shim, *procfs.descendants(shim)}
                if any(_name(pid) == "rootless-spare" for pid in family):
                    return family
        return set()

    def daemon_fds(self) -> int:
        """How many descriptors the daemon has open."""
        assert self.engine.daemon is not None
        return len(os.listdir(f"/proc/{self.engine.daemon.pid}/fd"))

    # -- commands ----------------------------------------------------------------

    def docker(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Docker's client, which starts no daemon when there is none."""
        try:
            return subprocess.run(
                ["docker", "--host", f"unix://{self.engine.socket}", *arguments],
                env=self.engine.env,
                input=stdin,
                capture_output=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            where = self._where_it_hangs()
        raise AssertionError(f"no answer to {arguments}:\n{where}")

    def _where_it_hangs(self) -> str:
        """What the daemon's tasks wait for, and who is there; the control words as they are."""
        if self.alive:
            assert self.engine.daemon is not None
            self.engine.daemon.send_signal(signal.SIGUSR2)
            time.sleep(1)
        family = {
            pid: f"{_name(pid)} {Path(f'/proc/{pid}/wchan').read_text()}"
            for pid in processes.ours()
        }
        words = WORDS.unpack(self._path.read_bytes())
        return f"{words}\n{family}\n{self.engine.log.read_text()[-20000:]}"

    def inspect(self, name: str) -> dict[str, Any]:
        """``inspect`` of one container."""
        found: dict[str, Any] = json.loads(self.engine.ok("inspect", name))[0]
        return found

    def state(self, name: str) -> dict[str, Any]:
        """Its state."""
        found: dict[str, Any] = self.inspect(name)["State"]
        return found

    def shim(self, name: str) -> int:
        """The pid of a container's shim."""
        path = self.engine.data / "containers" / self.inspect(name)["Id"] / "shim.json"
        return int(json.loads(path.read_text())["shim_pid"])

    # -- crashes -----------------------------------------------------------------

    def steps_of(self, role: str, operation: Callable[[], object]) -> int:
        """How many steps ``role`` takes in an operation."""
        self.control.arm(role, MEASURE)
        operation()
        return self.control.disarm()

    def crash(self, role: str, step: int, operation: Callable[[], object]) -> tuple[bool, int]:
        """Run an operation in which ``role`` dies at ``step``; whether it did, and its steps.

        Afterwards a daemon runs and has recovered.
        """
        self.control.arm(role, step)
        operation()
        fired = self.control.fired()
        taken = self.control.disarm()
        if fired and role == "daemon":
            self.await_death()
            self.start()
        return fired, taken

    # -- what must hold ------------------------------------------------------------

    def assert_sound(self) -> None:
        """State, files and processes agree."""
        _until_empty(self._unsound)

    def assert_clean(self) -> None:
        """No container is left, and nothing that belonged to one."""
        _until_empty(lambda: [*self._unsound(), *self._leftovers()])

    def _unsound(self) -> list[str]:
        return [*self._database(), *self._files(), *self._strangers()]

    def _database(self) -> list[str]:
        path = self.engine.data / "state.db"
        found = []
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            verdict = db.execute("PRAGMA integrity_check").fetchone()[0]
            rows = db.execute("SELECT id FROM containers").fetchall()
        db.close()
        if verdict != "ok":
            found.append(f"state.db: {verdict}")
        records = {row[0] for row in rows}
        directories = set(os.listdir(self.engine.data / "containers"))
        found += [f"record without directory: {item}" for item in records - directories]
        found += [f"directory without record: {item}" for item in directories - records]
        return found

    def _files(self) -> list[str]:
        data = self.engine.data
        found = [f"rubbish: {path}" for path in data.glob("trash/*")]
        found += [f"rubbish: {path}" for path in data.glob("volumes/.tmp-*")]
        found += [f"rubbish: {path}" for path in data.glob("volumes/*/meta.json.*")]
        for path in data.glob("layers/*"):
            if not (path / "meta.json").exists() or not (path / "fs").is_dir():
                found.append(f"incomplete layer: {path}")
        for path in data.glob("content/tmp/*"):
            if not re.fullmatch(r"[0-9a-f]{64}\.partial", path.name):
                found.append(f"not resumable: {path}")
        for path in data.glob("content/blobs/sha256/*"):
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                found.append(f"damaged blob: {path}")
        return found

    def _strangers(self) -> list[str]:
        """Processes that belong neither to the engine nor to a container that runs."""
        assert self.engine.daemon is not None
        known = {self.engine.daemon.pid, *self.launchers(), *self.zygotes(), *self.spare()}
        known |= self.starters()
        for name in self.engine.ok("ps", "--quiet", "--no-trunc").split():
            shim = json.loads((self.engine.data / "containers" / name / "shim.json").read_text())
            known |= {shim["shim_pid"], *procfs.descendants(shim["shim_pid"])}
            known |= self.network_of(name)
            for path in self.engine.data.glob(f"containers/{name}/exec/*/shim.json"):
                text = path.read_text() if path.exists() else ""
                if text:
                    pid = json.loads(text)["shim_pid"]
                    known |= {pid, *procfs.descendants(pid)}
        now = processes.ours()
        return [
            f"stranger: {text}"
            for pid, text in now.items()
            if pid not in self._before
            and pid not in known
            and "docker-registry" not in text
            and not processes.serves_bridges(pid)
        ]

    def network_of(self, name: str) -> set[int]:
        """The network helpers of a container (by its full id) with their descendants."""
        with sqlite3.connect(f"file:{self.engine.data}/state.db?mode=ro", uri=True) as db:
            [live] = db.execute("SELECT live FROM containers WHERE id = ?", (name,)).fetchone()
        db.close()
        text = json.loads(live)["network"].get("driver_state", "")
        state = json.loads(text) if text else {}
        found = set()
        for key in ("pid", "relay_pid"):
            if state.get(key):
                found |= {state[key], *procfs.descendants(state[key])}
        return found

    def _leftovers(self) -> list[str]:
        found = [f"container: {item}" for item in os.listdir(self.engine.data / "containers")]
        found += [f"socket: {p}" for p in (self.engine.root / "r/rootless/slirp").glob("*")]
        for pid in self.launchers():
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as file:
                found += [f"mount: {line}" for line in file if str(self.engine.root) in line]
        return found


def _children(pid: int) -> set[int]:
    return {found for found in procfs.descendants(pid) if _parent(found) == pid}


def _parent(pid: int) -> int:
    try:
        return procfs.stat(pid).ppid
    except ProcessLookupError:
        return 0


def _name(pid: int) -> str:
    try:
        return procfs.stat(pid).comm
    except ProcessLookupError:
        return ""


def _words(pid: int) -> Sequence[str]:
    try:
        return procfs.cmdline(pid)
    except ProcessLookupError:
        return ()


def _until_empty(check: Check) -> None:
    """Assert that ``check`` finds nothing, once what runs in the background had time to end."""
    deadline = time.monotonic() + CLEAN_SECONDS
    while found := check():
        assert time.monotonic() < deadline, "\n".join(found)
        select.select([], [], [], 0.05)


def await_end(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], SECONDS)[0], f"process {pid} does not end"
    finally:
        os.close(fd)
