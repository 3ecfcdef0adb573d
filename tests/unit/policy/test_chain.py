"""The decision log: its chain, its rotation, its signatures, and what ``audit`` says of it."""

from __future__ import annotations

import json
import os
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rootless.check import audit
from rootless.check.audit import main
from rootless.daemon.identity import engine_key
from rootless.engine import decisions
from rootless.engine.decisions import DecisionLog
from rootless.model.decision import Finding
from rootless.model.identity import Identity
from rootless.policy import past
from rootless.policy.chain import CURRENT, HEAD, START, rotated
from rootless.policy.past import action

WHO = Identity("unix", "tester", uid=1000)


def write(log: DecisionLog, count: int, *, allowed: bool = True) -> None:
    for number in range(count):
        finding = Finding("a.rule", "Field", "v" * 600, "why", "fix", action="deny")
        found = () if allowed else (finding,)
        log.record(
            WHO, "container.stop", f"c{number}", number, "p@1",
            allowed=allowed, findings=found, judged=action(), time=decisions.now(),
        )  # fmt: skip


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return engine_key(tmp_path / "key.json").path


@pytest.fixture
def directory(tmp_path: Path, key: Path) -> Path:
    log = DecisionLog(tmp_path / "audit", key)
    write(log, 5)
    write(log, 1, allowed=False)
    log.close()
    return tmp_path / "audit"


def verify(directory: Path, key: Path) -> int:
    return main(["verify", "--directory", str(directory), "--key", str(key)])


def lines(directory: Path) -> list[bytes]:
    return (directory / CURRENT).read_bytes().splitlines(keepends=True)


def rewrite(directory: Path, changed: list[bytes]) -> None:
    (directory / CURRENT).write_bytes(b"".join(changed))


def test_a_chain_is_whole_and_signed(
    directory: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(directory, key) == 0
    assert "7 lines, 1 checkpoints: the chain is whole" in capsys.readouterr().out
    first = json.loads(lines(directory)[0])
    assert (first["seq"], first["previous"], first["verb"]) == (1, START, "container.stop")
    assert first["identity"]["name"] == "tester"
    assert "peer" not in first
    assert (directory / CURRENT).stat().st_mode & 0o777 == 0o600
    denied = json.loads(lines(directory)[5])["findings"][0]
    assert denied["rule"] == "a.rule"
    assert denied["value"].startswith("sha256:")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[:2] + found[3:],
        lambda found: [found[0], found[2], found[1], *found[3:]],
        lambda found: [*found[:2], found[2].replace(b"c2", b"c9"), *found[3:]],
        lambda found: found[:-1],
        lambda found: found[:-3],
        lambda found: found[:0],
        lambda found: [*found[:3], b"garbage\n", *found[3:]],
        lambda found: [*found[:-1], found[-1].replace(b'"seq":6', b'"seq":5')],
        lambda found: [*found, found[-1]],
    ],
)
def test_what_was_done_to_a_log_is_seen(
    change: Any, directory: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(directory, change(lines(directory)))
    assert verify(directory, key) == 1
    assert "the chain is broken" in capsys.readouterr().out


def test_a_chain_made_anew_has_no_signature_of_the_engine(
    directory: Path, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = engine_key(tmp_path / "other" / "key.json").path
    forged = DecisionLog(tmp_path / "forged", other)
    write(forged, 2)
    forged.close()
    assert verify(tmp_path / "forged", key) == 1
    assert "signed by another key" in capsys.readouterr().out
    text = (tmp_path / "forged" / CURRENT).read_text()
    ids = [json.loads(path.read_text())["kid"] for path in (other, key)]
    (tmp_path / "forged" / CURRENT).write_text(text.replace(*ids))
    assert verify(tmp_path / "forged", key) == 1
    assert "the signature does not hold" in capsys.readouterr().out


def test_a_daemon_that_was_killed_goes_on_where_the_chain_ends(directory: Path, key: Path) -> None:
    with open(directory / CURRENT, "ab") as file:
        file.write(b'{"seq": 8, "torn')
    log = DecisionLog(directory, key)
    write(log, 1)
    log.close()
    assert verify(directory, key) == 0
    assert json.loads(lines(directory)[7])["event"] == "recovered"


def test_rotation_keeps_the_chain_and_bounds_it(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "_MAX_FILE", 2000)
    for module in (decisions, audit):
        monkeypatch.setattr(module, "KEPT", 3)
    log = DecisionLog(tmp_path, key)
    write(log, 60)
    log.close()
    assert len(rotated(tmp_path)) == 3
    assert verify(tmp_path, key) == 0
    again = DecisionLog(tmp_path, key)
    write(again, 1)
    again.close()
    assert verify(tmp_path, key) == 0
    first, second, _ = rotated(tmp_path)
    kept = second.read_bytes()
    second.unlink()
    assert verify(tmp_path, key) == 1
    second.write_bytes(kept)
    assert verify(tmp_path, key) == 0
    first.unlink()  # what rotation would not have removed yet
    assert verify(tmp_path, key) == 1


def test_checkpoints_come_by_themselves(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "_EVERY", 4)
    made = threading.Event()
    monkeypatch.setattr(DecisionLog, "checkpoint", lambda _: made.set())
    log = DecisionLog(tmp_path, key)
    write(log, 3)
    assert not made.is_set()
    write(log, 1)
    assert made.wait(60)


def test_a_full_disk_leaves_a_gap_that_is_told(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DecisionLog(tmp_path, key)
    write(log, 1)

    def full(*_: object) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        write(log, 2)
    write(log, 1)
    log.close()
    assert json.loads(lines(tmp_path)[1])["lost"] == 2
    assert verify(tmp_path, key) == 0


def test_decisions_are_shown(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--directory", str(directory)]
    assert main(["show", *at]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 6
    assert "tester container.stop c0: allowed by p@1" in out
    assert main(["show", "--denied", *at]) == 0
    assert "c0: DENIED by p@1 (a.rule)" in capsys.readouterr().out
    assert main(["tail", "-n", "2", "--format", "json", *at]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["seq"] for record in shown] == [5, 6]
    assert main(["show", "--directory", str(directory / "none")]) == 2
    assert "there is no decision log" in capsys.readouterr().err


def test_how_many_lines(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--directory", str(directory)]
    for count, shown in (("0", 0), ("1", 1), ("5", 5), ("900", 6)):
        assert main(["tail", "-n", count, *at]) == 0
        assert capsys.readouterr().out.count("\n") == shown
    with pytest.raises(SystemExit):
        main(["tail", "-n", "-1", *at])


def test_a_key_without_end_is_none(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(directory, Path("/dev/zero")) == 2
    assert "/dev/zero: it is no JSON web key" in capsys.readouterr().err


def test_what_is_cut_off_while_nobody_writes_is_told_by_the_chain(
    directory: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head would be written anew by the next daemon, and the cut forgotten."""
    rewrite(directory, lines(directory)[:4])
    for _ in range(2):
        log = DecisionLog(directory, key)
        write(log, 1)
        log.close()
        assert verify(directory, key) == 1
        assert (
            ":5: 3 lines before it were missing when the daemon started" in capsys.readouterr().out
        )
    rewrite(directory, [*lines(directory)[:-1], lines(directory)[-1].replace(b"ES256", b"ES999")])
    DecisionLog(directory, key).close()
    assert verify(directory, key) == 1
    assert "the line before it was changed when the daemon started" in capsys.readouterr().out


def test_a_crash_at_any_byte_leaves_a_chain(tmp_path: Path, key: Path) -> None:
    log = DecisionLog(tmp_path / "a", key)
    heads = [b""]
    for _ in range(3):
        write(log, 1)
        heads.append((tmp_path / "a" / HEAD).read_bytes())
    log.close()
    data = b"".join(lines(tmp_path / "a")[:3])
    ends = [at for at, byte in enumerate(data) if byte == 10]
    for cut in range(0, len(data) + 1, 7):
        whole = sum(end < cut for end in ends)
        for behind in (0, 1):  # the head is written after the line
            place = tmp_path / f"{cut}-{behind}"
            place.mkdir()
            (place / CURRENT).write_bytes(data[:cut])
            head = heads[max(whole - behind, 0)]
            if head:
                (place / HEAD).write_bytes(head)
            again = DecisionLog(place, key)
            write(again, 1)
            again.close()
            assert verify(place, key) == 0, (cut, behind)
            assert json.loads(lines(place)[-1])["seq"] == len(lines(place))


def test_a_crash_while_the_log_is_rotated(
    directory: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / CURRENT).rename(directory / "decisions-000000000007.ndjson")
    assert verify(directory, key) == 0
    assert main(["tail", "-n", "1", "--directory", str(directory)]) == 0
    assert "c0: DENIED" in capsys.readouterr().out
    log = DecisionLog(directory, key)
    write(log, 1)
    log.close()
    assert verify(directory, key) == 0
    assert json.loads(lines(directory)[0])["seq"] == 8


def test_following_goes_over_a_rotation(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = DecisionLog(tmp_path, key)
    write(log, 1)

    def renamed() -> None:
        (tmp_path / CURRENT).rename(tmp_path / "decisions-000000000003.ndjson")

    def opened() -> None:
        os.close(log._fd)
        log._fd = log._open()
        write(log, 2)

    steps = iter([partial(write, log, 2), renamed, partial(write, log, 1), opened])

    def pause(_: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr(audit, "time", SimpleNamespace(sleep=pause))
    assert main(["tail", "-n", "0", "-f", "--directory", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("allowed by p@1") == 5
    log.close()


def test_a_clock_that_is_set_back_breaks_nothing(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = DecisionLog(tmp_path, key)
    write(log, 1)
    monkeypatch.setattr(decisions, "now", lambda: "1999-01-01T00:00:00.000Z")
    write(log, 1)
    log.close()
    assert verify(tmp_path, key) == 0


def test_lines_of_every_kind_of_damage(directory: Path, key: Path) -> None:
    """Whatever single byte is changed, verify says so."""
    whole = b"".join(lines(directory))
    for at in range(0, len(whole), 5):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        (directory / CURRENT).write_bytes(changed)
        assert verify(directory, key) == 1, at
    (directory / CURRENT).write_bytes(whole)
    assert verify(directory, key) == 0


def test_a_line_tells_who_asked(tmp_path: Path, key: Path) -> None:
    log = DecisionLog(tmp_path, key)
    remote = Identity("certificate", "ann", role="developer", uri="spiffe://a/role/developer/ann")
    local = Identity("unix", "bob", uid=7, pid=12, executable="/usr/bin/docker")
    for who in (remote, local):
        log.record(
            who, "volume.create", "v", 1, "p@1",
            allowed=True, findings=(), judged=action(), time=decisions.now(),
        )  # fmt: skip
    log.close()
    first, second = (json.loads(line) for line in lines(tmp_path)[:2])
    assert past._identity(first["identity"]) == remote
    assert "peer" not in first
    assert second["identity"]["uid"] == 7
    assert second["peer"] == {"pid": 12, "executable": "/usr/bin/docker"}
