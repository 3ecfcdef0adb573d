"""The JSON report; ``docs/report.schema.json`` describes it."""

from __future__ import annotations

import json
from typing import Any

from rootless.policy.reports.model import Entry, Place, Report, Result

API_VERSION = "rootless.dev/v1alpha1"


def _place(place: Place, *, path: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"file": place.file, "line": place.line, "column": place.column}
    if path:
        found["path"] = place.path
    return found


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "rule": entry.rule,
        "severity": entry.severity,
        "mode": entry.mode,
        "message": entry.message,
        "fix": entry.fix,
        "references": [{"standard": r.standard, "id": r.id} for r in entry.references],
        "at": _place(entry.at, path=True),
        "policy": _place(entry.policy, path=False) if entry.policy else None,
        "exception": entry.exception,
    }


def _result(result: Result) -> dict[str, Any]:
    return {
        "input": result.input,
        "document": result.document,
        "kind": result.kind,
        "name": result.name,
        "verdict": result.verdict,
        "findings": [_entry(entry) for entry in result.findings],
    }


def render(report: Report) -> str:
    """The whole report as one JSON object."""
    document = {
        "apiVersion": API_VERSION,
        "kind": "Report",
        "policy": {"name": report.policy, "digest": report.digest},
        "results": [_result(result) for result in report.results],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
