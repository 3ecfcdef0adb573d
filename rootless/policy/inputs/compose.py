"""Compose files (compose-spec.io): each service is a container."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rootless.model.mounts import MountSpec
from rootless.policy.inputs.composebuild import rooted
from rootless.policy.inputs.composenetworks import ProjectNetworks, project_networks
from rootless.policy.inputs.composeservice import service_container
from rootless.policy.inputs.interpolate import interpolate
from rootless.policy.inputs.read import (
    MAX_CONTAINERS,
    InputDocument,
    NotUnderstood,
    Path,
    read_documents,
)
from rootless.policy.inputs.unit import Container, Remark, Unit

_TOP = frozenset("version name services networks volumes configs secrets include models".split())
_PARTS = ("volumes", "networks", "configs", "secrets")
_MAX_FILES = 32
_MAX_DEPTH = 8
_MOST_NAMES = 5
"""Services that one message names."""
_MAX_FILE = 4 << 20


def is_compose(value: Any) -> bool:
    """Whether a document is a compose file, or a part of one: no Kubernetes object."""
    if not isinstance(value, dict) or ("apiVersion" in value and "kind" in value):
        return False
    return "services" in value or "include" in value or _is_part(value)


def _is_part(value: dict[str, Any]) -> bool:
    """Whether there are only volumes, networks …: what an override may consist of."""
    known = all(key in _TOP or key.startswith("x-") for key in value)
    return known and any(isinstance(value.get(key), dict) for key in _PARTS)


def units_of(document: InputDocument, directory: str | None) -> Iterator[Unit]:
    """The project, and those it includes. ``directory`` is the file's, None for standard input."""
    yield from _Project(directory).units(document, 0)


class _Project:
    def __init__(self, directory: str | None) -> None:
        self.directory = directory
        self.files: dict[str, InputDocument] = {}
        self.included: set[str] = set()
        """Files that are judged already: an include that comes back is not judged again."""

    def units(self, document: InputDocument, depth: int) -> Iterator[Unit]:
        problems: list[NotUnderstood] = []
        value: dict[str, Any] = document.value
        for key in value:
            if key not in _TOP and not key.startswith("x-"):
                problems.append(NotUnderstood(f"a compose file has no {key!r}", path=(key,)))
        containers = list(self._containers(document, problems))
        included = list(self._included(document, depth, problems))
        if not containers and not value.get("include") and not problems:
            problems.append(NotUnderstood("there is no service", path=("services",)))
        name = value.get("name") if isinstance(value.get("name"), str) else ""
        remarks = (
            *_device_volumes(value, problems),
            *_shared_volumes(containers),
            *_empty_deploy(value, containers),
            *_second_restart(value, containers),
        )
        yield Unit(
            document, "Compose", name or "", tuple(containers), None, remarks, tuple(problems)
        )
        for other in included:
            yield from self.units(other, depth + 1)

    def _containers(
        self, document: InputDocument, problems: list[NotUnderstood]
    ) -> Iterator[Container]:
        services = document.value.get("services")
        if services is None:
            return
        if not isinstance(services, dict):
            problems.append(NotUnderstood("services must be a mapping", path=("services",)))
            return
        if len(services) > MAX_CONTAINERS:
            message = f"more than {MAX_CONTAINERS} services"
            problems.append(NotUnderstood(message, path=("services",)))
            return
        volumes = document.value.get("volumes")
        declared = volumes if isinstance(volumes, dict) else {}
        networks = project_networks(document.value, self.directory)
        for name in services:
            path: Path = ("services", name)
            found: list[NotUnderstood] = []
            try:
                service = self._service(document, name, self.directory, ())
                yield service_container(name, service, declared, path, networks, problems=found)
                yield from _before(name, service, declared, path, networks, problems=found)
            except NotUnderstood as problem:
                found.append(problem)
            for one in found:
                where = one.path if one.path and one.path[0] == "services" else path
                problems.append(NotUnderstood(one.message, path=where))

    def _service(
        self,
        document: InputDocument,
        name: str,
        directory: str | None,
        chain: tuple[tuple[str, str], ...],
    ) -> dict[str, Any]:
        """A service with its variables replaced and what it extends merged in."""
        path: Path = ("services", name)
        services = document.value.get("services")
        if not isinstance(services, dict) or name not in services:
            raise NotUnderstood(f"there is no service {name!r} to extend")
        service = services[name]
        if service is None and document.tagged:
            service = {}
        if not isinstance(service, dict):
            raise NotUnderstood("a service must be a mapping", path=path)
        found: dict[str, Any] = interpolate(service, path)
        if "build" in found:
            found["build"] = rooted(found["build"], directory)
        extends = found.pop("extends", None)
        if extends is None:
            return found
        place = (document.file, name)
        if place in chain or len(chain) >= _MAX_DEPTH:
            raise NotUnderstood("services extend each other in a circle", path=(*path, "extends"))
        try:
            base = self._base(document, extends, directory, (*chain, place))
        except NotUnderstood as problem:
            raise NotUnderstood(problem.message, path=(*path, "extends")) from problem
        result: dict[str, Any] = merged(base, found)
        return result

    def _base(
        self,
        document: InputDocument,
        extends: Any,
        directory: str | None,
        chain: tuple[tuple[str, str], ...],
    ) -> dict[str, Any]:
        if isinstance(extends, str):
            extends = {"service": extends}
        if not isinstance(extends, dict) or not isinstance(extends.get("service"), str):
            raise NotUnderstood("extends must name a service")
        file = extends.get("file")
        if file is None:
            return self._service(document, extends["service"], directory, chain)
        other = self._open(file, directory)
        return self._service(other, extends["service"], os.path.dirname(other.file), chain)

    def _included(
        self, document: InputDocument, depth: int, problems: list[NotUnderstood]
    ) -> Iterator[InputDocument]:
        include = document.value.get("include")
        if include is None:
            return
        if not isinstance(include, list):
            problems.append(NotUnderstood("include must be a list", path=("include",)))
            return
        base = os.path.dirname(document.file) if document.file else self.directory
        for index, entry in enumerate(include):
            paths = entry.get("path") if isinstance(entry, dict) else entry
            for file in paths if isinstance(paths, list) else [paths]:
                try:
                    if depth >= _MAX_DEPTH:
                        raise NotUnderstood("includes are nested too deeply")
                    found = self._open(interpolate(file, ()), base)
                    name = os.path.normpath(found.file)
                    if name not in self.included:
                        self.included.add(name)
                        yield found
                except NotUnderstood as problem:
                    problems.append(NotUnderstood(problem.message, path=("include", index)))

    def _open(self, file: Any, directory: str | None) -> InputDocument:
        if not isinstance(file, str) or not file:
            raise NotUnderstood("a file's name must be a string")
        if "://" in file or file.startswith("git@"):
            raise NotUnderstood(f"{file} is not a local file; only those are read")
        if directory is None:
            raise NotUnderstood(f"{file} is beside a file, and this is standard input")
        path = os.path.join(directory, file)
        if path not in self.files:
            if len(self.files) >= _MAX_FILES:
                raise NotUnderstood(f"more than {_MAX_FILES} files")
            self.files[path] = _load(path)
        return self.files[path]


def _load(path: str) -> InputDocument:
    try:
        if not os.path.isfile(path):
            raise NotUnderstood(f"{path} is not a file")
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise NotUnderstood(f"{path}: {error.strerror}") from error
    if len(data) > _MAX_FILE:
        raise NotUnderstood(f"{path} has more than {_MAX_FILE} bytes")
    try:
        document = read_documents(data)[0]
    except NotUnderstood as problem:
        line, column = problem.place or (1, 1)
        raise NotUnderstood(f"{path}:{line}:{column}: {problem.message}") from problem
    if not is_compose(document.value):
        raise NotUnderstood(f"{path} is not a compose file")
    return replace(document, file=path)


def merged(base: Any, own: Any) -> Any:
    """Compose's merge: mappings by key, lists one after the other, the rest by ``own``."""
    if isinstance(base, dict) and isinstance(own, dict):
        result = dict(base)
        for key, value in own.items():
            replaces = key in {"command", "entrypoint", "test"} or key not in base
            result[key] = value if replaces else merged(base[key], value)
        return result
    if isinstance(base, list) and isinstance(own, list):
        return [*base, *(item for item in own if item not in base)]
    return base if own is None else own


def _before(
    name: str,
    service: dict[str, Any],
    declared: dict[str, Any],
    path: Path,
    networks: ProjectNetworks,
    *,
    problems: list[NotUnderstood],
) -> Iterator[Container]:
    """The containers with an image of their own that run before a service's."""
    hooks = service.get("pre_start")
    for index, hook in enumerate(hooks if isinstance(hooks, list) else ()):
        if isinstance(hook, dict) and hook.get("image"):
            like = {key: value for key, value in service.items() if key != "pre_start"}
            changed = {key: hook[key] for key in ("image", "user") if key in hook}
            title = f"{name}.pre_start[{index}]"
            wrong: list[NotUnderstood] = []
            found = service_container(
                title, {**like, **changed}, declared, path, networks, problems=wrong
            )
            if not problems:  # else they are those of the service itself
                problems += wrong
            place = (*path, "pre_start", index, "image")
            yield replace(found, places={**found.places, ("Config.Image",): place})


def _device_volumes(value: dict[str, Any], problems: list[NotUnderstood]) -> Iterator[Remark]:
    """Named volumes that are a directory of the host in truth."""
    volumes = value.get("volumes")
    if volumes is None:
        return
    if not isinstance(volumes, dict):
        problems.append(NotUnderstood("volumes must be a mapping", path=("volumes",)))
        return
    for name, volume in volumes.items():
        options = volume.get("driver_opts") if isinstance(volume, dict) else None
        for key in ("device", "mountpoint"):
            found = options.get(key) if isinstance(options, dict) else None
            if not isinstance(found, str):
                continue
            path: Path = ("volumes", name, "driver_opts", key)
            try:
                source = interpolate(found, path)
            except NotUnderstood as problem:
                problems.append(problem)
                continue
            yield Remark("cis-docker.5.6", path, source, "the volume is a directory of the host")


def _empty_deploy(value: dict[str, Any], containers: list[Container]) -> Iterator[Remark]:
    """``deploy:`` with nothing in it, where somebody meant to write limits."""
    for container in containers:
        service = value["services"].get(container.name)
        if not isinstance(service, dict) or service.get("deploy", "") is not None:
            continue
        found = container.spec.resources
        path: Path = ("services", container.name, "deploy")
        for rule, field, limited in (
            ("cis-docker.5.11", "HostConfig.Memory", found.memory),
            ("cis-docker.5.12", "HostConfig.NanoCpus", found.nano_cpus or found.cpu_shares),
        ):
            if not limited:
                yield Remark(rule, path, "unlimited", "deploy is empty and limits nothing", field)


def _second_restart(value: dict[str, Any], containers: list[Container]) -> Iterator[Remark]:
    """``deploy.restart_policy`` beside ``restart``, which is what Swarm would go by."""
    for container in containers:
        service = value["services"].get(container.name)
        found = service.get("deploy") if isinstance(service, dict) else None
        policy = found.get("restart_policy") if isinstance(found, dict) else None
        if not isinstance(policy, dict) or not service.get("restart"):
            continue
        attempts = policy.get("max_attempts")
        if policy.get("condition") == "on-failure" and attempts not in (None, 5, "5"):
            place = ("services", container.name, "deploy", "restart_policy", "max_attempts")
            message = "the text asks for on-failure:5"
            field = "HostConfig.RestartPolicy"
            yield Remark("cis-docker.5.15", place, f"on-failure:{attempts}", message, field)


def _shared_volumes(containers: list[Container]) -> Iterator[Remark]:
    """Volumes that more than one service mounts."""
    users: dict[str, set[str]] = {}
    for container in containers:
        for mount in container.spec.mounts:
            users.setdefault(_shared_name(mount), set()).add(container.name)
    for container in containers:
        for mount in container.spec.mounts:
            key = _shared_name(mount)
            if key and len(users[key]) > 1:
                others = _listed(sorted(users[key] - {container.name}))
                path = container.path(("HostConfig.Mounts", mount.target))
                yield Remark("mounts.shared-volume", path, key, f"{others} mounts it as well")


def _shared_name(mount: MountSpec) -> str:
    """What two mounts of the same thing have in common, '' for what cannot be shared."""
    if mount.volume_name or not mount.source:
        return mount.volume_name
    path = posixpath.normpath(mount.source)
    return path if path.startswith(("/", "~", "..")) else f"./{path}".removesuffix("/.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
