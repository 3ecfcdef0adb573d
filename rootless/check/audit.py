"""``rootless audit``: read and verify the decision log, without the daemon."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rootless.check import exits, selinux
from rootless.check.inputs import read_some
from rootless.check.policies import home
from rootless.policy.chain import (
    CURRENT,
    KEPT,
    Line,
    problems,
    read_head,
    read_lines,
    rotated,
    signed_text,
)
from rootless.policy.reports.as_text import plain

_POLL = 0.5
_MAX_KEY = 1 << 16
_EPILOG = (
    "exit status: 0 done (verify: the chain is whole), 1 verify found it broken, 2 usage or a "
    "log that cannot be read"
)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless audit",
        description="Read the log of the policy's decisions: who asked for what, what was decided "
        "and why. Each line holds the hash of the one before; the engine's key signs the chain.",
        epilog=_EPILOG,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in (
        ("show", "print the decisions"),
        ("tail", "print the last decisions, and new ones as they come"),
        ("verify", "check that no line was removed, changed or reordered"),
        ("selinux", "print what SELinux denied to containers, by the kernel's messages"),
    ):
        sub = verbs.add_parser(verb, help=text, description=text.capitalize() + ".", epilog=_EPILOG)
        if verb == "selinux":
            sub.add_argument("--format", choices=("text", "json"), default="text")
            continue
        sub.add_argument("--directory", metavar="DIR", help="where the log is (default: yours)")
        if verb == "verify":
            sub.add_argument("--key", metavar="FILE", help="the engine's key.json or its public "
                "part (default: yours)")  # fmt: skip
            continue
        sub.add_argument("--format", choices=("text", "json"), default="text")
        sub.add_argument("--denied", action="store_true", help="only what was denied")
        if verb == "tail":
            sub.add_argument("-n", type=_count, default=10, metavar="N", help="lines (default: 10)")
            sub.add_argument("-f", "--follow", action="store_true", help="go on with new ones")
    return parser


@exits.guarded("audit")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_args(argv)
    if options.verb == "selinux":
        selinux.show(options.format)
        return exits.HOLDS
    directory = Path(options.directory) if options.directory else own_directory()
    try:
        if options.verb == "verify":
            return _verify(directory, options.key)
        shown = [line for line in log_lines(directory) if _wanted(line, options)]
        for line in shown if options.verb == "show" else shown[max(len(shown) - options.n, 0) :]:
            _print(line, options.format)
        if options.verb == "tail" and options.follow:
            _follow(directory, options)
    except KeyboardInterrupt:
        pass
    return exits.HOLDS


def own_directory() -> Path:
    """Where the log of this user's engine is."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(home(), ".local", "share")
    return Path(data) / "rootless" / "audit"


def _files(directory: Path) -> list[Path]:
    current = directory / CURRENT
    found = [*rotated(directory), *([current] if current.exists() else [])]
    if not found:
        raise FileNotFoundError(2, "there is no decision log", str(current))
    return found


def log_lines(place: Path) -> Iterator[Line]:
    """Every line of a log: of a directory's files in their order, or of one file."""
    for path in [place] if place.is_file() else _files(place):
        yield from read_lines(str(path), path.read_bytes())


def _wanted(line: Line, options: argparse.Namespace) -> bool:
    return "verb" in line.record and not (options.denied and line.record.get("allowed"))


def _print(line: Line, form: str) -> None:
    if form == "json":
        sys.stdout.buffer.write(line.data + b"\n")
        sys.stdout.buffer.flush()
        return
    record = line.record
    verdict = "allowed" if record.get("allowed") else "DENIED"
    who = (record.get("identity") or {}).get("name")
    head = f"{record.get('time')} {who} {record.get('verb')} {record.get('target')}: {verdict}"
    rules = ", ".join(str(f.get("rule")) for f in record.get("findings") or ())
    print(plain(f"{head} by {record.get('policy')}" + (f" ({rules})" if rules else "")), flush=True)


def _follow(directory: Path, options: argparse.Namespace) -> None:
    """Print what is appended, also to the files that follow when the log is rotated."""
    path = directory / CURRENT
    file = open(path, "rb")  # noqa: SIM115 - it is opened anew when the log is rotated
    try:
        file.seek(0, os.SEEK_END)
        rest = b""
        while True:
            # Asked before the last read: what is read then is all that the file will ever have.
            left = _left_behind(path, file.fileno())
            data = file.read()
            if data:
                whole, newline, rest = (rest + data).rpartition(b"\n")
                for line in read_lines(str(path), whole + newline):
                    if _wanted(line, options):
                        _print(line, options.format)
            elif left:
                file.close()
                file = open(path, "rb")  # noqa: SIM115 - as above
            else:
                time.sleep(_POLL)
    finally:
        file.close()


def _left_behind(path: Path, fd: int) -> bool:
    """Whether another file has the name now."""
    try:
        return os.stat(path).st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False  # between the rename and the new file


def _verify(directory: Path, key: str | None) -> int:
    lines = list(log_lines(directory))
    found = list(problems(lines, read_head(directory)))
    found += _gone(lines, directory)
    found += _bad_signatures(lines, _public_key(key))
    for problem in found:
        print(plain(problem))
    for line in lines:
        if line.record.get("lost"):
            lost = line.record["lost"]
            print(f"{line.file}:{line.number}: {lost} decisions before it could not be written")
    signed = sum("checkpoint" in line.record for line in lines)
    state = "broken" if found else "whole"
    print(f"{len(lines)} lines, {signed} checkpoints: the chain is {state}")
    return exits.VIOLATIONS if found else exits.HOLDS


def _gone(lines: Sequence[Line], directory: Path) -> Iterator[str]:
    """The oldest files, when there are not yet so many that the oldest would be removed."""
    first = lines[0].record.get("seq") if lines else 1
    if isinstance(first, int) and first > 1 and len(rotated(directory)) < KEPT:
        yield f"{lines[0].file}:1: {first - 1} lines are missing at the beginning"


def _public_key(name: str | None) -> dict[str, Any] | None:
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home(), ".config")
    path = Path(name) if name else Path(config) / "rootless" / "key.json"
    if not name and not path.exists():
        return None
    try:
        jwk = json.loads(read_some(str(path), _MAX_KEY))
    except ValueError:
        raise OSError(22, "it is no JSON web key", str(path)) from None
    return jwk if isinstance(jwk, dict) else None


def _bad_signatures(lines: Sequence[Line], jwk: dict[str, Any] | None) -> Iterator[str]:
    """Checkpoints whose signature does not hold, or that are about something else."""
    hashes = {line.record.get("seq"): line for line in lines}
    for line in lines:
        checkpoint = line.record.get("checkpoint")
        if not isinstance(checkpoint, dict):
            continue
        where = f"{line.file}:{line.number}"
        before = hashes.get(checkpoint.get("seq"))
        if jwk is None:
            yield f"{where}: there is no key to check the signature with (--key)"
        elif checkpoint.get("kid") != jwk.get("kid"):
            yield f"{where}: signed by another key, {checkpoint.get('kid')}"
        elif not _holds(checkpoint, jwk):
            yield f"{where}: the signature does not hold"
        elif before is not None and _hash(before) != checkpoint.get("hash"):
            yield f"{where}: line {checkpoint.get('seq')} is not what was signed"


def _hash(line: Line) -> str:
    from rootless.policy.chain import digest

    return digest(line.data)


def _bytes(text: object) -> bytes:
    return base64.urlsafe_b64decode(str(text) + "=" * (-len(str(text)) % 4))


def _holds(checkpoint: dict[str, Any], jwk: dict[str, Any]) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    try:
        x, y = (int.from_bytes(_bytes(jwk[name])) for name in ("x", "y"))
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        raw = _bytes(checkpoint["signature"])
        signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
        text = signed_text(int(checkpoint["seq"]), str(checkpoint["hash"]))
        key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, KeyError, TypeError):
        return False
    return True
