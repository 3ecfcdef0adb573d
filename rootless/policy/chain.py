"""The form of the decision log: lines of JSON, each with the hash of the one before.

Whoever removes, changes or reorders lines breaks the chain at that place. The
last line is held by ``head.json`` beside the log and by checkpoints, which the
engine's key signs (ES256, RFC 7518).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_HEAD = 4096
START = "sha256:" + "0" * 64
"""What the very first line has as its predecessor's hash."""
CURRENT = "decisions.ndjson"
HEAD = "head.json"
KEPT = 16
"""Full files that are kept."""


def digest(data: bytes) -> str:
    """``sha256:…`` of a line without its newline."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode(record: dict[str, Any], seq: int, previous: str) -> bytes:
    """One line, newline included; ``seq`` counts from 1."""
    whole = {"seq": seq, **record, "previous": previous}
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False)
    # A lone surrogate (a byte of a file's name that is no UTF-8) becomes its escape, as JSON has.
    return text.encode(errors="backslashreplace") + b"\n"


def signed_text(seq: int, previous: str) -> bytes:
    """What a checkpoint's signature is about: everything up to the line before it."""
    return f"rootless-decisions\n{seq}\n{previous}".encode()


@dataclass(frozen=True, slots=True)
class Line:
    """One line as it was read; ``record`` is empty when it is no JSON object."""

    file: str
    number: int
    data: bytes
    record: dict[str, Any]


def read_lines(file: str, data: bytes) -> Iterator[Line]:
    """The lines of one file's content."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = {}
        yield Line(file, number, line, record if isinstance(record, dict) else {})


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a chain ends."""

    seq: int
    hash: str


def rotated(directory: Path) -> list[Path]:
    """Full files, the oldest first."""
    return sorted(directory.glob("decisions-[0-9]*.ndjson"))


def read_head(directory: Path) -> Tail | None:
    """What is remembered of the last line; None when nothing is."""
    try:
        head = json.loads((directory / HEAD).read_bytes()[:_MAX_HEAD])
        return Tail(int(head["seq"]), str(head["hash"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return Tail(-1, "")


def problems(lines: Iterable[Line], head: Tail | None) -> Iterator[str]:
    """Every place where the chain is broken, as ``file:line: what``.

    The first line may be any: older files may have been removed by rotation.
    """
    last: Tail | None = None
    where = ""
    for line in lines:
        where = f"{line.file}:{line.number}"
        seq, previous = line.record.get("seq"), line.record.get("previous")
        if not isinstance(seq, int) or not isinstance(previous, str):
            yield f"{where}: this is no line of a decision log"
            seq = (last.seq if last else 0) + 1
        elif last is None:
            if seq == 1 and previous != START:
                yield f"{where}: the first line has a predecessor"
        elif seq != last.seq + 1:
            yield f"{where}: line {seq} follows line {last.seq}: lines were removed or reordered"
        elif previous != last.hash:
            yield f"{where}: line {last.seq} before it is not what it was when this was written"
        if isinstance(line.record.get("missing"), int):
            yield f"{where}: {_gap(line.record['missing'])} when the daemon started"
        last = Tail(seq, digest(line.data))
        if head is not None and head.seq == seq and head != last:
            yield f"{where}: line {seq} is not what it was when it was the last one"
    if head is not None and last is not None and head.seq > last.seq:
        yield f"{where}: {head.seq - last.seq} lines are missing at the end"
    if head is not None and last is None:
        yield f"{CURRENT}: all {head.seq} lines are missing"


def _gap(missing: int) -> str:
    return (
        f"{missing} lines before it were missing" if missing else "the line before it was changed"
    )
