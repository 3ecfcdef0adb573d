"""What of the host is mounted into the container."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy import globs
from rootless.policy.kinds import beneath
from rootless.policy.paths import engine_socket, overlap, socket_by_name
from rootless.policy.rules.base import Case, Violation, rule

_FIELD = "HostConfig.Mounts"
SHARED_KEY = "mounts.allowSharedVolumes"


def _sources(case: Case) -> Iterator[tuple[str, str, str]]:
    """Field, target and source of everything that shows something of the host."""
    for mount, source in case.host_mounts:
        yield _FIELD, mount.target, source
    for device in case.spec.devices:
        yield "HostConfig.Devices", device.target, case.resolve(device.source)


@rule(
    "mounts.engine",
    "critical",
    references=("CIS 5.32", "NIST 800-190 4.4.1"),
    remediation="mount a directory that neither is nor contains anything of the engine's; "
    "use a named volume for data",
    floor=True,
)
def engine(case: Case) -> Iterator[Violation]:
    """The engine's state, sockets, policy and keys are never in a container."""
    if case.offline:
        return  # what is where on this machine says nothing about a file for any machine
    for field, target, source in _sources(case):
        found = overlap(source, case.paths, case.mount_table)
        if found is not None:
            what, path = found
            reason = f"it would show {what} ({path}) to the container"
            yield Violation(field, source, reason, at=(target,))


@rule(
    "mounts.engine-socket",
    "critical",
    references=("CIS 5.32", "PSS baseline: hostPathVolumes"),
    remediation="no container may control an engine; give the tool an engine of its own",
    floor=True,
)
def socket(case: Case) -> Iterator[Violation]:
    """An engine's socket is the right to run anything as its owner."""
    find = socket_by_name if case.offline else engine_socket
    for field, target, source in _sources(case):
        found = find(source)
        if found is not None:
            yield Violation(field, source, f"{found} controls a container engine", at=(target,))


def _touches(source: str, places: frozenset[str]) -> bool:
    """Whether the source is in one of the places or around it."""
    return any(beneath(source, place) or beneath(place, source) for place in places)


@rule(
    "mounts.denied-source",
    "high",
    keys=("mounts.denySources",),
    references=("CIS 5.6", "PSS baseline: hostPathVolumes"),
    remediation="mount the files the program needs instead, or a copy of them",
)
def denied(case: Case) -> Iterator[Violation]:
    """Sources on the deny list, and directories that contain one."""
    roots = case.roots("mounts.denySources")
    for mount, source in case.host_mounts:
        for root, places in roots:
            if _touches(source, places):
                holds = beneath(root, source) and source != root
                relation = f"it holds {root}" if holds else f"{root} and all in it"
                yield Violation(
                    _FIELD,
                    source,
                    f"{relation}, which is denied",
                    "mounts.denySources",
                    at=(mount.target, "source"),
                )
                break


@rule(
    "mounts.source",
    "high",
    keys=("mounts.allowSources",),
    references=("CIS 5.6", "PSS baseline: hostPathVolumes"),
    remediation="mount from a directory that mounts.allowSources names",
)
def allowed(case: Case) -> Iterator[Violation]:
    """When the policy lists allowed sources, only those and what is below them."""
    if case.policy.names_of("mounts.allowSources") is None:
        return
    roots = [case.resolve(root) for root, _ in case.roots("mounts.allowSources")]
    for mount, source in case.host_mounts:
        if not any(beneath(source, root) for root in roots):
            yield Violation(
                _FIELD,
                source,
                "it is not below an allowed source",
                "mounts.allowSources",
                at=(mount.target, "source"),
            )


@rule(
    "mounts.pattern",
    "high",
    keys=("mounts.allowGlobs",),
    references=("CIS 5.6", "PSS baseline: hostPathVolumes"),
    remediation="mount a file or directory that mounts.allowGlobs matches",
)
def pattern(case: Case) -> Iterator[Violation]:
    """When the policy lists patterns, only files and directories that match one of them."""
    allow = case.policy.names_of("mounts.allowGlobs")
    for mount, source in case.host_mounts if allow is not None else ():
        if not globs.matches(source, allow or frozenset()):
            yield Violation(
                _FIELD,
                source,
                "it matches no pattern of allowed sources",
                "mounts.allowGlobs",
                at=(mount.target, "source"),
            )


@rule(
    "mounts.read-only",
    "high",
    keys=("mounts.readOnlySources",),
    references=("CIS 5.6",),
    remediation="add :ro to -v, or readonly to --mount",
)
def read_only(case: Case) -> Iterator[Violation]:
    """System directories only read-only, with all that is mounted below them."""
    roots = case.roots("mounts.readOnlySources")
    for mount, source in case.host_mounts:
        if mount.read_only and (mount.recursive_read_only or not mount.recursive):
            continue
        for root, places in roots:
            if _touches(source, places):
                yield Violation(
                    _FIELD,
                    source,
                    f"{root} may only be mounted read-only",
                    "mounts.readOnlySources",
                    at=(mount.target,),
                )
                break


@rule(
    "mounts.type",
    "medium",
    keys=("mounts.allowTypes",),
    references=("PSS restricted: restrictedVolumes",),
    remediation="use a type of mount that mounts.allowTypes names",
)
def types(case: Case) -> Iterator[Violation]:
    """Only the allowed types."""
    allow = case.policy.names_of("mounts.allowTypes")
    for mount in case.spec.mounts:
        asked = mount.type in {"bind", "volume", "tmpfs", "image"}
        if asked and allow is not None and mount.type not in allow:
            yield Violation(
                _FIELD, f"{mount.type}:{mount.target}", "the type is not allowed",
                "mounts.allowTypes", at=(mount.target,),
            )  # fmt: skip


@rule(
    "mounts.propagation",
    "high",
    keys=("mounts.allowPropagation",),
    references=("CIS 5.20",),
    remediation="leave out the propagation option",
)
def propagation(case: Case) -> Iterator[Violation]:
    """Shared propagation carries mounts out of the container."""
    allow = case.policy.names_of("mounts.allowPropagation")
    for mount in case.spec.mounts:
        if allow is not None and mount.propagation not in allow:
            yield Violation(
                _FIELD,
                f"{mount.target}:{mount.propagation}",
                "mounts made in the container would appear on the host",
                "mounts.allowPropagation",
                at=(mount.target, "propagation"),
            )


@rule(
    "mounts.shared-volume",
    "low",
    keys=("mounts.allowSharedVolumes",),
    remediation="give each container a volume of its own",
)
def shared_volume(case: Case) -> Iterator[Violation]:
    """Data that several containers write is how one of them reaches the others.

    One container alone cannot show it: the readers of inputs with several find it.
    """
    del case
    yield from ()


RULES = (engine, socket, denied, allowed, pattern, read_only, types, propagation, shared_volume)
