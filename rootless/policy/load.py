"""From policy files to the one merged policy that decides.

The layers: the administrator's ``/etc/rootless/policy.yaml`` and the user's
``policy.yaml`` (and those named in daemon.json), each of which extends the
built-in default policy unless it says ``extends: none``; without any file the
built-in default alone. Layers are merged by :func:`rootless.policy.policy.meet`,
so none can loosen another. A layer that exists and cannot be read or
understood refuses every request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, cast

from rootless.policy.documents import Document, InvalidPolicy, load_document
from rootless.policy.fields import FIELDS
from rootless.policy.kinds import Constraint
from rootless.policy.policy import Mode, Policy, meet
from rootless.policy.schema import expand_home, validate
from rootless.resources import resource_path
from rootless.units import parse_size

ADMIN_POLICY = Path("/etc/rootless/policy.yaml")
_MAX_SIZE = 1 << 20

_Stamp = tuple[str, int, int, int, int, int] | None


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """Where the layers are; files that do not exist are no layers. ``extra`` must exist."""

    user: Path
    admin: Path = ADMIN_POLICY
    extra: tuple[Path, ...] = ()


def _constraint(key: str, value: object, home: str) -> Constraint:
    field = FIELDS[key]
    if isinstance(value, list):
        members = frozenset(str(member) for member in value)
        if field.format == "path":
            members = frozenset(expand_home(member, home) for member in members)
        return field.kind.canonical(members)
    if field.kind.shape == "size" and isinstance(value, str):
        return parse_size(value)
    assert isinstance(value, int)
    return value


def build_policy(document: Document, *, home: str, shipped: bool = False) -> tuple[Policy, str]:
    """One document's own policy, and the name of the built-in policy it extends.

    ``shipped`` documents are validated by the tests instead of at every start
    of the daemon, where Cerberus would cost 100 ms.
    """
    value = cast("dict[str, Any]", document.value) if shipped else validate(document)
    constraints: dict[str, Constraint] = {}
    sources: dict[str, frozenset[str]] = {}
    for area, fields in (value.get("spec") or {}).items():
        for name, setting in fields.items():
            key = f"{area}.{name}"
            constraints[key] = _constraint(key, setting, home)
            line = document.positions["spec", area, name][0]
            sources[key] = frozenset({f"{document.name}:{line}"})
    mode: Mode = value.get("mode", "enforce")
    rules: dict[str, Mode] = {
        rule: settings["mode"]
        for rule, settings in value.get("rules", {}).items()
        if settings.get("mode", mode) != mode
    }
    policy = Policy(frozenset({value["metadata"]["name"]}), constraints, mode, rules, sources)
    return policy, value.get("extends", "builtin:default")


@lru_cache(maxsize=8)
def builtin(name: str, home: str) -> Policy:
    """A policy that ships with the engine: ``default`` or ``strict``, with what it extends."""
    text = resource_path("policies", f"{name}.yaml").read_text(encoding="utf-8")
    policy, extends = build_policy(load_document(text, f"builtin:{name}"), home=home, shipped=True)
    return _extended(policy, extends, home)


def _extended(policy: Policy, extends: str, home: str) -> Policy:
    """Meet with what is extended; the modes are those of the document that extends."""
    if extends == "none":
        return policy
    base = builtin(extends.removeprefix("builtin:"), home)
    return replace(meet(base, policy), mode=policy.mode, rule_modes=policy.rule_modes)


def load_policy(text: str, name: str, *, home: str) -> Policy:
    """A policy from text, with what it extends; ``name`` is the file for messages."""
    policy, extends = build_policy(load_document(text, name), home=home)
    return _extended(policy, extends, home)


def _stamp(path: Path) -> _Stamp:
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        raise InvalidPolicy([f"{path}:1:1: cannot be read: {error.strerror}"]) from error
    return (
        str(path), facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    )  # fmt: skip


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise InvalidPolicy([f"{path}:1:1: cannot be read: {error.strerror}"]) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidPolicy([f"{path}:1:1: not UTF-8 at byte {error.start}"]) from error


class PolicyStore:
    """The policy in force; three stat(2) calls when no file has changed."""

    def __init__(self, files: PolicyFiles, *, home: str) -> None:
        self._files = files
        self._home = home
        self._stamps: tuple[_Stamp, ...] | None = None
        self._policy: Policy | None = None

    def _paths(self) -> Iterator[tuple[Path, bool]]:
        yield self._files.admin, False
        yield self._files.user, False
        for path in self._files.extra:
            yield path, True

    def current(self) -> Policy:
        """The merged policy; raises InvalidPolicy as long as a file is wrong."""
        stamps = tuple(_stamp(path) for path, _ in self._paths())
        if self._policy is None or stamps != self._stamps:
            self._policy = None
            self._policy = self._load(stamps)
            self._stamps = stamps
        return self._policy

    def _load(self, stamps: tuple[_Stamp, ...]) -> Policy:
        layers = []
        complaints: list[str] = []
        for (path, required), stamp in zip(self._paths(), stamps, strict=True):
            if stamp is None and not required:
                continue
            try:
                layers.append(load_policy(_read(path), str(path), home=self._home))
            except InvalidPolicy as error:
                found = error.context["complaints"]
                assert isinstance(found, list)
                complaints += found
        if complaints:
            raise InvalidPolicy(complaints)
        return reduce(meet, layers) if layers else builtin("default", self._home)
