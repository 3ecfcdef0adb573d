"""Who the container's process is."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.rules.base import Case, Violation, rule


def is_root(user: str) -> bool:
    """Whether ``user`` (``name``, ``uid``, ``name:group``, '') is root without looking further."""
    name = user.partition(":")[0]
    return name == "root" or not name.strip("0")


@rule(
    "user.root",
    "high",
    keys=("user.requireNonRoot",),
    references=("CIS 4.1", "PSS restricted: runAsNonRoot"),
    remediation="run with --user 1000, or set USER in the image",
)
def root(case: Case) -> Iterator[Violation]:
    """Not root, even inside; other names are checked again when the image's passwd is read."""
    if case.policy.requires("user.requireNonRoot") and is_root(case.spec.process.user):
        yield Violation(
            "Config.User",
            case.spec.process.user or "(unset)",
            "the policy does not allow root in the container",
            "user.requireNonRoot",
        )


RULES = (root,)
