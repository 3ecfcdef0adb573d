"""JUnit's XML, as CI systems read it: a suite for each input, a case for each thing in it."""

from __future__ import annotations

import re
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from rootless.policy.reports.model import Report, Result

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold."""
    return _FORBIDDEN.sub("\ufffd", text)


def _case(result: Result, suite: str) -> str:
    name = f"{result.kind} {result.name}".strip() + f" (document {result.document})"
    head = f"    <testcase classname={quoteattr(_clean(suite))} name={quoteattr(_clean(name))}"
    if result.verdict == "pass":
        return f"{head}/>"
    tag = {"warn": "system-out", "not-understood": "error"}.get(result.verdict, "failure")
    counted = [entry for entry in result.findings if entry.exception is None]
    text = "\n".join(f"{e.at}: {e.rule}: {e.message} (fix: {e.fix})" for e in counted)
    message = "" if tag == "system-out" else f" message={quoteattr(result.verdict)}"
    return f"{head}>\n      <{tag}{message}>{escape(_clean(text))}</{tag}>\n    </testcase>"


def render(report: Report) -> str:
    """The report as one ``testsuites`` element."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>"]
    for suite, group in groupby(report.results, lambda result: result.input):
        results = list(group)
        failures = sum(result.verdict == "fail" for result in results)
        errors = sum(result.verdict == "not-understood" for result in results)
        lines.append(
            f'  <testsuite name={quoteattr(_clean(suite))} tests="{len(results)}" '
            f'failures="{failures}" errors="{errors}">'
        )
        lines += [_case(result, suite) for result in results]
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"
