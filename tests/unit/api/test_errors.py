"""What a denial says to clients that see only the message: everything, once, on one line."""

from __future__ import annotations

from dataclasses import asdict

from rootless.api.errors import status_and_message
from rootless.errors import Denied
from rootless.model.decision import Finding

_READ = [Finding("r", "F", f"without /proc/{name}", "it leaks", "leave it") for name in "abc"]


def test_a_denial_has_every_finding_once_on_one_line() -> None:
    told = "r: F=without /proc/a, without /proc/b, without /proc/c: it leaks (fix: leave it)"
    warned = Finding("w", "G", "x", "odd", "mind it", action="warn")
    for findings in ([*_READ, warned], [asdict(found) for found in (*_READ, warned)]):
        for message in ("denied", f"denied: {told}"):
            error = Denied(message, context={"findings": findings})
            status, text = status_and_message(error, during="GET /")
            assert status == 403
            assert text.count(told) == 1
            assert text.endswith("; w: G=x: odd (fix: mind it)")
            assert "\n" not in text
