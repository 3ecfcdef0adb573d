"""Builds of images: what they are made from, and what their steps can reach.

What ``images`` says of names is for base images as well (``rules/images.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.kinds import matches_pattern
from rootless.policy.rules.base import Case, Violation, rule
from rootless.policy.rules.workload import is_secret


@rule(
    "build.base",
    "high",
    keys=("build.allowBases",),
    references=("CIS 4.2", "NIST 800-190 4.1.5"),
    remediation="build from an image that build.allowBases names",
)
def base(case: Case) -> Iterator[Violation]:
    """Whoever makes the base image decides what is in those made from it."""
    allow = case.policy.names_of("build.allowBases")
    if allow is None or case.build is None:
        return
    if case.build.bases is None:
        reason = "the Dockerfile is not there to be read, so nobody knows what it is made from"
        yield Violation("Build.From", "(unknown)", reason, "build.allowBases")
    for name in case.build.bases or ():
        if not name:
            reason = "its name is only known when the build runs"
            yield Violation("Build.From", "(unknown)", reason, "build.allowBases")
        elif not matches_pattern(name, allow):
            reason = "the policy does not list this base image"
            yield Violation("Build.From", name, reason, "build.allowBases")


@rule(
    "build.network",
    "high",
    keys=("build.allowNetworks", "namespaces.allowHost"),
    references=("NIST 800-190 4.4.2",),
    remediation="build with a network that build.allowNetworks names",
)
def network(case: Case) -> Iterator[Violation]:
    """What a build fetches ends up in the image, and what it can reach it can attack."""
    allow = case.policy.names_of("build.allowNetworks")
    shared = case.policy.names_of("namespaces.allowHost")
    for name in case.build.networks if case.build is not None else ():
        if allow is not None and not matches_pattern(name, allow):
            reason = f"allowed are {', '.join(sorted(allow)) or 'none at all'}"
            yield Violation("Build.Network", name, reason, "build.allowNetworks")
        elif name == "host" and shared is not None and "network" not in shared:
            reason = "steps would see and use the host's network and loopback"
            yield Violation("Build.Network", name, reason, "namespaces.allowHost")


@rule(
    "build.secret",
    "high",
    keys=("build.allowSecrets", "build.allowSsh"),
    references=("NIST 800-190 4.1.4",),
    remediation="leave it out, or allow it in build.allowSecrets or build.allowSsh",
)
def secret(case: Case) -> Iterator[Violation]:
    """A step can copy what it reads into the image, or send it away."""
    if case.build is None:
        return
    allow = case.policy.names_of("build.allowSecrets")
    for name in case.build.secrets if allow is not None else ():
        if not matches_pattern(name, allow or frozenset()):
            reason = "the policy does not allow this secret in a build"
            yield Violation("Build.Secrets", name, reason, "build.allowSecrets")
    for name in () if case.policy.permits("build.allowSsh") else case.build.ssh:
        reason = "the policy lets no build use keys of an SSH agent"
        yield Violation("Build.Ssh", name, reason, "build.allowSsh")


@rule(
    "build.argument",
    "medium",
    keys=("build.denyArgs", "build.denySecretArgs"),
    references=("CIS 4.10", "NIST 800-190 4.1.4"),
    remediation="leave out the argument {value}, or hand a secret to the step that needs it: "
    "RUN --mount=type=secret",
)
def argument(case: Case) -> Iterator[Violation]:
    """Arguments of a build stay in the image's history, for all who can pull it."""
    denied = case.policy.names_of("build.denyArgs") or frozenset()
    for entry in case.build.args if case.build is not None else ():
        name = entry.partition("=")[0]
        if matches_pattern(name, denied):
            reason = "the policy denies this argument"
            yield Violation("Build.Args", name, reason, "build.denyArgs", at=(name,))
        elif case.policy.requires("build.denySecretArgs") and is_secret(entry):
            reason = "its value looks like a secret"
            yield Violation("Build.Args", name, reason, "build.denySecretArgs", at=(name,))


@rule(
    "build.insecure",
    "critical",
    keys=("build.allowInsecure",),
    references=("CIS 5.5",),
    remediation="leave out privileged and the entitlement security.insecure",
)
def insecure(case: Case) -> Iterator[Violation]:
    """Every step runs in a sandbox: a Dockerfile is a program that somebody wrote."""
    asked = case.build is not None and case.build.insecure
    if asked and not case.policy.permits("build.allowInsecure"):
        reason = "steps would run without a sandbox"
        yield Violation("Build.Insecure", "true", reason, "build.allowInsecure")


RULES = (base, network, secret, argument, insecure)
