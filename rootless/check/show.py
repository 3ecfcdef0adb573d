"""``rootless policy show``: what a policy says, merged, and where each value comes from."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rootless.check import exits
from rootless.check.policies import in_force, load_policies
from rootless.policy import trust
from rootless.policy.fields import FIELDS
from rootless.policy.kinds import Constraint
from rootless.policy.matching import Layer
from rootless.policy.policy import Policy


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless policy show",
        description="Print what policies say together, every field with the places it comes "
        "from; without POLICY the policy that is in force for you.",
        epilog="exit status: 0 printed, 2 usage or a file that cannot be read, 3 an invalid "
        "policy. example: rootless policy show --explain capabilities.allow",
    )
    parser.add_argument("policies", nargs="*", metavar="POLICY", help="a file or builtin:NAME")
    parser.add_argument("--merged", action="store_true", help="print a policy document that says "
        "the same without extending anything")  # fmt: skip
    parser.add_argument("--explain", metavar="FIELD", help="print only this field: its meaning, "
        "its value and every file and line that takes part in it")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser


@exits.guarded("policy show")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_intermixed_args(argv)
    policy = load_policies(options.policies) if options.policies else in_force()
    if options.explain:
        return _explain(policy, options.explain)
    if options.format == "json":
        sys.stdout.write(json.dumps(document(policy), indent=2) + "\n")
    elif options.merged:
        from rootless.policy.writer import as_yaml

        sys.stdout.write(as_yaml(policy))
    else:
        sys.stdout.write(render(policy) + "\n")
    return exits.HOLDS


def shown(value: Constraint, key: str = "") -> str:
    """The value of the field ``key`` on one line."""
    if isinstance(value, frozenset) and key == trust.KEY:
        return " ".join(map(trust.shown, sorted(value))) or "(nothing)"
    if isinstance(value, frozenset):
        return " ".join(sorted(value)) or "(nothing)"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _explain(policy: Policy, key: str) -> int:
    field = FIELDS.get(key)
    if field is None:
        from difflib import get_close_matches

        near = get_close_matches(key, list(FIELDS), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return exits.complain("policy show", f"there is no field {key!r}{hint}")
    lines = [f"{key}: {field.kind.meaning}"]
    value = policy.constraints.get(key)
    if value is None:
        lines.append("  not set: it does not constrain")
    else:
        lines.append(f"  value: {shown(value, key)}")
        lines += [f"  from: {place}" for place in sorted(policy.sources.get(key, ()))]
    sys.stdout.write("\n".join(lines) + "\n")
    return exits.HOLDS


def render(policy: Policy) -> str:
    """Every constraint on a line, with its sources."""
    lines = [f"policy {policy.title}, mode {policy.mode}"]
    for rule, mode in sorted(policy.rule_modes.items()):
        lines.append(f"  rule {rule}: {mode}")
    for key, value in sorted(policy.constraints.items()):
        lines.append(f"  {key}: {shown(value, key)}  [{policy.source_of(key)}]")
    for name, value in sorted(policy.defaults.items()):
        lines.append(f"  default {name}: {shown(value)}  [{policy.source_of(f'defaults.{name}')}]")
    for layer in policy.layers:
        lines += _layer_lines(layer)
    return "\n".join(lines)


def _layer_lines(layer: Layer) -> list[str]:
    """A policy that is for some only, or has exceptions, below the one it belongs to."""
    chosen = "; ".join(f"{k}: {' '.join(v)}" for k, v in layer.selector.document().items())
    lines = [f"for {chosen or 'everything'}, besides the above:"]
    lines += [f"  {line}" for line in render(layer.policy).splitlines()]
    for excuse in layer.excuses:
        rules = " ".join(sorted(excuse.rules))
        lines.append(f"  exception {excuse.id} until {excuse.expires}: {rules}  [{excuse.source}]")
    return lines


def document(policy: Policy) -> dict[str, Any]:
    """The same for programs."""
    return {
        "policy": policy.title,
        "mode": policy.mode,
        "rules": dict(sorted(policy.rule_modes.items())),
        "constraints": {
            key: {
                "value": sorted(value) if isinstance(value, frozenset) else value,
                "sources": sorted(policy.sources.get(key, ())),
            }
            for key, value in sorted(policy.constraints.items())
        },
        "defaults": {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in sorted(policy.defaults.items())
        },
        "layers": [
            {
                "selector": layer.selector.document(),
                "exceptions": [excuse.document() for excuse in layer.excuses],
                **document(layer.policy),
            }
            for layer in policy.layers
        ],
    }
