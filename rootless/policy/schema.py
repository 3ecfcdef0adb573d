"""The shape of a policy document, checked by Cerberus, with the place of every complaint."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from rootless.linux.process import CAPABILITIES
from rootless.model.verbs import VERBS
from rootless.policy import grants
from rootless.policy.documents import Document, InvalidPolicy, Path
from rootless.policy.fields import FIELDS, Field
from rootless.policy.formats import (
    NAME,
    duration_check,
    format_check,
    is_path,
    number_check,
    size_check,
)
from rootless.policy.inputs.read import shortened
from rootless.policy.reports.model import path_text
from rootless.policy.words import nearest

if TYPE_CHECKING:
    from cerberus import Validator

API_VERSION = "rootless.dev/v1alpha1"
_MAX_SHOWN = 24
MODES = ("enforce", "warn", "audit")


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


def _trust_schema() -> dict[str, Any]:
    repositories = {
        "type": "list",
        "minlength": 1,
        "maxlength": 256,
        "schema": {"type": "string", "check_with": format_check("repository")},
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
        "minimum": {"type": "integer", "min": 1, "max": 64, "check_with": number_check},
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
            member["check_with"] = format_check(field.format)
        return {"type": "list", "maxlength": 4096, "schema": member}
    if shape == "size":
        return {"type": ["string", "integer"], "check_with": size_check}
    if shape == "duration":
        return {"type": ["string", "integer"], "check_with": duration_check}
    if shape == "integer":
        return {"type": "integer", "min": 0, "max": field.top, "check_with": number_check}
    return {"type": "boolean"}


def _inner_path_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, str) and not is_path(value):
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

    return tuple(rule.id for rule in RULES)


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
        "memory": {"type": ["string", "integer"], "check_with": size_check},
        "cpus": {"type": ["string", "integer"], "check_with": _cpus_check},
        "pids": {"type": "integer", "min": 1, "max": 1 << 22, "check_with": number_check},
        "userns": {"type": "string", "allowed": ["shared", "auto"]},
        "network": {"type": "string", "allowed": ["none", "slirp4netns", "bridge"]},
        "egress": _field_schema(FIELDS["network.egress"]),
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
        if area != "landlock" and field.kind.shape != "grants":
            areas.setdefault(area, {})[name] = _field_schema(field)
    # What is written as readOnly and readWrite is kept as what can be read and written.
    ports = {
        "type": "list",
        "schema": {"type": "integer", "min": 0, "max": 65535, "check_with": number_check},
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
    areas["api"] |= {
        grants.ONE: _grant_list(),
        grants.SEVERAL: {"type": "list", "minlength": 1, "maxlength": 64, "schema": _grant_list()},
    }
    return {area: {"type": "dict", "schema": fields} for area, fields in areas.items()}


def _grant_list() -> dict[str, Any]:
    def words(format: str = "") -> dict[str, Any]:
        check = format_check(format) if format else _pattern_check
        member = {"type": "string", "check_with": check}
        return {"type": "list", "maxlength": 256, "schema": member}

    uids = {
        "type": "list",
        "schema": {"type": "integer", "min": 0, "max": (1 << 32) - 1, "check_with": number_check},
    }
    paths = {"type": "list", "schema": {"type": "string", "check_with": _inner_path_check}}
    grant = {
        "who": {
            "type": "dict",
            "schema": {
                "identities": words("caller"),
                "roles": words(),
                "exceptRoles": words(),
                "uids": uids,
            },
        },
        "verbs": {**words("action"), "required": True},
        "objects": {
            "type": "dict",
            "schema": {"names": words(), "labels": words(), "owners": words("caller")},
        },
        "limits": {
            "type": "dict",
            "schema": {
                "images": words("image"),
                "networks": words(),
                "mounts": paths,
                "paths": paths,
                "execUsers": words(),
                "execPrivileged": {"type": "boolean"},
            },
        },
    }
    return {"type": "list", "maxlength": 256, "schema": {"type": "dict", "schema": grant}}


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


def _action() -> dict[str, Any]:
    """A request that starts no container: who asks for what, on what, with what."""
    text = {"type": "string", "minlength": 1}
    texts = {"type": "list", "schema": {"type": "string"}}
    made = {
        "name": text,
        "image": text,
        "labels": {"type": "dict", "keysrules": text, "valuesrules": {"type": "string"}},
        "owner": text,
    }
    asked = dict.fromkeys(("images", "networks", "mounts", "paths", "execUsers"), texts)
    return {
        "by": {**text, "required": True},
        "verb": {"type": "string", "allowed": sorted(VERBS), "required": True},
        "object": {"type": "dict", "schema": made},
        "with": {"type": "dict", "schema": {**asked, "execPrivileged": {"type": "boolean"}}},
    }


def _image_schema() -> dict[str, Any]:
    """What an engine would know of the image of an input's containers."""
    text = {"type": "string", "minlength": 1}
    return {
        "age": {"type": ["string", "integer"], "check_with": duration_check},
        "size": {"type": ["string", "integer"], "check_with": size_check},
        "signedBy": {"type": "list", "maxlength": 64, "schema": text},
        "signedAs": {"type": "string", "check_with": format_check("repository")},
        "setuidFiles": {
            "type": "list",
            "schema": {"type": "string", "check_with": _inner_path_check},
        },
    }


def _test_schema() -> dict[str, Any]:
    verdicts = ["pass", "warn", "fail", "not-understood"]
    case = {
        "name": {"type": "string", "minlength": 1, "required": True},
        "input": {"type": "string", "excludes": ["file", "action"], "required": True},
        "file": {"type": "string", "excludes": ["input", "action"], "required": True},
        "action": {
            "type": "dict",
            "excludes": ["input", "file"],
            "required": True,
            "schema": _action(),
        },
        "as": {"type": "string", "allowed": ["pod", "compose", "oci", "inspect", "run"]},
        "image": {"type": "dict", "excludes": "action", "schema": _image_schema()},
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


def _needed(schema: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """What of a mapping's schema says something about ``value``: keys it has or must have.

    Cerberus checks the schema itself first, at the price of 80 ms for all of it.
    """
    found = {}
    for key, rules in schema.items():
        if key in value or rules.get("required"):
            item = value.get(key)
            if rules.get("type") == "dict" and "schema" in rules and isinstance(item, dict):
                found[key] = {**rules, "schema": _needed(rules["schema"], item)}
            else:
                found[key] = rules
    return found


def _validator(kind: str, value: Mapping[str, Any]) -> Validator:
    import cerberus

    return cerberus.Validator(_needed(_SCHEMAS[kind](), value))


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
            close = ", ".join(sorted(known)) if known else ""
            hint = nearest(name, known)
            return f"unknown key {name!r}{hint}" + (f" (known are {close})" if close else "")
        case "required":
            return f"{name!r} is missing"
        case "type":
            wanted = [error.constraint] if isinstance(error.constraint, str) else error.constraint
            types = " or ".join("mapping" if name == "dict" else name for name in wanted)
            return f"must be of type {types}, not {shortened(repr(error.value))}"
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
    value = cast("dict[str, Any]", document.value)
    validator = _validator(found, value)
    if not validator.validate(value):
        complaints = set()
        for error in _leaves(validator._errors):
            path = tuple(error.document_path)
            known = _known_keys(path, found) if error.rule is None else {}
            shown = path_text(path) or "the document"
            text = f"{document.where(path)}: {shown}: {_message(error, known)}"
            complaints.add((document.position(path), text))
        raise InvalidPolicy([text for _, text in sorted(complaints)])
    return value


def expand_home(path: str, home: str) -> str:
    """A path with a leading ``~`` replaced."""
    return posixpath.normpath(home + path[1:] if path.startswith("~") else path)
