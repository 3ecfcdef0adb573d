"""``run --dry-run``: what the policy says and what would be done."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.command import Invocation


def show_plan(call: Invocation, body: dict[str, Any]) -> int:
    """Ask ``POST /rootless/plan`` and print it; status 1 when the policy denies."""
    from rootless.cli.commands.run import create_query

    answer = call.client.post("/rootless/plan" + create_query(call), body)
    text, allowed = plan_text(answer if isinstance(answer, dict) else {})
    sys.stdout.write(text)
    return 0 if allowed else 1


def _pick(value: dict[str, Any], *names: str) -> Any:
    """The first of several spellings: the dto has Go's, the model has Python's."""
    for name in names:
        if name in value:
            return value[name]
    return None


def plan_text(answer: dict[str, Any]) -> tuple[str, bool]:
    """The plan as text, and whether it is allowed."""
    decision = _pick(answer, "Decision", "decision") or answer
    allowed = bool(_pick(decision, "Allowed", "allowed"))
    policy = _pick(decision, "Policy", "policy") or "unknown"
    lines = [f"Decision: {'allowed' if allowed else 'denied'} by policy {policy}"]
    for finding in _pick(decision, "Findings", "findings") or ():
        rule, action = _pick(finding, "Rule", "rule"), _pick(finding, "Action", "action") or "deny"
        field, value = _pick(finding, "Field", "field"), _pick(finding, "Value", "value")
        lines.append(f"  {action}: {rule}: {field}={value}: {_pick(finding, 'Reason', 'reason')}")
        if fix := _pick(finding, "Fix", "fix"):
            lines.append(f"    fix: {fix}")
    for weak in _pick(decision, "Weakened", "weakened") or ():
        lines.append(f"  weaker than the default: {weak}")
    steps = _pick(answer, "Steps", "steps", "Plan", "plan") or ()
    if steps:
        lines.append("Plan:")
    for number, step in enumerate(steps, 1):
        if isinstance(step, str):
            lines.append(f"  {number:>3}. {step}")
            continue
        name = _pick(step, "Name", "name", "Step", "step") or ""
        detail = _pick(step, "Description", "description", "Detail", "detail") or ""
        reason = _pick(step, "Reason", "reason", "Why", "why")
        lines.append(f"  {number:>3}. {name}: {detail}" if detail else f"  {number:>3}. {name}")
        if reason:
            lines.append(f"       because {reason}")
    for warning in _pick(answer, "Warnings", "warnings") or ():
        lines.append(f"Warning: {warning}")
    return "\n".join(lines) + "\n", allowed
