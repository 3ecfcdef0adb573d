"""``rootless policy explain``: a rule, or a field of the language."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rootless.check import exits
from rootless.check.rules import DESCRIBED, explain
from rootless.policy.fields import FIELDS
from rootless.policy.rules import RULES


@exits.guarded("policy explain")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog="rootless policy explain",
        description="Print what a rule or a field of the language is about; without NAME list "
        "all of them.",
        epilog="exit status: 0 printed, 2 usage or a name that is not known. "
        "example: rootless policy explain ports.minimumHostPort",
    )
    parser.add_argument("name", nargs="?", metavar="NAME")
    options = parser.parse_args(argv)
    if options.name is None:
        names = sorted([*FIELDS, *(rule.id for rule in DESCRIBED)])
        sys.stdout.write("".join(f"{name}\n" for name in names))
        return exits.HOLDS
    field = FIELDS.get(options.name)
    if field is None:
        return explain(options.name)
    lines = [f"{options.name} ({field.kind.shape}): {field.kind.meaning}"]
    if field.values:
        lines.append(f"  values: {' '.join(field.values)}")
    rules = [rule.id for rule in RULES if options.name in rule.keys]
    lines += [f"  rule: {rule}" for rule in rules]
    sys.stdout.write("\n".join(lines) + "\n")
    return exits.HOLDS
