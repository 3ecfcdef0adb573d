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
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, cast

from rootless.model.roles import ROLES
from rootless.policy import trust
from rootless.policy.clauses import (
    check_defaults,
    layered,
    read_defaults,
    read_excuses,
    read_landlock,
)
from rootless.policy.documents import Document, InvalidPolicy, load_document, load_documents
from rootless.policy.fields import FIELDS
from rootless.policy.grants import read_area
from rootless.policy.kinds import Constraint
from rootless.policy.podsecurity.checks import canonical_standard, parse_standard
from rootless.policy.policy import Mode, Policy, meet
from rootless.policy.schema import expand_home, kind_of, validate
from rootless.publickeys import MAX_PEM
from rootless.resources import resource_path
from rootless.units import parse_seconds, parse_size

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
    if field.kind.shape == "duration" and isinstance(value, str):
        return parse_seconds(value)
    assert isinstance(value, int)
    return value


def build_policy(
    document: Document, *, home: str, shipped: bool = False, files: set[str] | None = None
) -> tuple[Policy, tuple[str, ...]]:
    """One document's own policy, and what it extends; ``files`` collects those of its keys.

    ``shipped`` documents are validated by the tests instead of at every start
    of the daemon, where Cerberus would cost 100 ms.
    """
    value = cast("dict[str, Any]", document.value) if shipped else validate(document, "Policy")
    constraints: dict[str, Constraint] = {}
    sources: dict[str, frozenset[str]] = {}
    spec = dict(value.get("spec") or {})
    if "landlock" in spec:
        spec["landlock"], places = read_landlock(spec["landlock"])
        sources |= {
            f"landlock.{name}": frozenset({document.where(("spec", "landlock", *written))})
            for name, written in places.items()
        }
    if "api" in spec:
        spec["api"], word = read_area(spec["api"])
        if "grants" in spec["api"]:
            sources["api.grants"] = frozenset({document.where(("spec", "api", word))})
    for area, fields in spec.items():
        for name, setting in fields.items():
            key = f"{area}.{name}"
            if key == trust.KEY:
                constraints[key] = trust.read_trust(document, setting, _key_reader(files))
            else:
                constraints[key] = _constraint(key, setting, home)
            sources.setdefault(key, frozenset({document.where(("spec", area, name))}))
    mode: Mode = value.get("mode", "enforce")
    rules: dict[str, Mode] = {
        rule: settings["mode"]
        for rule, settings in value.get("rules", {}).items()
        if settings.get("mode", mode) != mode
    }
    defaults = read_defaults(value.get("defaults") or {})
    for name in defaults:
        sources[f"defaults.{name}"] = frozenset({document.where(("defaults", name))})
    policy = Policy(
        frozenset({value["metadata"]["name"]}), constraints, mode, rules, sources,
        defaults=defaults,
    )  # fmt: skip
    extends = value.get("extends", "builtin:default")
    return policy, tuple(extends) if isinstance(extends, list) else (extends,)


def _key_reader(files: set[str] | None) -> Callable[[str], str]:
    """Reads key files, and remembers which."""

    def read(path: str) -> str:
        if files is not None:
            files.add(path)
        with open(path, "rb") as file:
            return file.read(MAX_PEM + 1).decode("ascii", "replace")

    return read


_OF_ROLES = frozenset(f"role-{role}" for role in ROLES)
BUILTINS = (
    "ci-runner",
    "cis-docker",
    "default",
    "pss-baseline",
    "pss-restricted",
    "restricted",
    *sorted(_OF_ROLES),
    "roles",
    "strict",
)
_BUILTIN = re.compile(r"builtin:(?P<name>[a-z-]+)(@(?P<version>[a-z0-9.]+))?")
_MAX_CHAIN = 16


@lru_cache(maxsize=32)
def builtin(name: str, home: str, version: str = "") -> Policy:
    """A policy that ships with the engine, with what it extends; its ``version`` was checked."""
    text = resource_path("policies", f"{name}.yaml").read_text(encoding="utf-8")
    policy, extends = build_policy(load_document(text, f"builtin:{name}"), home=home, shipped=True)
    if version and name.startswith("pss-"):
        standard = canonical_standard(f"{name.removeprefix('pss-')}@{version}")
        policy = replace(
            policy,
            names=frozenset({f"{name}@{version}"}),
            constraints={**policy.constraints, "podSecurity.require": frozenset({standard})},
        )
    found = _extended(policy, extends, home, (), set())
    # Records name a policy by what was chosen; the roles are in every one that decides.
    return replace(found, names=(found.names - _OF_ROLES) | policy.names)


def load_named(reference: str, *, home: str, where: str) -> Policy:
    """The policy ``builtin:NAME`` or ``builtin:NAME@VERSION``; ``where`` is for the complaint."""
    problem = builtin_problem(reference)
    if problem:
        raise InvalidPolicy([f"{where}: {problem}"])
    match = _BUILTIN.fullmatch(reference)
    assert match is not None
    return builtin(match["name"], home, match["version"] or "")


def builtin_problem(reference: str) -> str:
    """What is wrong with a built-in's name and version, '' when nothing is."""
    match = _BUILTIN.fullmatch(reference)
    if match is None or match["name"] not in BUILTINS:
        known = ", ".join(f"builtin:{name}" for name in BUILTINS)
        near = get_close_matches(reference, [f"builtin:{name}" for name in BUILTINS], 1)
        hint = f", did you mean {near[0]}?" if near else ""
        return f"there is no {reference!r}{hint} (known are {known})"
    name, version = match["name"], match["version"]
    if version is None:
        return ""
    if name.startswith("pss-"):
        if parse_standard(f"{name.removeprefix('pss-')}@{version}") is None:
            return (
                f"{version!r} is no revision of {name}: write @1.N as Kubernetes counts, or @latest"
            )
        return ""
    return "" if version == "1" else f"{name} has the version 1 only, not {version!r}"


def _extended(
    policy: Policy, extends: tuple[str, ...], home: str, chain: tuple[str, ...], files: set[str]
) -> Policy:
    """Meet with what is extended; the modes are those of the document that extends.

    ``files`` collects the files that were read, ``chain`` is how this one was reached.
    """
    bases = _bases(extends, home, chain, files)
    if not bases:
        return policy
    merged = reduce(meet, [*bases, policy])
    return replace(merged, mode=policy.mode, rule_modes=policy.rule_modes)


def _bases(
    extends: tuple[str, ...], home: str, chain: tuple[str, ...], files: set[str]
) -> list[Policy]:
    bases = []
    for reference in extends:
        if reference.startswith("builtin:"):
            bases.append(load_named(reference, home=home, where=chain[-1] if chain else reference))
        elif reference != "none":
            bases.append(_from_file(reference, home, chain, files))
    return bases


def _from_file(reference: str, home: str, chain: tuple[str, ...], files: set[str]) -> Policy:
    here = os.path.dirname(chain[-1]) if chain else ""
    path = os.path.normpath(os.path.join(here, expand_home(reference, home)))
    if path in chain or len(chain) >= _MAX_CHAIN:
        raise InvalidPolicy([f"{chain[-1]}:1:1: extends goes in a circle: {' > '.join(chain)}"])
    files.add(path)
    return load_policy(_read(Path(path)), path, home=home, chain=chain, files=files)


def load_policy(
    text: str,
    name: str,
    *,
    home: str,
    chain: tuple[str, ...] = (),
    files: set[str] | None = None,
) -> Policy:
    """A policy from text, with what it extends; ``name`` is its file.

    ``files``, when given, collects the names of further files it was made from.
    """
    main, others = _documents(text, name)
    policy, extends = build_policy(main, home=home, files=files)
    extended = _extended(policy, extends, home, (*chain, name), set() if files is None else files)
    return layered(extended, main, read_excuses(main, others))


def load_parts(text: str, name: str, *, home: str) -> tuple[Policy, list[Policy]]:
    """A file's own policy, without its selector, and what it extends."""
    main, _ = _documents(text, name)
    policy, extends = build_policy(main, home=home)
    return policy, _bases(extends, home, (name,), set())


def _documents(text: str, name: str) -> tuple[Document, list[Document]]:
    """A file's Policy, and its Exceptions."""
    documents = load_documents(text, name)
    kinds = [kind_of(document) for document in documents]
    if kinds.count("Policy") != 1 or "PolicyTest" in kinds:
        wanted = "one Policy, and Exceptions with it"
        raise InvalidPolicy([f"{name}:1:1: {wanted}, not {', '.join(kinds)}"])
    others = [d for d, k in zip(documents, kinds, strict=True) if k != "Policy"]
    return documents[kinds.index("Policy")], others


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
    """The policy in force; one stat(2) call for each of its files when none has changed."""

    def __init__(self, files: PolicyFiles, *, home: str) -> None:
        self._files = files
        self._home = home
        self._stamps: tuple[_Stamp, ...] | None = None
        self._policy: Policy | None = None
        self._extended: tuple[Path, ...] = ()

    def _paths(self) -> Iterator[tuple[Path, bool]]:
        yield self._files.admin, False
        yield self._files.user, False
        for path in self._files.extra:
            yield path, True

    def _stamp_all(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(p) for p in (*(p for p, _ in self._paths()), *self._extended))

    def current(self) -> Policy:
        """The merged policy; raises InvalidPolicy as long as a file is wrong."""
        stamps = self._stamp_all()
        if self._policy is None or stamps != self._stamps:
            self._policy = None
            policy, extended = self._load(stamps)
            while extended != self._extended:
                # Read again: what is new among the files may have changed before it was known.
                self._extended = extended
                stamps = self._stamp_all()
                policy, extended = self._load(stamps)
            self._policy, self._stamps = policy, stamps
        return self._policy

    def _load(self, stamps: tuple[_Stamp, ...]) -> tuple[Policy, tuple[Path, ...]]:
        layers = []
        complaints: list[str] = []
        extended: set[str] = set()
        for (path, required), stamp in zip(self._paths(), stamps, strict=False):
            if stamp is None and not required:
                continue
            try:
                text = _read(path)
                layers.append(load_policy(text, str(path), home=self._home, files=extended))
            except InvalidPolicy as error:
                found = error.context["complaints"]
                assert isinstance(found, list)
                complaints += found
        if complaints:
            raise InvalidPolicy(complaints)
        policy = reduce(meet, layers) if layers else builtin("default", self._home)
        check_defaults(policy)
        return policy, tuple(sorted(map(Path, extended)))
