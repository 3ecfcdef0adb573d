"""A policy's ``defaults`` put where a request says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rootless.model import egress
from rootless.model.identity import Identity
from rootless.model.request import ContainerRequest, HostConfig, Resources
from rootless.policy.clauses import word
from rootless.policy.kinds import Constraint
from rootless.policy.matching import Subject
from rootless.policy.policy import Policy


def _number(value: Constraint | None) -> int:
    return value if isinstance(value, int) else 0


def _resources(asked: Resources, given: Mapping[str, Constraint]) -> Resources:
    if not asked.memory:
        asked = replace(asked, memory=_number(given.get("memory")))
    if not (asked.nano_cpus or asked.cpu_quota):
        asked = replace(asked, nano_cpus=_number(given.get("cpus")))
    if asked.pids_limit is None and "pids" in given:
        asked = replace(asked, pids_limit=_number(given["pids"]))
    return asked


def _host(asked: HostConfig, given: Mapping[str, Constraint]) -> HostConfig:
    asked = replace(asked, resources=_resources(asked.resources, given))
    if not asked.userns_mode and "userns" in given:
        asked = replace(asked, userns_mode=word(given["userns"]))
    if asked.network_mode in {"", "default"} and "network" in given:
        asked = replace(asked, network_mode=word(given["network"]))
    drop = given.get("capDrop")
    if isinstance(drop, frozenset) and not asked.cap_drop and not asked.privileged:
        asked = replace(asked, cap_drop=tuple(sorted(drop)))
    return asked


def with_defaults(
    policy: Policy, identity: Identity, request: ContainerRequest, image: str
) -> ContainerRequest:
    """The request with its gaps filled; ``image`` is the image's name in full.

    Defaults of policies with a selector come after those of the others.
    """
    labels = dict(request.config.labels)
    subject = Subject(image, request.name, labels, identity)
    given: dict[str, Constraint] = {}
    for part, _ in policy.applicable(subject):
        given.update(part.defaults)
    if not given:
        return request
    config = request.config
    if not config.user and "user" in given:
        config = replace(config, user=word(given["user"]))
    listed = given.get("egress")
    if isinstance(listed, frozenset):
        request = replace(request, default_egress=egress.union(listed))
    return replace(request, config=config, host=_host(request.host, given))
