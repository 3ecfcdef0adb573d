"""A validator for the part of OpenAPI 2 that Docker's description uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class Description:
    """The API's description; ``problems`` lists where a value does not follow it."""

    def __init__(self, path: Path) -> None:
        with path.open(encoding="utf-8") as file:
            self._document = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def paths(self) -> Iterator[tuple[str, str]]:
        """Every (METHOD, path template)."""
        for path, methods in self._document["paths"].items():
            for method in methods:
                if method in ("get", "post", "put", "delete", "head"):
                    yield method.upper(), path

    def parameters(self, method: str, path: str, place: str) -> Iterator[str]:
        """The names of an endpoint's parameters in ``query``, ``header`` or ``path``."""
        for found in self._document["paths"][path][method.lower()].get("parameters", ()):
            parameter = self._resolve(found)
            if parameter["in"] == place:
                yield parameter["name"]

    def body_fields(self, method: str, path: str) -> Iterator[str]:
        """The paths of all fields of an endpoint's body; ``[]`` for items, ``{}`` for values."""
        for found in self._document["paths"][path][method.lower()].get("parameters", ()):
            parameter = self._resolve(found)
            if parameter["in"] == "body":
                yield from self._fields(parameter["schema"], "")

    def _fields(self, schema: Any, prefix: str) -> Iterator[str]:
        schema = self._resolve(schema)
        properties, _ = self._merged(schema)
        for name, inner in properties.items():
            yield prefix + name
            yield from self._fields(inner, f"{prefix}{name}.")
        if "items" in schema:
            yield from self._fields(schema["items"], f"{prefix[:-1]}[].")
        if isinstance(schema.get("additionalProperties"), dict):
            yield from self._fields(schema["additionalProperties"], f"{prefix[:-1]}{{}}.")

    def response(self, method: str, path: str, status: int) -> Any:
        """The schema of one response."""
        found = self._document["paths"][path][method.lower()]["responses"][status]
        return self._resolve(found)["schema"]

    def _resolve(self, schema: Any) -> Any:
        while "$ref" in schema:
            found = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            # Siblings of a $ref count here: Docker writes x-nullable next to it.
            rest = {k: v for k, v in schema.items() if k != "$ref"}
            schema = {**found, **rest}
        return schema

    def problems(self, value: Any, schema: Any, where: str = "$") -> Iterator[str]:
        """What is wrong with ``value``; unknown fields are wrong where fields are listed."""
        schema = self._resolve(schema)
        if value is None:
            return
        properties, required = self._merged(schema)
        kind = schema.get("type") or ("object" if properties else None)
        if kind is not None:
            right = isinstance(value, _TYPES[kind]) and not (
                isinstance(value, bool) and kind != "boolean"
            )
            if not right:
                yield f"{where}: {type(value).__name__} instead of {kind}"
                return
        choices = schema.get("enum")
        if choices and value not in choices and not schema.get("x-nullable"):
            yield f"{where}: {value!r} is not one of {choices}"
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                yield from self.problems(item, schema["items"], f"{where}[{index}]")
        if isinstance(value, dict):
            yield from self._object(value, schema, properties, required, where)

    def _object(
        self, value: Any, schema: Any, properties: Any, required: set[str], where: str
    ) -> Iterator[str]:
        more = schema.get("additionalProperties")
        for name in sorted(required - value.keys()):
            yield f"{where}: {name} is missing"
        for name, item in value.items():
            if name in properties:
                yield from self.problems(item, properties[name], f"{where}.{name}")
            elif isinstance(more, dict):
                yield from self.problems(item, more, f"{where}.{name}")
            elif properties and not more:
                yield f"{where}: {name} is not in the description"

    def _merged(self, schema: Any) -> tuple[dict[str, Any], set[str]]:
        properties = dict(schema.get("properties", {}))
        required = set(schema.get("required", ()))
        for part in schema.get("allOf", ()):
            inner, needed = self._merged(self._resolve(part))
            properties.update(inner)
            required |= needed
        return properties, required
