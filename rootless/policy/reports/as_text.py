"""For people: one block for each thing that was judged."""

from __future__ import annotations

from collections import Counter

from rootless.policy.reports.model import Entry, Report, Result, Verdict

_COLOURS: dict[Verdict, str] = {"pass": "32", "warn": "33", "fail": "31", "not-understood": "35"}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}


def plain(text: str) -> str:
    """Text of a hostile input without control characters that would move the terminal."""
    return text.translate(_CONTROL)


def _paint(text: str, colour: str, *, on: bool) -> str:
    return f"\033[{colour}m{text}\033[0m" if on else text


def _entry(entry: Entry) -> str:
    references = ", ".join(f"{r.standard} {r.id}" for r in entry.references)
    mode = "" if entry.mode == "enforce" else f" ({entry.mode})"
    excused = f" [excepted: {entry.exception}]" if entry.exception else ""
    lines = [
        f"  {entry.at}: {entry.severity}{mode}: {entry.rule}: {entry.message}{excused}",
        f"      fix: {entry.fix}" if entry.fix else "",
        f"      see: {references}" if references else "",
        f"      policy: {entry.policy}" if entry.policy else "",
    ]
    return "\n".join(plain(line) for line in lines if line)


def _result(result: Result, *, colour: bool) -> str:
    name = f" {result.name}" if result.name else ""
    head = f"{result.input}: {result.kind}{name}: "
    verdict = _paint(result.verdict, _COLOURS[result.verdict], on=colour)
    return "\n".join([plain(head) + verdict, *map(_entry, result.findings)])


def render(report: Report, *, colour: bool = False) -> str:
    """The report as text; the last line counts the verdicts."""
    blocks = [_result(result, colour=colour) for result in report.results]
    counts = Counter(result.verdict for result in report.results)
    summary = ", ".join(f"{counts[v]} {v}" for v in _COLOURS if counts[v]) or "nothing judged"
    return "\n".join([*blocks, f"policy {report.policy}: {summary}"]) + "\n"
