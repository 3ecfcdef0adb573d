"""``rootless check-policy``: are the policy files right, and what do they say together?

Exit status: 0 they hold, 2 usage or a file that cannot be read, 3 an invalid policy.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from rootless.errors import RootlessError
from rootless.policy.documents import InvalidPolicy
from rootless.policy.load import PolicyFiles, PolicyStore, load_policy
from rootless.policy.policy import Policy, meet

INVALID = 3
USAGE = 2


def _home() -> str:
    return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir


def _in_force() -> Policy:
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(_home(), ".config")
    files = PolicyFiles(user=Path(config) / "rootless" / "policy.yaml")
    return PolicyStore(files, home=_home()).current()


def _of_files(names: Sequence[str]) -> Policy:
    policies = []
    complaints: list[str] = []
    for name in names:
        text = Path(name).read_text(encoding="utf-8")
        try:
            policies.append(load_policy(text, name, home=_home()))
        except InvalidPolicy as error:
            found = error.context["complaints"]
            assert isinstance(found, list)
            complaints += found
    if complaints:
        raise InvalidPolicy(complaints)
    return reduce(meet, policies)


def render(policy: Policy) -> str:
    """Every constraint on a line, with its source."""
    lines = [f"policy {policy.title}, mode {policy.mode}"]
    for rule, mode in sorted(policy.rule_modes.items()):
        lines.append(f"  rule {rule}: {mode}")
    for key, value in sorted(policy.constraints.items()):
        shown = " ".join(sorted(value)) or "(nothing)" if isinstance(value, frozenset) else value
        text = str(shown).lower() if isinstance(shown, bool) else shown
        lines.append(f"  {key}: {text}  [{policy.source_of(key)}]")
    return "\n".join(lines)


def document(policy: Policy) -> dict[str, object]:
    """The same for programs."""
    return {
        "policy": policy.title,
        "mode": policy.mode,
        "rules": dict(sorted(policy.rule_modes.items())),
        "constraints": {
            key: {
                "value": sorted(value) if isinstance(value, frozenset) else value,
                "source": policy.source_of(key),
            }
            for key, value in sorted(policy.constraints.items())
        },
    }


def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog="rootless check-policy",
        description="Check policy files; without FILE print the policy that is in force for you.",
        epilog="exit status: 0 the policy is valid, 2 a file cannot be read or the command line is "
        "wrong, 3 the policy is invalid (each complaint has file:line:column). "
        "example: rootless check-policy ~/.config/rootless/policy.yaml",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="a policy in YAML")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="of the output (default: text)"
    )
    options = parser.parse_args(argv)
    try:
        policy = _of_files(options.files) if options.files else _in_force()
    except InvalidPolicy as error:
        complaints = error.context["complaints"]
        assert isinstance(complaints, list)
        for line in complaints:
            print(line, file=sys.stderr)
        return INVALID
    except OSError as error:
        print(f"rootless check-policy: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE
    except UnicodeDecodeError:
        print("rootless check-policy: the policy is not UTF-8", file=sys.stderr)
        return USAGE
    except RootlessError as error:
        print(f"rootless check-policy: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return INVALID
    if options.format == "json":
        print(json.dumps(document(policy), indent=2))
    else:
        print(render(policy))
    return 0
