"""``rootless doctor``: what this machine has, what it lacks, what that costs, what mends it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from rootless.errors import RootlessError
from rootless.host.checks import CHECKS
from rootless.host.facts import Host, host_for
from rootless.host.result import CheckResult, Subject


def examine(host: Host) -> tuple[CheckResult, ...]:
    """Every check's result, and whether some file system for images can be mounted at all."""
    results = tuple(check(host) for check in CHECKS)
    return (*results, root_filesystem(results))


def root_filesystem(results: Sequence[CheckResult]) -> CheckResult:
    """One of native overlay and fuse-overlayfs must work; which one matters only for speed."""
    found = {result.id for result in results if result.status == "found"}
    subject = Subject("rootfs", "a file system for images", required=True)
    if "overlay" in found:
        return subject.found("native overlay")
    return subject.judge(
        "fuse-overlayfs" if {"dev-fuse", "fuse-overlayfs"} <= found else "neither works",
        ok={"dev-fuse", "fuse-overlayfs"} <= found,
        cost="no container can start",
        fix="sudo rootless setup",
    )


def can_run(results: Sequence[CheckResult]) -> bool:
    """Can a default container run here?"""
    return not any(result.blocks for result in results)


def render(results: Sequence[CheckResult], host: Host) -> str:
    """The report for a person: one line a check, with cost and fix below what is missing."""
    width = max(len(result.title) for result in results)
    lines = []
    for result in results:
        mark = (
            "ok     " if result.status == "found" else "MISSING" if result.required else "absent "
        )
        lines.append(f"{mark} {result.title:<{width}}  {result.detail}")
        if result.status == "missing":
            lines.append(f"        costs: {result.cost}")
            lines.append(f"        fix:   {result.fix}")
    blocking = [result.title for result in results if result.blocks]
    lines.append("")
    if blocking:
        lines.append(f"{host.user} cannot run containers here yet: {', '.join(blocking)}.")
    else:
        lines.append(f"{host.user} can run containers here.")
    return "\n".join(lines)


def as_json(results: Sequence[CheckResult], host: Host) -> str:
    """The report for programs."""
    document = {
        "user": host.user,
        "canRun": can_run(results),
        "checks": [dataclasses.asdict(result) for result in results],
    }
    return json.dumps(document, indent=2)


def main(argv: Sequence[str]) -> int:
    """Exit status 0 only when a default container can run; 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="rootless doctor",
        description="Check this machine: what is there, what is missing, what that costs, and "
        "the command that mends it. Exit status 0 when a default container can run, else 1; "
        "2 for a wrong command line.",
        epilog="example: rootless doctor --format json",
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="of the report (default: text)"
    )
    parser.add_argument("--user", help="examine the machine for this user (default: yourself)")
    options = parser.parse_args(list(argv))
    try:
        host = host_for(options.user)
    except RootlessError as error:
        print(f"rootless doctor: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 2
    results = examine(host)
    print(as_json(results, host) if options.format == "json" else render(results, host))
    return 0 if can_run(results) else 1
