"""The shape of a policy document, checked by Cerberus, with the place of every complaint."""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rootless.errors import InvalidInput
from rootless.policy.documents import Document, InvalidPolicy, Path
from rootless.policy.fields import FIELDS, Field
from rootless.policy.podsecurity.checks import parse_standard
from rootless.units import parse_size

if TYPE_CHECKING:
    from cerberus import Validator

API_VERSION = "rootless.dev/v1alpha1"
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


_SYSCTL = re.compile(r"[a-z0-9_][A-Za-z0-9_./-]*\*?|\*")
_ACTION = re.compile(r"[a-z]+\.([a-z]+|\*)")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*\*?|\*")
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

_FORMATS: dict[str, tuple[Callable[[str], object], str]] = {
    "path": (_home_path, "an absolute path, or one that begins with ~/"),
    "network": (_network, "an IP address or network such as 127.0.0.0/8"),
    "sysctl": (_SYSCTL.fullmatch, "a sysctl's name, which may end with *"),
    "action": (_ACTION.fullmatch, "an action such as container.exec or image.*"),
    "image": (_IMAGE.fullmatch, "an image's name, which may end with *"),
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


def _field_schema(field: Field) -> dict[str, Any]:
    shape = field.kind.shape
    if shape == "list":
        member: dict[str, Any] = {"type": "string"}
        if field.values:
            member["allowed"] = list(field.values)
        if field.format:
            member["check_with"] = _format_check(field.format)
        return {"type": "list", "maxlength": 4096, "schema": member}
    if shape == "size":
        return {"type": ["string", "integer"], "check_with": _size_check}
    if shape == "integer":
        return {"type": "integer", "min": 0, "max": field.top, "check_with": _number_check}
    return {"type": "boolean"}


@lru_cache(maxsize=1)
def _validator() -> Validator:
    import cerberus

    areas: dict[str, dict[str, Any]] = {}
    for key, field in FIELDS.items():
        area, name = key.split(".")
        areas.setdefault(area, {})[name] = _field_schema(field)
    from rootless.policy.rules import RULES

    names = [rule.id for rule in RULES]
    rule = {"type": "dict", "schema": {"mode": {"type": "string", "allowed": list(MODES)}}}
    schema: dict[str, Any] = {
        "apiVersion": {"type": "string", "allowed": [API_VERSION], "required": True},
        "kind": {"type": "string", "allowed": ["Policy"], "required": True},
        "metadata": {
            "type": "dict",
            "required": True,
            "schema": {
                "name": {"type": "string", "regex": "[a-z0-9][a-z0-9-]{0,62}", "required": True},
                "description": {"type": "string"},
            },
        },
        "extends": {
            "type": ["string", "list"],
            "schema": {"type": "string", "check_with": _extends_check},
            "check_with": _extends_check,
        },
        "mode": {"type": "string", "allowed": list(MODES)},
        "rules": {
            "type": "dict",
            "keysrules": {"type": "string", "allowed": names},
            "valuesrules": rule,
        },
        "spec": {
            "type": "dict",
            "schema": {area: {"type": "dict", "schema": f} for area, f in areas.items()},
        },
    }
    return cerberus.Validator(schema)


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
            return f"unknown key {name!r}" + (f" (known are {close})" if close else "")
        case "required":
            return f"{name!r} is missing"
        case "type":
            wanted = error.constraint
            return f"must be of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "allowed":
            return f"{error.value!r} is not one of {', '.join(map(str, error.constraint))}"
        case "min" | "max":
            return f"{error.value} is beyond the {error.rule}imum of {error.constraint}"
    return f"{error.value!r} breaks {error.rule} {error.constraint}"


def _known_keys(path: Path) -> dict[str, Any]:
    """The keys an unknown one stands beside, for the message."""
    schema: Any = _validator().schema
    for step in path[:-1]:
        rules = schema.get(step) if hasattr(schema, "get") else None
        schema = (rules or {}).get("schema") if rules is not None else None
        if schema is None:
            return {}
    return {str(key): None for key in schema}


def validate(document: Document) -> dict[str, Any]:
    """The document's value when its shape is right; else InvalidPolicy with every place."""
    if not isinstance(document.value, dict):
        raise InvalidPolicy([f"{document.where(())}: a policy must be a mapping"])
    validator = _validator()
    value: dict[str, Any] = document.value
    if not validator.validate(value):
        complaints = []
        for error in _leaves(validator._errors):
            path = tuple(error.document_path)
            known = _known_keys(path) if error.rule is None else {}
            complaints.append(f"{document.where(path)}: {_message(error, known)}")
        raise InvalidPolicy(sorted(set(complaints)))
    return value


def expand_home(path: str, home: str) -> str:
    """A path with a leading ``~`` replaced."""
    return posixpath.normpath(home + path[1:] if path.startswith("~") else path)
