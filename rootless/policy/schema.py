"""The shape of a policy document, checked by Cerberus, with the place of every complaint."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from rootless.errors import InvalidInput
from rootless.linux.process import CAPABILITIES
from rootless.policy.documents import Document, InvalidPolicy, Path
from rootless.policy.fields import FIELDS, Field
from rootless.policy.podsecurity.checks import parse_standard
from rootless.policy.words import nearest, not_yet
from rootless.units import parse_seconds, parse_size

if TYPE_CHECKING:
    from cerberus import Validator

API_VERSION = "rootless.dev/v1alpha1"
_MAX_SHOWN = 24
MODES = ("enforce", "warn", "audit")


def _path(text: str) -> bool:
    return text.startswith("/") and "\0" not in text and ".." not in text.split("/")


def _home_path(text: str) -> bool:
    return _path(text) or text == "~" or (text.startswith("~/") and _path(text[1:]))


def _network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What policies and tests are called."""
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\*?|\*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_SELINUX = re.compile(r"[a-z][a-z0-9_]*")
_LEVEL = re.compile(r"s[0-9]+(-s[0-9]+)?(:c[0-9.,c]+)?")
_CALL = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_SYSCTL = re.compile(r"[a-z0-9_][A-Za-z0-9_./-]*\*?|\*")
_ACTION = re.compile(r"[a-z]+\.([a-z]+|\*)")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*\*?|\*")
_REGISTRY = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]+)?")
_REPOSITORY = re.compile(
    r"\*|(?P<host>[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9a-f:]+\](:[0-9]+)?)(\*|/(?P<path>[a-z0-9._/-]*)\*?)"
)
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _registry(text: str) -> bool:
    """A registry's host as it stands in full names: ``docker.io``, ``localhost:5000``."""
    return bool(_REGISTRY.fullmatch(text)) and _is_host(text)


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"


def _repository(text: str) -> bool:
    """A pattern of repositories' names in full: others would match nothing, in silence."""
    match = _REPOSITORY.fullmatch(text)
    if match is None:
        return False
    host, path = match["host"], match["path"]
    if path is None:  # * alone, or the beginning of a host
        return True
    whole = not text.endswith("*")
    if whole and (not path or path.endswith("/") or (host == "docker.io" and "/" not in path)):
        return False
    return _is_host(host)


_FORMATS: dict[str, tuple[Callable[[str], object], str]] = {
    "path": (_home_path, "an absolute path, or one that begins with ~/"),
    "network": (_network, "an IP address or network such as 127.0.0.0/8"),
    "sysctl": (_SYSCTL.fullmatch, "a sysctl's name, which may end with *"),
    "action": (_ACTION.fullmatch, "an action such as container.exec or image.*"),
    "image": (_IMAGE.fullmatch, "an image's name, which may end with *"),
    "registry": (_registry, "a registry's host, as docker.io or registry.example:5000"),
    "repository": (
        _repository,
        "a repository in full and without a tag (docker.io/library/nginx), which may end with *",
    ),
    "tag": (_TAG.fullmatch, "a tag, which may end with *"),
    "variable": (_VARIABLE.fullmatch, "a variable's name, which may end with *"),
    "label": (_LABEL.fullmatch, "a label's name"),
    "selinux": (_SELINUX.fullmatch, "an SELinux type such as container_t"),
    "level": (_LEVEL.fullmatch, "an SELinux level such as s0:c1,c2"),
    "call": (_CALL.fullmatch, "a system call's name"),
    "role": (_ROLE.fullmatch, "a role's name"),
    "standard": (parse_standard, "baseline or restricted, with @1.N for a revision"),
}


def _format_check(name: str) -> Callable[[str, Any, Callable[[str, str], None]], None]:
    good, wanted = _FORMATS[name]

    def check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
        if isinstance(value, str) and not good(value):
            error(key, f"{value!r} is not {wanted}")

    return check


def _extends_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    if not isinstance(value, str) or value == "none":
        return
    if value.startswith("builtin"):
        from rootless.policy.load import builtin_problem

        problem = builtin_problem(value)
        if problem:
            error(key, problem)
    elif not value.endswith((".yaml", ".yml", ".json")):
        error(key, f"{value!r} is no builtin:NAME, none, or a file that ends with .yaml")


def _number_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, bool):  # which Cerberus takes for an integer, as Python does
        error(key, "must be of type integer")


def _size_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, bool) or (isinstance(value, int) and value < 0):
        error(key, f"{value!r} is not a size")
    if isinstance(value, str):
        try:
            parse_size(value)
        except InvalidInput as problem:
            error(key, problem.message)


def _duration_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    try:
        seconds = parse_seconds(value) if isinstance(value, str) else value
    except InvalidInput as problem:
        error(key, problem.message)
        return
    if isinstance(value, bool) or not isinstance(seconds, int) or seconds < 1:
        error(key, f"{value!r} is not a time such as 90s, 4h or 30d, of a second at least")


def _trust_schema() -> dict[str, Any]:
    repositories = {
        "type": "list",
        "minlength": 1,
        "maxlength": 256,
        "schema": {"type": "string", "check_with": _format_check("repository")},
    }
    requirement = {
        "repositories": {**repositories, "required": True},
        "keys": {
            "type": "list",
            "minlength": 1,
            "maxlength": 64,
            "required": True,
            "schema": {"type": "string", "minlength": 1},
        },
        "minimum": {"type": "integer", "min": 1, "max": 64, "check_with": _number_check},
        "signedAs": repositories,
    }
    return {
        "type": "list",
        "maxlength": 256,
        "schema": {"type": "dict", "schema": requirement},
    }


def _field_schema(field: Field) -> dict[str, Any]:
    shape = field.kind.shape
    if shape == "trust":
        return _trust_schema()
    if shape == "list":
        member: dict[str, Any] = {"type": "string"}
        if field.values:
            member["allowed"] = list(field.values)
        if field.format:
            member["check_with"] = _format_check(field.format)
        return {"type": "list", "maxlength": 4096, "schema": member}
    if shape == "size":
        return {"type": ["string", "integer"], "check_with": _size_check}
    if shape == "duration":
        return {"type": ["string", "integer"], "check_with": _duration_check}
    if shape == "integer":
        return {"type": "integer", "min": 0, "max": field.top, "check_with": _number_check}
    return {"type": "boolean"}


def _inner_path_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, str) and not _path(value):
        error(key, f"{value!r} is not an absolute path in the container")


def _rule_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    """A rule's id, or the beginning of some with ``*``; not one that no policy decides on."""
    known = _rule_names()
    if not isinstance(value, str):
        return
    if value in _floor_names():
        error(key, f"{value!r} always denies: no policy can change that")
    elif value.endswith("*"):
        if not any(name.startswith(value[:-1]) for name in known):
            error(key, f"{value!r} is the beginning of no rule")
    elif value not in known:
        error(key, f"there is no rule {value!r}{nearest(value, known)}")


def _day_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    try:
        date.fromisoformat(value)
    except (TypeError, ValueError):
        error(key, f"{value!r} is not a day such as 2030-12-31")


def _pattern_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, str) and (not value or "*" in value[:-1]):
        error(key, f"{value!r} is no name: * can stand at its end only")


def _cpus_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    try:
        good = not isinstance(value, bool) and 0 < float(value) <= 4096
    except (TypeError, ValueError):
        good = False
    if not good:
        error(key, f"{value!r} is no number of CPUs")


@lru_cache(maxsize=1)
def _rule_names() -> tuple[str, ...]:
    from rootless.policy.rules import RULES

    return (*(rule.id for rule in RULES), "api.action", "api.role")


@lru_cache(maxsize=1)
def _floor_names() -> frozenset[str]:
    from rootless.policy.rules import RULES

    return frozenset(rule.id for rule in RULES if rule.floor)


def _patterns() -> dict[str, Any]:
    return {
        "type": "list",
        "minlength": 1,
        "maxlength": 256,
        "schema": {"type": "string", "check_with": _pattern_check},
    }


def _match() -> dict[str, Any]:
    names = ("images", "names", "labels", "identities", "roles")
    return {"type": "dict", "schema": {name: _patterns() for name in names}}


def _head(kind: str) -> dict[str, Any]:
    return {
        "apiVersion": {"type": "string", "allowed": [API_VERSION], "required": True},
        "kind": {"type": "string", "allowed": [kind], "required": True},
        "metadata": {
            "type": "dict",
            "required": True,
            "schema": {
                "name": {"type": "string", "regex": NAME.pattern, "required": True},
                "version": {"type": ["string", "integer"]},
                "description": {"type": "string"},
            },
        },
    }


def _exception() -> dict[str, Any]:
    text = {"type": "string", "minlength": 1, "maxlength": 4096, "required": True}
    return {
        "id": {"type": "string", "regex": "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"},
        "rules": {
            "type": "list",
            "minlength": 1,
            "required": True,
            "schema": {"type": "string", "check_with": _rule_check},
        },
        "match": _match(),
        "allow": _patterns(),
        "reason": text,
        "approvedBy": text,
        "expires": {"type": "string", "check_with": _day_check, "required": True},
    }


def _defaults() -> dict[str, Any]:
    return {
        "memory": {"type": ["string", "integer"], "check_with": _size_check},
        "cpus": {"type": ["string", "integer"], "check_with": _cpus_check},
        "pids": {"type": "integer", "min": 1, "max": 1 << 22, "check_with": _number_check},
        "userns": {"type": "string", "allowed": ["shared", "auto"]},
        "network": {"type": "string", "allowed": ["none", "slirp4netns", "bridge"]},
        "user": {"type": "string", "minlength": 1},
        "capDrop": {
            "type": "list",
            "schema": {"type": "string", "allowed": ["ALL", *CAPABILITIES]},
        },
    }


def _spec() -> dict[str, Any]:
    areas: dict[str, dict[str, Any]] = {}
    for key, field in FIELDS.items():
        area, name = key.split(".")
        if area != "landlock":
            areas.setdefault(area, {})[name] = _field_schema(field)
    # What is written as readOnly and readWrite is kept as what can be read and written.
    ports = {
        "type": "list",
        "schema": {"type": "integer", "min": 0, "max": 65535, "check_with": _number_check},
    }
    paths = {
        "type": "list",
        "maxlength": 4096,
        "schema": {"type": "string", "check_with": _inner_path_check},
    }
    areas["landlock"] = {
        "readOnly": paths,
        "readWrite": paths,
        "connectTcp": ports,
        "bindTcp": ports,
        "allowWithout": {"type": "boolean"},
    }
    return {area: {"type": "dict", "schema": fields} for area, fields in areas.items()}


def _policy_schema() -> dict[str, Any]:
    mode = {"type": "string", "allowed": list(MODES)}
    return {
        **_head("Policy"),
        "extends": {
            "type": ["string", "list"],
            "schema": {"type": "string", "check_with": _extends_check},
            "check_with": _extends_check,
        },
        "mode": mode,
        "selector": _match(),
        "rules": {
            "type": "dict",
            "keysrules": {"type": "string", "check_with": _rule_check},
            "valuesrules": {"type": "dict", "schema": {"mode": mode}},
        },
        "spec": {"type": "dict", "schema": _spec()},
        "defaults": {"type": "dict", "schema": _defaults()},
        "exceptions": {
            "type": "list",
            "maxlength": 1024,
            "schema": {"type": "dict", "schema": _exception()},
        },
    }


def _test_schema() -> dict[str, Any]:
    verdicts = ["pass", "warn", "fail", "not-understood"]
    case = {
        "name": {"type": "string", "minlength": 1, "required": True},
        "input": {"type": "string", "excludes": "file", "required": True},
        "file": {"type": "string", "excludes": "input", "required": True},
        "as": {"type": "string", "allowed": ["pod", "compose", "oci", "inspect", "run"]},
        "verdict": {"type": "string", "allowed": verdicts, "required": True},
        "rules": {"type": "list", "schema": {"type": "string", "check_with": _rule_check}},
    }
    return {
        **_head("PolicyTest"),
        "policy": {"type": "string", "required": True, "check_with": _extends_check},
        "cases": {
            "type": "list",
            "minlength": 1,
            "required": True,
            "schema": {"type": "dict", "schema": case},
        },
    }


_SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "Policy": _policy_schema,
    "PolicyTest": _test_schema,
    "Exception": lambda: {
        **_head("Exception"),
        "spec": {"type": "dict", "schema": _exception(), "required": True},
    },
}


@lru_cache(maxsize=4)
def _validator(kind: str) -> Validator:
    import cerberus

    return cerberus.Validator(_SCHEMAS[kind]())


def _leaves(errors: Any) -> Iterator[Any]:
    for error in errors:
        children = error.child_errors
        if children:
            yield from _leaves(children)
        else:
            yield error


def _message(error: Any, known: Mapping[str, Any]) -> str:
    name = error.document_path[-1] if error.document_path else ""
    if error.info and error.rule in {None, "check_with"}:
        return str(error.info[0])
    match error.rule:
        case None:
            reason = not_yet(tuple(error.document_path))
            if reason:
                return f"{name!r}: {reason}"
            close = ", ".join(sorted(known)) if known else ""
            hint = nearest(name, known)
            return f"unknown key {name!r}{hint}" + (f" (known are {close})" if close else "")
        case "required":
            return f"{name!r} is missing"
        case "type":
            wanted = error.constraint
            return f"must be of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "allowed":
            choices = list(map(str, error.constraint))
            shown = ", ".join(
                choices if len(choices) <= _MAX_SHOWN else [*choices[:_MAX_SHOWN], "…"]
            )
            return f"{error.value!r} is not one of {shown}{nearest(error.value, choices)}"
        case "min" | "max":
            return f"{error.value} is beyond the {error.rule}imum of {error.constraint}"
    return f"{error.value!r} breaks {error.rule} {error.constraint}"


def _known_keys(path: Path, kind: str) -> dict[str, Any]:
    """The keys an unknown one stands beside, for the message."""
    schema: Any = _SCHEMAS[kind]()
    for step in path[:-1]:
        if isinstance(step, int):
            continue  # an item of a list is what the list says of its items
        rules = schema.get(step) if hasattr(schema, "get") else None
        schema = (rules or {}).get("schema") if rules is not None else None
        if isinstance(schema, dict) and schema.get("type") == "dict":
            schema = schema["schema"]
        if schema is None:
            return {}
    return {str(key): None for key in schema}


def kind_of(document: Document) -> str:
    """Which of our kinds a document is; InvalidPolicy when it is none."""
    if not isinstance(document.value, dict):
        raise InvalidPolicy([f"{document.where(())}: a policy must be a mapping"])
    kind = document.value.get("kind", "Policy")
    if not isinstance(kind, str) or kind not in _SCHEMAS:
        known = ", ".join(_SCHEMAS)
        problem = f"kind {kind!r} is not one of {known}{nearest(str(kind), _SCHEMAS)}"
        raise InvalidPolicy([f"{document.where(('kind',))}: {problem}"])
    return kind


def validate(document: Document, kind: str | None = None) -> dict[str, Any]:
    """The document's value when its shape is right; else InvalidPolicy with every place."""
    found = kind_of(document)
    if kind is not None and found != kind:
        raise InvalidPolicy([f"{document.where(('kind',))}: a {kind} is wanted, not a {found}"])
    validator = _validator(found)
    value = cast("dict[str, Any]", document.value)
    if not validator.validate(value):
        complaints = []
        for error in _leaves(validator._errors):
            path = tuple(error.document_path)
            known = _known_keys(path, found) if error.rule is None else {}
            complaints.append(f"{document.where(path)}: {_message(error, known)}")
        raise InvalidPolicy(sorted(set(complaints)))
    return value


def expand_home(path: str, home: str) -> str:
    """A path with a leading ``~`` replaced."""
    return posixpath.normpath(home + path[1:] if path.startswith("~") else path)
