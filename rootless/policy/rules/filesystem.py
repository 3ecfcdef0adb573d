"""The root file system and the kernel's interfaces in it."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.kinds import beneath
from rootless.policy.rules.base import Case, Violation, rule


def _open_among(case: Case, field: str, closed: tuple[str, ...]) -> Iterator[str]:
    """Paths of the policy's ``field`` that no path of ``closed`` covers, in order."""
    same = frozenset(closed)
    for path in sorted((case.policy.names_of(field) or frozenset()) - same):
        if not any(beneath(path, root) for root in closed):
            yield path


@rule(
    "filesystem.masked-paths",
    "high",
    keys=("filesystem.maskedPaths",),
    references=("PSS baseline: procMount",),
    remediation="leave out systempaths=unconfined and MaskedPaths",
)
def masked(case: Case) -> Iterator[Violation]:
    """Paths the policy wants hidden are hidden."""
    for path in _open_among(case, "filesystem.maskedPaths", case.spec.masked_paths):
        yield Violation(
            "HostConfig.MaskedPaths",
            f"without {path}",
            "the container would read a kernel interface that leaks or harms",
            "filesystem.maskedPaths",
        )


@rule(
    "filesystem.read-only-paths",
    "high",
    keys=("filesystem.readOnlyPaths",),
    references=("PSS baseline: procMount",),
    remediation="leave out systempaths=unconfined and ReadonlyPaths",
)
def read_only_paths(case: Case) -> Iterator[Violation]:
    """Paths the policy wants read-only are, or are hidden."""
    closed = (*case.spec.masked_paths, *case.spec.readonly_paths)
    for path in _open_among(case, "filesystem.readOnlyPaths", closed):
        yield Violation(
            "HostConfig.ReadonlyPaths",
            f"without {path}",
            "the container could write to a kernel interface",
            "filesystem.readOnlyPaths",
        )


@rule(
    "filesystem.read-only-root",
    "medium",
    keys=("filesystem.requireReadOnlyRoot",),
    references=("CIS 5.13",),
    remediation="run with --read-only, and --tmpfs for what must be written",
)
def read_only_root(case: Case) -> Iterator[Violation]:
    """The root file system cannot be written."""
    required = case.policy.requires("filesystem.requireReadOnlyRoot")
    if required and not case.spec.rootfs.read_only:
        yield Violation(
            "HostConfig.ReadonlyRootfs",
            "false",
            "the root file system could be written",
            "filesystem.requireReadOnlyRoot",
        )


RULES = (masked, read_only_paths, read_only_root)
