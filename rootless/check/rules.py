"""What the rules are: for ``--explain`` and for ``docs/rules.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from rootless.check import exits
from rootless.policy.references import parse_references
from rootless.policy.rules import RULES
from rootless.policy.rules.base import Rule
from rootless.policy.rules.others import OTHERS, Described

DESCRIBED: tuple[Rule | Described, ...] = (*RULES, *OTHERS)


def _references(rule: Rule | Described) -> str:
    return ", ".join(f"{r.standard} {r.id}" for r in parse_references(rule.references))


def explain(name: str) -> int:
    """Print everything about a rule."""
    found = next((rule for rule in DESCRIBED if rule.id == name), None)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, [rule.id for rule in DESCRIBED], 1)
        hint = f"; did you mean {near[0]}?" if near else "; docs/rules.md lists them"
        return exits.complain("check-policy", f"there is no rule {name!r}{hint}")
    lines = [
        f"{found.id} ({found.severity})",
        f"  {found.rationale}",
        f"  fix: {found.remediation}",
    ]
    if found.references:
        lines.append(f"  see: {_references(found)}")
    if isinstance(found, Described):
        lines.append(f"  found by: {found.made_by}")
    if found.floor:
        lines.append("  no policy can allow it")
    sys.stdout.write("\n".join(lines) + "\n")
    return exits.HOLDS


def table() -> Iterator[str]:
    """The lines of docs/rules.md."""
    yield "# Rules"
    yield ""
    yield "Made from the code: `python -m rootless.check.rules > docs/rules.md`."
    yield "`rootless check-policy --explain RULE` prints one of them. A *floor* rule holds"
    yield "whatever a policy says."
    yield ""
    yield "| rule | severity | rationale | fix | references |"
    yield "| --- | --- | --- | --- | --- |"
    for rule in sorted(DESCRIBED, key=lambda rule: rule.id):
        floor = " (floor)" if rule.floor else ""
        cells = (
            f"`{rule.id}`{floor}",
            rule.severity,
            rule.rationale,
            rule.remediation,
            _references(rule),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
