"""state.db: what is written is read back, also after a kill -9."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.engine import reserve, state
from rootless.engine.state import State
from rootless.errors import Conflict, Exhausted, RootlessError, Unavailable
from rootless.model.records import ContainerRecord, ExecRecord, Health, HealthProbe, NetworkState
from rootless.model.request import ExecRequest, PortBinding
from rootless.model.spec import SeccompSpec

from .samples import record


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    first, second = record("one"), record("two", status="exited", exit_code=3)
    db = State(tmp_path / "state.db")
    db.add_container(first)
    db.add_container(second)
    db.close()
    db = State(tmp_path / "state.db")
    assert list(db.containers()) == [first, second]
    db.close()


def test_a_transition_keeps_the_spec(tmp_path: Path) -> None:
    db = State(tmp_path / "state.db")
    made = record()
    db.add_container(made)
    health = Health("healthy", 0, (HealthProbe(1, 2, 0, "ok"),))
    moved = replace(
        made,
        state=replace(made.state, status="running", pid=5, health=health),
        network=NetworkState(ip_address="10.0.2.100", ports=(PortBinding(80, "tcp", "::1", 8),)),
    )
    db.save_live(moved)
    assert list(db.containers()) == [moved]
    renamed = replace(moved, spec=replace(moved.spec, name="other"))
    db.update_container(renamed)
    assert list(db.containers()) == [renamed]
    db.close()


def _with_seccomp(name: str, profile: str) -> ContainerRecord:
    made = record(name)
    return replace(made, spec=replace(made.spec, seccomp=SeccompSpec("custom", profile)))


def test_profiles_are_kept_once_and_go_with_the_last_container(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db = State(path)
    text = '{"defaultAction": "SCMP_ACT_ALLOW", "comment": "' + "x" * 50_000 + '"}'
    made = [_with_seccomp("one", text), _with_seccomp("two", text), _with_seccomp("other", "{}")]
    for each in made:
        db.add_container(each)
    with pytest.raises(Conflict):
        db.add_container(_with_seccomp("one", '{"refused": 1}'))
    db.close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT sum(length(fixed)) < 20000 FROM containers").fetchone() == (1,)
    db = State(path)
    assert list(db.containers()) == made
    for each in made[:2]:
        db.remove_container(each.id)
    assert list(db.containers()) == [made[2]]
    again = replace(made[0], spec=replace(made[0].spec, name="again"))
    db.add_container(again)  # its profile was forgotten meanwhile
    db.close()
    db = State(path)
    assert {each.spec.seccomp.profile for each in db.containers()} == {text, "{}"}
    db.close()


def test_records_of_the_first_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db = State(path)
    made = _with_seccomp("one", '{"defaultAction": "SCMP_ACT_ALLOW"}')
    db.add_container(made)
    db.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        fixed = json.loads(raw.execute("SELECT fixed FROM containers").fetchone()[0])
        fixed["spec"]["seccomp"]["profile"] = made.spec.seccomp.profile
        raw.execute("UPDATE containers SET fixed = ?", (json.dumps(fixed).encode(),))
        raw.executescript(
            "DROP TABLE profiles; DROP TABLE networks; DROP TABLE vouchers; "
            "DROP TABLE image_owners; PRAGMA user_version=1"
        )
    db = State(path)
    assert list(db.containers()) == [made]
    db.update_container(made)
    db.close()
    db = State(path)
    assert list(db.containers()) == [made]
    db.close()


def test_names_are_unique(tmp_path: Path) -> None:
    db = State(tmp_path / "state.db")
    db.add_container(record("web"))
    with pytest.raises(Conflict, match='"/web" is already in use'):
        db.add_container(record("web"))
    db.close()


def test_execs_go_with_their_container(tmp_path: Path) -> None:
    db = State(tmp_path / "state.db")
    made = record()
    db.add_container(made)
    for number in range(3):
        db.put_exec(ExecRecord(f"e{number}", made.id, ExecRequest(("ls",)), number))
    db.put_exec(ExecRecord("e1", made.id, ExecRequest(("ls",)), 1, exit_code=0))
    db.remove_execs(["e0"])
    assert {e.id: e.exit_code for e in db.execs()} == {"e1": 0, "e2": None}
    db.remove_container(made.id)
    assert list(db.execs()) == []
    db.close()


def test_a_database_of_a_newer_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version={state.SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(RootlessError, match="newer engine"):
        State(path)


def test_garbage_is_refused_with_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(RootlessError, match="cannot open the state database"):
        State(path)


def test_settings_are_made_once(tmp_path: Path) -> None:
    db = State(tmp_path / "state.db")
    assert db.setting("id", lambda: "first") == "first"
    assert db.setting("id", lambda: "second") == "first"
    db.close()


def test_checkpoint_moves_the_log(tmp_path: Path) -> None:
    db = State(tmp_path / "state.db")
    db.add_container(record())
    size = (tmp_path / "state.db").stat().st_size
    db.checkpoint()
    assert (tmp_path / "state.db").stat().st_size > size
    db.close()


def _fill(db: State) -> None:
    """No page more: sqlite then says what it says on a full disk."""
    pages = db._db.execute("PRAGMA page_count").fetchone()[0]
    db._db.execute(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_is_an_error_that_leaves_the_database_usable(tmp_path: Path) -> None:
    db = State(tmp_path / "state.db")
    first = record("first")
    db.add_container(first)
    _fill(db)
    big = replace(record("big"), log_path="x" * 100_000)
    with pytest.raises(Exhausted, match=r"state\.db: no space left on device"):
        db.add_container(big)
    kept = len(db.containers())
    db.remove_container(first.id)
    assert len(db.containers()) == kept - 1
    db._db.execute("PRAGMA max_page_count=100000")
    db.add_container(record("later"))
    assert len(db.containers()) == kept
    db.close()


@contextmanager
def _no_file_longer_than(size: int) -> Iterator[None]:
    """As with a quota, write(2) fails and not for want of space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_sqlite_cannot_write_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    db = State(path)
    refused = pytest.raises(Exhausted, match=r"state\.db: disk I/O error .*WRITE.*quota")
    with _no_file_longer_than(4096), refused:
        db.add_container(record("one"))
    db._db.execute("PRAGMA query_only=1")
    with pytest.raises(Exhausted, match=r"state\.db: read-only file system"):
        db.add_container(record("one"))
    db._db.execute("PRAGMA query_only=0")
    db._db.execute("PRAGMA busy_timeout=0")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"state\.db: database is locked.*another program"):
            db.add_container(record("one"))
    assert list(db.containers()) == []
    db.add_container(record("one"))
    assert [found.name for found in db.containers()] == ["one"]
    db.close()


def test_space_is_set_aside(tmp_path: Path) -> None:
    """In the log, whose end sqlite knows; it is there after any number of checkpoints."""
    db = State(tmp_path / "state.db")
    first = record("first")
    db.add_container(first)
    log = tmp_path / "state.db-wal"
    for _ in range(3):
        db.save_live(first)
        db.checkpoint()
        assert log.stat().st_blocks * 512 >= reserve.SIZE
    db.close()
    (tmp_path / "state.db-wal").write_bytes(bytes(reserve.SIZE))
    db = State(tmp_path / "state.db")
    assert [found.id for found in db.containers()] == [first.id]
    db.close()


_WRITER = """
import sys
from pathlib import Path
from rootless.engine.state import State
db = State(Path(sys.argv[1]))
n = 0
while True:
    db.setting(f"key{n}", lambda: "value")
    print(n, flush=True)
    n += 1
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 200:
                break
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    last = int(rest[-1]) if rest else 200
    db = State(path)
    for number in range(last + 1):
        assert db.setting(f"key{number}", lambda: "lost") == "value"
    db.close()
