"""Docker's json-file format, byte for byte as its readers expect it."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.runtime.shim_log import JsonLog, timestamp


def _read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_streams_and_times(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), 0, 1)
    log.write(1, b"one\ntw")
    log.write(2, b"err\n")
    log.write(1, b"o\n")
    log.close()
    rows = _read(tmp_path / "log")
    assert [(r["stream"], r["log"]) for r in rows] == [
        ("stdout", "one\n"),
        ("stderr", "err\n"),
        ("stdout", "two\n"),
    ]
    assert all(list(r) == ["log", "stream", "time"] for r in rows)


def test_timestamp() -> None:
    assert timestamp(1_700_000_000_000_000_042) == "2023-11-14T22:13:20.000000042Z"


def test_an_unfinished_line_is_written_at_the_end(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), 0, 1)
    log.write(1, b"no newline")
    assert _read(tmp_path / "log") == []
    log.close()
    assert [r["log"] for r in _read(tmp_path / "log")] == ["no newline"]


def test_long_lines_are_split_and_joined_again(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), 0, 1)
    log.write(1, b"a" * 40000 + b"\nb\n")
    log.close()
    rows = [r["log"] for r in _read(tmp_path / "log")]
    assert [len(r) for r in rows] == [16384, 16384, 40000 - 32768 + 1, 2]
    assert "".join(rows) == "a" * 40000 + "\nb\n"


def test_rotation_keeps_the_youngest(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), 300, 3)
    for number in range(20):
        log.write(1, f"line {number}\n".encode())
    log.close()
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["log", "log.1", "log.2"]
    rows = [r["log"] for name in reversed(files) for r in _read(tmp_path / name)]
    assert rows == [f"line {n}\n" for n in range(20 - len(rows), 20)]
    assert all((tmp_path / name).stat().st_size <= 300 for name in files)


def test_appends_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        log = JsonLog(str(tmp_path / "log"), 0, 1)
        log.write(1, b"x\n")
        log.close()
    assert len(_read(tmp_path / "log")) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100), max_size=8))
def test_any_bytes_stay_valid_json(tmp_path: Path, chunks: list[bytes]) -> None:
    path = tmp_path / "any"
    path.unlink(missing_ok=True)
    log = JsonLog(str(path), 0, 1)
    for chunk in chunks:
        log.write(1, chunk)
    log.close()
    text = "".join(r["log"] for r in _read(path))
    lines = b"".join(chunks).split(b"\n")
    assert text == "\n".join(line.decode("utf-8", "replace") for line in lines)
