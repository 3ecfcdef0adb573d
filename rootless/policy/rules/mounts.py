"""What of the host is mounted into the container."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rootless.model.spec import MountSpec
from rootless.policy.kinds import beneath
from rootless.policy.paths import engine_socket, overlap, own_storage
from rootless.policy.rules.base import Case, Violation, rule

_FIELD = "HostConfig.Mounts"


def _host_mounts(case: Case) -> Iterator[tuple[MountSpec, str]]:
    """Mounts that show something of the host, with the resolved source."""
    for mount in case.spec.mounts:
        if mount.type in {"bind", "volume", "image"}:
            source = os.path.realpath(mount.source)
            if not own_storage(source, mount.type, mount.volume_name, case.paths):
                yield mount, source


def _sources(case: Case) -> Iterator[tuple[str, str]]:
    for _, source in _host_mounts(case):
        yield _FIELD, source
    for device in case.spec.devices:
        yield "HostConfig.Devices", os.path.realpath(device.source)


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
    for field, source in _sources(case):
        for what, path in case.paths.protected():
            if overlap(source, path):
                yield Violation(field, source, f"it would show {what} ({path}) to the container")
                break


@rule(
    "mounts.engine-socket",
    "critical",
    references=("CIS 5.32", "PSS baseline: hostPathVolumes"),
    remediation="no container may control an engine; give the tool an engine of its own",
    floor=True,
)
def socket(case: Case) -> Iterator[Violation]:
    """An engine's socket is the right to run anything as its owner."""
    for field, source in _sources(case):
        found = engine_socket(source)
        if found is not None:
            yield Violation(field, source, f"{found} controls a container engine")


def _touches(source: str, root: str) -> bool:
    """Whether one is inside the other; ``root`` counts as written and with symlinks resolved."""
    return any(
        beneath(source, place) or beneath(place, source) for place in {root, os.path.realpath(root)}
    )


@rule(
    "mounts.denied-source",
    "high",
    references=("CIS 5.6", "PSS baseline: hostPathVolumes"),
    remediation="mount the files the program needs instead, or a copy of them",
)
def denied(case: Case) -> Iterator[Violation]:
    """Sources on the deny list, and directories that contain one."""
    roots = sorted(case.policy.names_of("mounts.denySources") or ())
    for _, source in _host_mounts(case):
        for root in roots:
            if _touches(source, root):
                holds = beneath(root, source) and source != root
                relation = f"it holds {root}" if holds else f"{root} and all in it"
                yield Violation(
                    _FIELD, source, f"{relation}, which is denied", "mounts.denySources"
                )
                break


@rule(
    "mounts.source",
    "high",
    references=("CIS 5.6", "PSS baseline: hostPathVolumes"),
    remediation="mount from a directory that mounts.allowSources names",
)
def allowed(case: Case) -> Iterator[Violation]:
    """When the policy lists allowed sources, only those and what is below them."""
    roots = case.policy.names_of("mounts.allowSources")
    if roots is None:
        return
    for _, source in _host_mounts(case):
        if not any(beneath(source, os.path.realpath(root)) for root in roots):
            yield Violation(
                _FIELD, source, "it is not below an allowed source", "mounts.allowSources"
            )


@rule(
    "mounts.read-only",
    "high",
    references=("CIS 5.6",),
    remediation="add :ro to -v, or readonly to --mount",
)
def read_only(case: Case) -> Iterator[Violation]:
    """System directories only read-only, with all that is mounted below them."""
    roots = sorted(case.policy.names_of("mounts.readOnlySources") or ())
    for mount, source in _host_mounts(case):
        if mount.read_only and (mount.recursive_read_only or not mount.recursive):
            continue
        for root in roots:
            if _touches(source, root):
                yield Violation(
                    _FIELD,
                    source,
                    f"{root} may only be mounted read-only",
                    "mounts.readOnlySources",
                )
                break


@rule(
    "mounts.type",
    "medium",
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
                "mounts.allowTypes",
            )  # fmt: skip


@rule(
    "mounts.propagation",
    "high",
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
            )


RULES = (engine, socket, denied, allowed, read_only, types, propagation)
