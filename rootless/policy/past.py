"""What the decision log keeps of a request, and what another policy would say to it.

Kept is what rules look at, not what runs: no command line, no value of a variable.
Paths are those that were judged; nothing of this machine is looked at again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from rootless.errors import Denied
from rootless.model.build import BuildSpec
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.mounts import MountSpec
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    ExecRequest,
    LogConfig,
    Resources,
)
from rootless.model.spec import ContainerSpec
from rootless.policy import admission
from rootless.policy.matching import Subject
from rootless.policy.paths import EnginePaths, own_storage
from rootless.policy.policy import Policy
from rootless.policy.rules import RULES, resources
from rootless.policy.rules.base import Rule
from rootless.policy.rules.workload import withheld

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judged:
    """``kind`` is container, exec, update, image, build, pull or action.

    ``facts`` are written with each decision, ``parts`` once for many: they are
    what requests have in common.
    """

    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


@lru_cache(maxsize=64)
def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    """Each field with its default; one that is required has a default that nothing equals."""
    return tuple((entry.name, entry.default) for entry in fields(kind))


def sparse(value: Any) -> Any:
    """JSON's types, of dataclasses only what differs from the defaults."""
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((n, getattr(value, n), default) for n, default in _defaults(type(value)))
        return {name: sparse(found) for name, found, default in pairs if found != default}
    if isinstance(value, tuple):
        return [sparse(item) for item in value]
    return value


def _host_mount(mount: MountSpec, paths: EnginePaths) -> MountSpec:
    """The mount with its source as it was judged: resolved, and a host's where it is one."""
    if mount.type not in {"bind", "volume", "image"}:
        return mount
    source = os.path.realpath(mount.source)
    own = own_storage(source, mount.type, mount.volume_name, paths)
    return replace(
        mount,
        type=mount.type if own else "bind",
        source=source,
        source_dev=0,
        source_ino=0,
        layers=None,
    )


def _log(log: LogConfig) -> LogConfig:
    """Names of options; the only value that rules look at is where a log is sent."""
    kept = ((name, value if name == "syslog-address" else "-") for name, value in log.config)
    return LogConfig(log.type, tuple(kept))


def _asked(request: ContainerRequest) -> ContainerRequest:
    host = replace(
        request.host, mounts=(), binds_raw=(), tmpfs_raw=(), log_config=LogConfig(),
        annotations=(), storage_opt=(), links=(), extra_hosts=(), container_id_file="",
    )  # fmt: skip
    labels = tuple((name, "-") for name, _ in request.config.labels)
    return ContainerRequest(config=ContainerConfig(labels=labels), host=host)


def _container(spec: ContainerSpec, paths: EnginePaths) -> dict[str, Any]:
    """The parts of a spec: all that rules look at and that is not the container's own name."""
    process = replace(
        spec.process, args=("-",), env=tuple(map(withheld, spec.process.env)), landlock=None,
        init_binary="", console_size=(0, 0),
    )  # fmt: skip
    health = spec.healthcheck
    if health is not None and health.test:
        health = replace(health, test=(health.test[0], "-"))
    kept = replace(
        spec, id="", name="", created_ns=0, hostname="", domainname="", annotations=(),
        image=replace(spec.image, diff_ids=()),
        process=process,
        userns=replace(spec.userns, owner=0),
        rootfs=replace(spec.rootfs, lowers=(), upper="", work="", id_maps=()),
        mounts=tuple(_host_mount(mount, paths) for mount in spec.mounts),
        seccomp=replace(spec.seccomp, profile=""),
        network=replace(spec.network, dns=(), dns_options=(), dns_search=(), extra_hosts=()),
        healthcheck=health,
        log=_log(spec.log),
        mounted=(),
        request=_asked(spec.request),
    )  # fmt: skip
    return {"spec": sparse(kept), "profile": spec.seccomp.profile}


def container(
    spec: ContainerSpec, paths: EnginePaths, images: tuple[ImageFacts, ...] = ()
) -> Judged:
    """A container that is created, started …, of these images."""
    parts = _container(spec, paths)
    if images:
        parts["images"] = sparse(images)
    return Judged("container", {"name": spec.name}, parts)


def process(spec: ContainerSpec, request: ExecRequest, paths: EnginePaths) -> Judged:
    """A further process in a container."""
    facts = {"name": spec.name, "user": request.user, "privileged": request.privileged}
    return Judged("exec", facts, _container(spec, paths))


def update(spec: ContainerSpec, changed: Resources, paths: EnginePaths) -> Judged:
    """New limits of a container."""
    facts = {"name": spec.name, "resources": sparse(changed)}
    return Judged("update", facts, _container(spec, paths))


def image(subject: Subject | None = None) -> Judged:
    """Pulling or pushing an image: verb and target, and the image where it exists."""
    return Judged("image", _object(subject))


def build(asked: BuildSpec) -> Judged:
    """Making an image; of arguments only what rules look at."""
    kept = replace(asked, args=tuple(map(withheld, asked.args)))
    return Judged("build", parts={"build": sparse(kept)})


def pull(image: ImageFacts) -> Judged:
    """What a registry served."""
    return Judged("pull", parts={"image": sparse(image)})


def action(subject: Subject | None = None) -> Judged:
    """Any other request: verb and target, and the object where there is one."""
    return Judged("action", _object(subject))


def _object(subject: Subject | None) -> dict[str, Any]:
    if subject is None:
        return {}
    kept = {"name": subject.name, "image": subject.image, "labels": dict(subject.labels)}
    kept |= {"paths": subject.paths, "networks": subject.networks}
    owners = {} if subject.owners is None else {"owners": sorted(subject.owners)}
    return {"object": {key: value for key, value in kept.items() if value} | owners}


def _subject(value: Mapping[str, Any] | None) -> Subject | None:
    if value is None:
        return None
    owners = value.get("owners")
    return Subject(
        image=value.get("image", ""),
        name=value.get("name", ""),
        labels=value.get("labels", {}),
        owners=None if owners is None else frozenset(owners),
        paths=tuple(value.get("paths", ())),
        networks=tuple(value.get("networks", ())),
    )


@dataclass(frozen=True, slots=True)
class Past:
    """One decision of the log: what it was about, and how it went."""

    record: Mapping[str, Any]
    parts: Mapping[str, Any]
    """By digest: what the lines of the log so far had."""

    @property
    def floored(self) -> bool:
        """Denied by what no policy can allow."""
        return any(
            found.get("source") == "builtin:floor" and found.get("action") == "deny"
            for found in self.record.get("findings") or ()
        )

    def denials(self, policy: Policy) -> frozenset[str] | None:
        """Rules by which the policy would deny it, none where it would let it pass.

        None itself when the log does not hold enough to say so.
        """
        judged = self.record.get("judged")
        if not isinstance(judged, dict):
            return None
        if self.floored:
            return frozenset({"floor"})
        try:
            self._decision(judged)(policy)
        except Denied as denied:
            found = denied.context["findings"]
            assert isinstance(found, list)
            return frozenset(item["rule"] for item in found if item["action"] == "deny")
        except (KeyError, TypeError, ValueError):  # msgspec's errors are ValueErrors
            return None
        return frozenset()

    def _decision(self, judged: Mapping[str, Any]) -> Callable[[Policy], object]:
        verb, target = str(self.record["verb"]), str(self.record["target"])
        identity = _identity(self.record["identity"])
        kind = judged["kind"]
        subject = _subject(judged.get("object"))
        if kind == "action":
            return lambda policy: admission.admit_action(identity, verb, target, policy, subject)
        if kind == "image":
            action = verb.removeprefix("image.")
            return lambda policy: admission.admit_image(identity, action, target, policy, subject)
        if kind == "build":
            build = _typed(self.parts[judged["build"]], BuildSpec)
            return lambda policy: admission.admit_build(identity, build, policy)
        if kind == "pull":
            served = _typed(self.parts[judged["image"]], ImageFacts)
            return lambda policy: admission.admit_pull(identity, served, policy)
        spec = self._spec(judged)
        if kind == "exec":
            request = ExecRequest((), user=judged["user"], privileged=judged["privileged"])
            return lambda policy: admission.admit_exec(identity, request, spec, policy)
        rules: Sequence[Rule] = RULES
        images: tuple[ImageFacts, ...] = ()
        if "images" in judged:
            images = _typed(self.parts[judged["images"]], tuple[ImageFacts, ...])
        if kind == "update":
            spec = replace(spec, resources=_typed(judged["resources"], Resources))
            rules = resources.RULES
        return lambda policy: admission.admit_offline(
            identity, spec, policy, verb=verb, rules=rules, image_facts=images
        )

    def _spec(self, judged: Mapping[str, Any]) -> ContainerSpec:
        spec = _typed(self.parts[judged["spec"]], ContainerSpec)
        profile = self.parts[judged["profile"]]
        return replace(spec, name=judged["name"], seccomp=replace(spec.seccomp, profile=profile))


def _typed(value: object, kind: type[T]) -> T:
    import msgspec

    return msgspec.convert(value, kind)


def _identity(value: Mapping[str, Any]) -> Identity:
    return Identity(
        value["source"], value["name"], uid=value["uid"], role=value["role"], uri=value.get("uri")
    )


def past(records: Iterator[Mapping[str, Any]]) -> Iterator[Past]:
    """The decisions among the lines of a log, in their order."""
    parts: dict[str, Any] = {}
    for record in records:
        found = record.get("parts")
        if isinstance(found, dict):
            parts.update(found)
        if "verb" in record:
            yield Past(record, parts)
