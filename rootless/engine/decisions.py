"""The decision log: every decision of the gate, in a chain that cannot be edited unseen."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

from rootless.errors import RootlessError
from rootless.model.decision import Finding
from rootless.model.identity import Identity
from rootless.policy.chain import (
    CURRENT,
    HEAD,
    KEPT,
    START,
    Tail,
    digest,
    encode,
    read_head,
    rotated,
    signed_text,
)
from rootless.policy.past import Judged

_LOG = logging.getLogger(__name__)
_MAX_FILE = 16 << 20
_TAIL = 1 << 20
"""Bytes at the end of a file that hold its last line."""
_MAX_PART = 1 << 18
"""A larger part is left out: a line must fit into ``_TAIL``."""
_EVERY = 1024
_SECONDS = 600
"""A checkpoint is due after so many lines, or so long after an unsigned one.

A signature takes a process of its own some 0.2 s: 200 containers pay for one.
"""


class DecisionLog:
    """Appends lines; one write(2) each, so a daemon that is killed leaves whole lines.

    A log that cannot be written (a full disk) stops nothing: the next line that
    can says how many are missing.
    """

    def __init__(self, directory: Path, key: Path | None = None) -> None:
        self._directory = directory
        self._key = key
        self._lock = threading.Lock()
        self._lost = 0
        self._unsigned = 0
        self._known: set[str] = set()
        """Digests of the parts that the current file has."""
        self._signed_at = monotonic()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tail, torn = self._recover()
        found = {"bytes": torn} if torn else {}
        found |= self._missing()
        self._fd = self._open()
        if found:
            self._append({"event": "recovered", "time": now(), **found})

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(self._directory / CURRENT, flags, 0o600)

    def _recover(self) -> tuple[Tail, int]:
        """Where the chain ends, and how much of a torn last line was cut off."""
        for path in (self._directory / CURRENT, *reversed(rotated(self._directory))):
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            with open(path, "r+b") as file:
                file.seek(max(size - _TAIL, 0))
                data = file.read()
                torn = len(data) - (data.rfind(b"\n") + 1)
                if torn:
                    file.truncate(size - torn)
                lines = data[: len(data) - torn].splitlines()
            if lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    return Tail(int(json.loads(lines[-1])["seq"]), digest(lines[-1])), torn
        return Tail(0, START), 0

    def _missing(self) -> dict[str, Any]:
        """What was done to the end of the log while nobody wrote it; it is told in the chain."""
        head = read_head(self._directory)
        if head is None or head.seq < self._tail.seq or head == self._tail:
            return {}
        return {"missing": head.seq - self._tail.seq, "head": head.hash}

    def record(
        self,
        identity: Identity,
        verb: str,
        target: str,
        request: object,
        policy: str,
        *,
        allowed: bool,
        findings: Sequence[Finding],
        judged: Judged,
        time: str,
    ) -> None:
        """Write one decision, made at ``time`` (as :func:`now` gives it).

        The digest of ``request`` is written, and ``judged``: what another policy needs.
        """
        entry = {
            "time": time,
            **_caller(identity),
            "verb": verb,
            "target": target,
            "request": digest(repr(request).encode(errors="surrogatepass")),
            "policy": policy,
            "allowed": allowed,
            "findings": [_finding(finding) for finding in findings],
            "judged": {"kind": judged.kind, **judged.facts},
        }
        with self._lock:
            self._append(entry, judged.parts)
            due = self._unsigned >= _EVERY or monotonic() - self._signed_at > _SECONDS
        if due and self._key is not None:
            threading.Thread(target=self.checkpoint, name="decision-log", daemon=True).start()
            self._signed_at = monotonic()

    def _append(self, entry: dict[str, Any], parts: Mapping[str, Any] | None = None) -> None:
        if self._lost:
            entry = {**entry, "lost": self._lost}
        try:
            if os.fstat(self._fd).st_size > _MAX_FILE:
                self._rotate()
            new = self._named(entry, parts) if parts else ()
            line = encode(entry, self._tail.seq + 1, self._tail.hash)
            written = os.write(self._fd, line)
            if written != len(line):
                # A partial line would be taken for a broken chain.
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise OSError("the disk is full")
        except OSError as error:
            if not self._lost:
                _LOG.warning("the decision log cannot be written: %s", error)
            self._lost += 1
            return
        self._lost = 0
        self._known.update(new)
        self._unsigned += 1
        self._tail = Tail(self._tail.seq + 1, digest(line[:-1]))
        with contextlib.suppress(OSError):
            self._write_head()

    def _named(self, entry: dict[str, Any], parts: Mapping[str, Any]) -> tuple[str, ...]:
        """Put the parts' digests in an entry, and the parts that this file does not have yet."""
        new: dict[str, Any] = {}
        for name, part in parts.items():
            text = part if isinstance(part, str) else json.dumps(part, separators=(",", ":"))
            if len(text) <= _MAX_PART:
                key = text_digest(text)
                entry["judged"][name] = key
                if key not in self._known:
                    new[key] = part
        if new:
            entry["parts"] = new
        return tuple(new)

    def _write_head(self) -> None:
        text = json.dumps({"seq": self._tail.seq, "hash": self._tail.hash}).ljust(128).encode()
        fd = os.open(self._directory / HEAD, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, text, 0)
        finally:
            os.close(fd)

    def _rotate(self) -> None:
        name = f"decisions-{self._tail.seq:012d}.ndjson"
        os.rename(self._directory / CURRENT, self._directory / name)
        os.close(self._fd)
        self._fd = self._open()
        self._known.clear()
        for path in rotated(self._directory)[:-KEPT]:
            path.unlink(missing_ok=True)

    def checkpoint(self) -> None:
        """Sign everything up to now with the engine's key; nothing without a key or news."""
        if self._key is None:
            return
        from rootless.engine.signing import sign

        with self._lock:
            if not self._unsigned:
                return
            tail = self._tail
        try:
            kid, signature = sign(self._key, signed_text(tail.seq, tail.hash))
        except (OSError, ValueError, RootlessError) as error:
            _LOG.warning("the decision log cannot be signed: %s", error)
            return
        with self._lock:
            body = {
                "alg": "ES256",
                "kid": kid,
                "seq": tail.seq,
                "hash": tail.hash,
                "signature": base64.urlsafe_b64encode(signature).rstrip(b"=").decode(),
            }
            self._append({"time": now(), "checkpoint": body})
            self._unsigned = 0
            self._signed_at = monotonic()

    def close(self) -> None:
        """Sign what is not signed yet, and close the file."""
        self.checkpoint()
        with self._lock:
            os.close(self._fd)


@lru_cache(maxsize=8)
def text_digest(text: str) -> str:
    """``sha256:…`` of a text, remembered for the last few."""
    return digest(text.encode(errors="surrogatepass"))


def now() -> str:
    """The time as the log has it: RFC 3339, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _caller(identity: Identity) -> dict[str, Any]:
    """Who asked; of the Unix socket's callers also with which process."""
    told = {
        "source": identity.source,
        "name": identity.name,
        "uid": identity.uid,
        "role": identity.role,
    }
    if identity.uri is not None:
        told["uri"] = identity.uri
    if identity.pid is None:
        return {"identity": told}
    return {"identity": told, "peer": {"pid": identity.pid, "executable": identity.executable}}


def _finding(finding: Finding) -> dict[str, str]:
    value = finding.value
    if len(value) > _MAX_VALUE:
        value = f"sha256:{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()}"
    found = {
        "rule": finding.rule,
        "field": finding.field,
        "value": value,
        "action": finding.action,
        "source": finding.source,
    }
    return {**found, "exception": finding.exception} if finding.exception else found


_MAX_VALUE = 512
