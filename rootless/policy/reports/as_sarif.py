"""SARIF 2.1.0 (OASIS), for code scanning; exceptions are suppressions."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from rootless import __version__
from rootless.policy.reports.model import Entry, Report
from rootless.policy.rules import RULES
from rootless.policy.rules.base import Rule
from rootless.policy.rules.others import OTHERS, Described

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"enforce": "error", "warn": "warning", "audit": "note"}
_SCORES = {"low": "3.0", "medium": "5.0", "high": "8.0", "critical": "9.5"}
"""GitHub's ``security-severity``: the ranges of CVSS."""


def _uri(file: str) -> str:
    return quote(file, safe="/-._~") if file != "-" else "stdin"


def _result(entry: Entry, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": entry.rule,
        "ruleIndex": index,
        "level": _LEVELS[entry.mode],
        "message": {"text": entry.message + (f" (fix: {entry.fix})" if entry.fix else "")},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(entry.at.file)},
                    "region": {"startLine": entry.at.line, "startColumn": entry.at.column},
                },
                "logicalLocations": [{"fullyQualifiedName": entry.at.path}],
            }
        ],
    }
    # Of a run with suppressions every result says whether it has one (section 3.27.23).
    found["suppressions"] = (
        []
        if entry.exception is None
        else [{"kind": "external", "status": "accepted", "justification": entry.exception}]
    )
    return found


def _rule(entry: Entry) -> dict[str, Any]:
    known: tuple[Rule | Described, ...] = (*RULES, *OTHERS)
    rule = next((rule for rule in known if rule.id == entry.rule), None)
    return {
        "id": entry.rule,
        "shortDescription": {"text": rule.rationale if rule else entry.rule},
        "help": {"text": rule.remediation if rule else entry.fix or entry.message},
        "properties": {
            "tags": ["security", *(f"{r.standard}/{r.id}" for r in entry.references)],
            "security-severity": _SCORES[entry.severity],
        },
    }


def render(report: Report) -> str:
    """The report as one SARIF log with one run."""
    entries = [entry for result in report.results for entry in result.findings]
    rules: dict[str, dict[str, Any]] = {}
    for entry in entries:
        rules.setdefault(entry.rule, _rule(entry))
    order = {rule: index for index, rule in enumerate(rules)}
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "rootless check-policy",
                        "version": __version__,
                        "rules": list(rules.values()),
                    }
                },
                "results": [_result(entry, order[entry.rule]) for entry in entries],
                "columnKind": "unicodeCodePoints",
            }
        ],
    }
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"
