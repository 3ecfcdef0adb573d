"""Recorded answers against Docker's description of its API.

What is wrong: a status the endpoint does not declare, another content type, a body
that is no JSON, a missing required field, a wrong type or enum value, a field nobody
described. Docker's description is Swagger 2 with ``x-nullable``; here it becomes JSON
Schema once and is compiled by endpoint and status when first needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from tests.support.shared import api_description

ANYWHERE = frozenset((400, 403))
"""Statuses of every endpoint: a wrong request or version, and what the policy forbids."""

ALSO: Mapping[str, tuple[int, ...]] = {
    # What is done with a container may find it in the wrong state, or on its way out.
    "/containers/{id}": (409,),
    # A disk may be full.
    "/exec/{id}": (409, 500),
    # A log that is only sent away cannot be read: what Docker answers, undeclared.
    "/containers/{id}/logs": (501,),
    "/containers/{id}/attach": (501,),
    # A registry may not know the name, or not answer.
    "/distribution/": (404, 503),
    "/images/create": (401, 503),
    "/images/{name}/push": (401, 503),
    "/images/search": (404, 503),
    # A name that is taken.
    "/networks/create": (409,),
    # An image that is to be saved may not be there.
    "/images/get": (404,),
    "/images/{name}/get": (404,),
    "/auth": (503,),
    # What a filter or a parameter names may not be there.
    "/containers/json": (404,),
    "/images/json": (404,),
    # A driver that is not there, a name with other options.
    "/volumes/create": (404, 409),
}
"""Statuses that Docker's daemon answers with and its description forgets, by how paths begin."""

UNDESCRIBED: Mapping[str, tuple[str, ...]] = {
    # Docker's daemon has these fields, its description has dropped or never had them.
    "ContainerInspectResponse": ("Rootless",),
    "SystemInfo": ("Rootless", "BridgeNfIptables", "BridgeNfIp6tables"),
    # Older versions of the API had these.
    "Commit": ("Expected",),
    "ImageSummary": ("VirtualSize",),
    "ImageInspect": ("VirtualSize",),
    "EventMessage": ("status", "id", "from"),
}
"""Fields by definition that are not in the description."""

_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
"""RFC 3339."""

JSON_LINES = frozenset(
    (("GET", "/events"), ("GET", "/containers/{id}/stats"), ("POST", "/images/create"),
     ("POST", "/images/{name}/push"), ("POST", "/images/load"))
)  # fmt: skip
"""Endpoints whose body is one JSON value after another."""


class Description:
    """The description, compiled."""

    def __init__(self, path: Path) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._document = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
        self._validators: dict[tuple[str, str, int], Any] = {}
        self._rows = [
            (method.upper(), _pattern(template), template)
            for template in sorted(self._document["paths"], key=_specific)
            for method in self._document["paths"][template]
        ]

    def paths(self) -> Iterator[tuple[str, str]]:
        """Every (METHOD, path template)."""
        for path, methods in self._document["paths"].items():
            for method in methods:
                yield method.upper(), path

    def parameters(self, method: str, path: str, place: str) -> Iterator[str]:
        """The names of an endpoint's parameters in ``query``, ``header`` or ``path``."""
        for parameter in self._parameters(method, path):
            if parameter["in"] == place:
                yield parameter["name"]

    def body_fields(self, method: str, path: str) -> Iterator[str]:
        """The paths of all fields of an endpoint's body; ``[]`` for items, ``{}`` for values."""
        for parameter in self._parameters(method, path):
            if parameter["in"] == "body":
                yield from self._fields(parameter["schema"], "")

    def _parameters(self, method: str, path: str) -> Iterator[dict[str, Any]]:
        for found in self._document["paths"][path][method.lower()].get("parameters", ()):
            yield self._resolve(found)

    def _fields(self, schema: dict[str, Any], prefix: str) -> Iterator[str]:
        schema = self._resolve(schema)
        properties, _ = self._merged(schema)
        for name, inner in properties.items():
            yield prefix + name
            yield from self._fields(inner, f"{prefix}{name}.")
        if "items" in schema:
            yield from self._fields(schema["items"], f"{prefix[:-1]}[].")
        if isinstance(schema.get("additionalProperties"), dict):
            yield from self._fields(schema["additionalProperties"], f"{prefix[:-1]}{{}}.")

    def template(self, method: str, path: str) -> str | None:
        """The description's path for a request's, without its version."""
        for known, pattern, template in self._rows:
            if known == method and pattern.fullmatch(path):
                return template
        return None

    def problems(self, method: str, path: str, status: int, kind: str, body: str) -> Iterator[str]:
        """What is wrong with an answer."""
        template = self.template(method, path)
        if template is None:
            return
        declared = self._document["paths"][template][method.lower()]["responses"]
        if status not in declared:
            if status not in ANYWHERE and status not in _also(template):
                yield f"status {status} is not declared"
            if status < 400:
                return
        if method == "HEAD" or status in (204, 304):
            return
        validator = self._validator(method, template, status)
        if validator is None:
            return
        if kind != "application/json":
            yield f"content type {kind!r} instead of application/json"
        texts = body.splitlines() if (method, template) in JSON_LINES else [body]
        for text in texts if len(body) < 60_000 else texts[:-1]:
            try:
                value = json.loads(text)
            except ValueError:
                yield f"no JSON: {text[:200]!r}"
                continue
            for error in validator.iter_errors(value):
                where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}"
                                for p in error.instance_path)  # fmt: skip
                yield f"${where}: {error.message[:300]}"

    def _validator(self, method: str, template: str, status: int) -> Any:
        """The compiled schema of a body; ``None`` for one that is no JSON."""
        key = (method, template, status)
        if key not in self._validators:
            schema = self._schema(method, template, status)
            compiled = None if schema is None else jsonschema_rs.Draft7Validator(schema)
            self._validators[key] = compiled
        return self._validators[key]

    def _schema(self, method: str, template: str, status: int) -> dict[str, Any] | None:
        if status >= 400:
            return self._convert({"$ref": "#/definitions/ErrorResponse"})
        found = self._document["paths"][template][method.lower()]["responses"][status]
        schema = self._resolve(found).get("schema")
        if schema is None or schema.get("type") == "string":
            return None
        return self._convert(schema)

    def _resolve(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema behind references; what stands beside one counts as well."""
        while "$ref" in schema:
            found = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = {**found, **{k: v for k, v in schema.items() if k != "$ref"}}
        return schema

    def _convert(self, schema: dict[str, Any], *, null: bool = False) -> dict[str, Any]:
        """JSON Schema for a schema of the description, without references; objects are closed."""
        name = schema.get("$ref", "").removeprefix("#/definitions/")
        schema = self._resolve(schema)
        properties, required = self._merged(schema)
        made: dict[str, Any] = {}
        kind = schema.get("type") or ("object" if properties else None)
        null = null or bool(schema.get("x-nullable"))
        if kind is not None:
            made["type"] = [kind, "null"] if null else kind
        if "enum" in schema:
            made["enum"] = [*schema["enum"], None] if null else schema["enum"]
        if schema.get("format") in ("dateTime", "date-time"):
            made["pattern"] = _TIME
        if "items" in schema:
            made["items"] = self._convert(schema["items"])
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            made["additionalProperties"] = self._convert(more)
        if properties:
            made["properties"] = {
                # Without a field that is not required clients do; so they do with null.
                field: self._convert(inner, null=field not in required)
                for field, inner in properties.items()
            }
            made["properties"] |= dict.fromkeys(UNDESCRIBED.get(name, ()), True)
            # One that is no property (UnpackedSize of ImageData) is a slip of the description.
            made["required"] = sorted(required & properties.keys())
            made.setdefault("additionalProperties", bool(more))
        return made

    def _merged(self, schema: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
        """Fields and required ones, with those of ``allOf``."""
        properties = dict(schema.get("properties", {}))
        required = set(schema.get("required", ()))
        for part in schema.get("allOf", ()):
            inner, needed = self._merged(self._resolve(part))
            properties = {**inner, **properties}
            required |= needed
        return properties, required


def _also(template: str) -> Iterator[int]:
    for beginning, statuses in ALSO.items():
        if template.startswith(beginning):
            yield from statuses


def _specific(template: str) -> tuple[bool, str]:
    """Paths without fields before those with: /images/json before /images/{name}."""
    return "{" in template, template


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", template)
    wide = template.startswith(("/images/", "/distribution/", "/plugins/"))
    return re.compile((".+" if wide else "[^/]+").join(map(re.escape, parts)) + "/?")


@cache
def description() -> Description | None:
    """The description, compiled once; ``None`` where it is not at hand."""
    path = api_description()
    return None if path is None else Description(path)


def problems_in(lines: Iterator[str]) -> list[str]:
    """What is wrong with the answers of a recording, each kind once."""
    known = description()
    if known is None:
        return []
    found: dict[str, None] = {}
    for line in lines:
        method, path, status, kind, body = json.loads(line)
        for problem in known.problems(method, path, status, kind, body):
            template = known.template(method, path)
            found.setdefault(f"{method} {template} {status}: {problem}")
    return list(found)
