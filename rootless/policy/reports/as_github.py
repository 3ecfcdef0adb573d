"""GitHub Actions' workflow commands: annotations beside the lines of a change."""

from __future__ import annotations

from rootless.policy.reports.model import Report

_LEVELS = {"enforce": "error", "warn": "warning", "audit": "notice"}


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def render(report: Report) -> str:
    """One command for each finding that no exception forgives."""
    lines = []
    for result in report.results:
        for entry in result.findings:
            if entry.exception is not None:
                continue
            place = (
                f"file={_property(entry.at.file)},line={entry.at.line},col={entry.at.column},"
                f"title={_property(entry.rule)}"
            )
            fix = f" (fix: {entry.fix})" if entry.fix else ""
            lines.append(f"::{_LEVELS[entry.mode]} {place}::{_data(entry.message + fix)}")
    return "".join(f"{line}\n" for line in lines)
