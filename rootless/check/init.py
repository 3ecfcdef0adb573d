"""``rootless policy init``: a policy to begin with."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from rootless.check import exits
from rootless.policy.formats import NAME
from rootless.policy.load import BUILTINS

_TEXT = """\
# A policy of rootless; docs/policy.md explains the language, docs/rules.md the rules.
# It is in force as ~/.config/rootless/policy.yaml, and checked with
#   rootless check-policy {file}
apiVersion: rootless.dev/v1alpha1
kind: Policy
metadata:
  name: {name}
# What this policy tightens. `none` begins with nothing: then only what is
# written below constrains.
extends: {extends}
# enforce denies, warn tells, audit only records.
mode: enforce
# rules:
#   ports.privileged: {{mode: warn}}
spec:
  ports:
    minimumHostPort: 1024
  # images:
  #   allow: [docker.io/library/*]
  #   denyTags: [latest]
  # resources:
  #   require: [memory, pids]
# What a request that says nothing gets:
# defaults:
#   memory: 512m
#   pids: 512
# What is let pass for a while, by whom and why:
# exceptions:
#   - id: legacy-port
#     rules: [ports.privileged]
#     match: {{names: [legacy-web]}}
#     reason: the old balancer only speaks to port 80
#     approvedBy: security@example.com
#     expires: 2030-12-31
"""


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not lower-case letters, digits and dashes")
    return text


@exits.guarded("policy init")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    parser = argparse.ArgumentParser(
        prog="rootless policy init",
        description="Write a commented policy to begin with.",
        epilog="exit status: 0 written, 2 usage or a file that exists already. "
        "example: rootless policy init policy.yaml --extends builtin:restricted",
    )
    parser.add_argument("file", nargs="?", default="-", help="- (the default) prints it")
    parser.add_argument(
        "--name", type=_name, default="mine", help="the policy's name (default: mine)"
    )
    parser.add_argument(
        "--extends",
        default="builtin:default",
        choices=["none", *(f"builtin:{name}" for name in BUILTINS)],
        help="what it tightens (default: builtin:default)",
    )
    options = parser.parse_intermixed_args(argv)
    shown = "policy.yaml" if options.file == "-" else options.file
    text = _TEXT.format(name=options.name, extends=options.extends, file=shown)
    if options.file == "-":
        sys.stdout.write(text)
        return exits.HOLDS
    handle = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        os.unlink(options.file)
        error.filename = options.file
        raise
    return exits.HOLDS
