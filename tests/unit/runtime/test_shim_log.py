"""Docker's json-file format, byte for byte as its readers expect it."""

from __future__ import annotations

import json
import resource
import signal
from json.encoder import encode_basestring
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.runtime.shim_lines import cut
from rootless.runtime.shim_log import JsonLog, encode, escape, timestamp
from rootless.runtime.shim_logfile import LogFile


def _read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_streams_and_times(tmp_path: Path) -> None:
    log = JsonLog(LogFile(str(tmp_path / "log"), 0, 1))
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
    log = JsonLog(LogFile(str(tmp_path / "log"), 0, 1))
    log.write(1, b"no newline")
    assert _read(tmp_path / "log") == []
    log.close()
    assert [r["log"] for r in _read(tmp_path / "log")] == ["no newline"]


def test_long_lines_are_split_and_joined_again(tmp_path: Path) -> None:
    log = JsonLog(LogFile(str(tmp_path / "log"), 0, 1))
    log.write(1, b"a" * 40000 + b"\nb\n")
    log.close()
    rows = [r["log"] for r in _read(tmp_path / "log")]
    assert [len(r) for r in rows] == [16384, 16384, 40000 - 32768 + 1, 2]
    assert "".join(rows) == "a" * 40000 + "\nb\n"


def test_rotation_keeps_the_youngest(tmp_path: Path) -> None:
    log = JsonLog(LogFile(str(tmp_path / "log"), 300, 3))
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
        log = JsonLog(LogFile(str(tmp_path / "log"), 0, 1))
        log.write(1, b"x\n")
        log.close()
    assert len(_read(tmp_path / "log")) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=100), max_size=8))
def test_any_bytes_stay_valid_json(tmp_path: Path, chunks: list[bytes]) -> None:
    path = tmp_path / "any"
    path.unlink(missing_ok=True)
    log = JsonLog(LogFile(str(path), 0, 1))
    for chunk in chunks:
        log.write(1, chunk)
    log.close()
    text = "".join(r["log"] for r in _read(path))
    lines = b"".join(chunks).split(b"\n")
    assert text == "\n".join(line.decode("utf-8", "replace") for line in lines)


_PIECES = [
    *(bytes((byte,)) for byte in range(0x23)),
    *(b"\\", b"\\n", b"n", b"\x7f", b"\xff", b"\xc3", bytes(300), b"x" * 16384, b"y" * 40000),
    *(text.encode() for text in ("é", "€" * 6000, "😀")),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=20))
def test_what_is_escaped_at_once_is_what_json_escapes(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    text = data.decode("utf-8", "replace")
    inside = escape(data).replace(b"\n", b"\\n")
    assert json.loads(b'"' + inside + b'"') == text
    assert inside == encode_basestring(text)[1:-1].encode()


@given(st.lists(st.sampled_from(_PIECES), max_size=20))
def test_lines_and_the_rest_are_the_whole(pieces: list[bytes]) -> None:
    """Every part has at most 16 KiB, only the last of a line ends in a newline."""
    text = b"".join(pieces).decode("utf-8", "ignore")
    data = text.encode()
    found, start = cut(data)
    rest = data[start:]
    lines = b"".join(encode(piece, b'"}\n') for piece in found)
    rows = [json.loads(line)["log"] for line in lines.split(b"\n")[:-1]]
    assert "".join(rows) + rest.decode() == text
    assert all(len(row.removesuffix("\n").encode()) <= 16384 for row in rows)
    assert all("\n" not in row[:-1] for row in rows)
    assert len(rest) <= 16384
    assert b"\n" not in rest


def test_a_flood_is_rotated_line_by_line(tmp_path: Path) -> None:
    """One read of many lines fills several files, each to its bound."""
    log = JsonLog(LogFile(str(tmp_path / "log"), 1000, 100))
    lines = [f"line {number}\n" for number in range(500)]
    log.write(2, "".join(lines).encode())
    log.close()
    count = len(list(tmp_path.iterdir()))
    names = [*(f"log.{n}" for n in range(count - 1, 0, -1)), "log"]
    assert [row["log"] for name in names for row in _read(tmp_path / name)] == lines
    sizes = [(tmp_path / name).stat().st_size for name in names]
    assert max(sizes) <= 1000
    assert min(sizes[:-1]) > 800


def test_a_line_that_no_file_has_room_for_is_kept_whole(tmp_path: Path) -> None:
    log = JsonLog(LogFile(str(tmp_path / "log"), 100, 5))
    log.write(1, b"short\n" + b"a" * 500 + b"\nlast\n")
    log.close()
    rows = [row["log"] for name in ("log.2", "log.1", "log") for row in _read(tmp_path / name)]
    assert rows == ["short\n", "a" * 500 + "\n", "last\n"]


def test_half_a_line_is_taken_back_when_the_file_may_not_grow(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for the full disk (write(2), EFBIG)."""
    log = JsonLog(LogFile(str(tmp_path / "log"), 0, 1))
    log.write(1, b"kept\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        log.write(1, b"fits\n" + b"b" * 2000 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log.write(1, b"after\n")
    log.close()
    rows = [row["log"] for row in _read(tmp_path / "log")]
    assert rows == ["kept\n", "fits\n", "after\n"]
