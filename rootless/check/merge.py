"""``rootless policy merge``: several policies or profiles as one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import reduce
from typing import Any

from rootless.check import exits
from rootless.check.inputs import read_some
from rootless.check.policies import load_policies
from rootless.errors import InvalidInput

KINDS = ("policy", "seccomp", "landlock")
_MAX_BYTES = 4 << 20


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless policy merge",
        description="Print one document that does what all FILEs together do: policies are met "
        "field by field; seccomp profiles and Landlock rules behave as the kernel does with all "
        "of them stacked. Where no single seccomp profile can, a JSON list of fewer profiles than "
        "FILEs, to be loaded in its order.",
        epilog="exit status: 0 printed, 1 the files cannot be expressed as one, 2 usage or a file "
        "that cannot be read or understood, 3 an invalid policy. example: rootless policy merge "
        "--kind seccomp default.json app.json > merged.json",
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--kind", choices=KINDS, default="policy", help="default: policy")
    parser.add_argument("--union", action="store_true", help="what any of the files allows, "
        "instead of what all of them allow")  # fmt: skip
    return parser


@exits.guarded("policy merge")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_intermixed_args(argv)
    if options.kind == "policy":
        return _policies(options.files, union=options.union)
    texts = [(name, _read(name)) for name in options.files]
    merged: Any
    if options.kind == "seccomp":
        from rootless.policy.profiles import seccomp

        profiles = [seccomp.parse(text, name) for name, text in texts]
        try:
            stack = seccomp.merged(profiles, union=options.union)
        except seccomp.NoSingleProfile as error:
            return _not_one(str(error))
        merged = stack if len(stack) > 1 else stack[0]
    else:
        from rootless.policy.profiles import landlock

        rulesets = [landlock.parse(text, name) for name, text in texts]
        merged = landlock.merge(rulesets, union=options.union)
    sys.stdout.write(json.dumps(merged, indent=2) + "\n")
    return exits.HOLDS


def _not_one(problem: str) -> int:
    exits.complain("policy merge", problem)
    return exits.VIOLATIONS


def _read(name: str) -> str:
    data = read_some(name, _MAX_BYTES)
    if len(data) > _MAX_BYTES:
        raise InvalidInput(f"{name}: more than {_MAX_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: not UTF-8 at byte {error.start}") from error


def _policies(names: list[str], *, union: bool) -> int:
    from rootless.policy.policy import join
    from rootless.policy.writer import as_yaml

    if union:
        policies = [load_policies([name]) for name in names]
        for policy in policies:
            as_yaml(policy)  # refuses what one document cannot say
        merged = reduce(join, policies)
    else:
        merged = load_policies(names)
    sys.stdout.write(as_yaml(merged))
    return exits.HOLDS
