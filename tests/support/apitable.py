"""docs/api.md, made from the rows and structs that serve the API.

python -m tests.support.apitable > docs/api.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rootless.api.dto.decode import shape, struct_fields
from rootless.api.fields import Treatment
from rootless.api.router import Route
from rootless.api.routes.table import ROUTES
from rootless.api.versions import API_VERSION, MIN_API_VERSION

INTRO = f"""\
# The API, field by field

<!-- Made by `python -m tests.support.apitable > docs/api.md`; a test compares. -->

The daemon serves Docker's Engine API {MIN_API_VERSION} to {API_VERSION}, with and without the
version in the path. What each endpoint does is in Docker's own description; this page lists what
is taken from a request, from the same rows and structs that serve it:

- **supported**: it has Docker's effect, within the limits noted.
- **ignored**: the request goes on and the answer warns: in `Warnings` where the answer has such a
  field (`create`, `update`), else in the header `Warning: 299 rootless "…"`.
- **refused**: 400 with the reason, unless the value is one that asks for nothing (0, "", false,
  null, an empty list or object), which clients send for all they do not use.

Parameters and fields that are not listed are ignored with the same warning, so that clients of
the future work and a misspelt protection does not go unnoticed. Names of JSON fields match in any
case, as in Go. A limit whose cgroup controller is not delegated is refused, not dropped; what the
policy forbids is answered with 403 and the rule.

`X-Registry-Auth` is read where an image is pulled, pushed, looked up in a registry or searched;
an endpoint that takes JSON wants `Content-Type: application/json`. Nothing answers 501. What is
not in this list answers 404 `page not found`, as in Docker also for a wrong method.

Older versions of the API get what Docker gives them (`VirtualSize` of images before 1.44, a
`wait` without an early head before 1.30 …). What differs from Docker on purpose:

- What this host or engine cannot give is 400 with the reason, where Docker answers 500 or 501,
  or drops a limit with a warning.
- Lists and maps that the description requires are empty, never null.
- A read-only bind of a client before 1.44 is read-only with all that is mounted below it.
- `fromSrc` and `remote` fetch nothing by URL; a body that is JSON must say so, and a request of a
  web page or for another host is refused (403).
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: a field's path in the body, or a query parameter."""

    path: str
    kind: str
    treatment: Treatment


def body_fields(kind: Any, prefix: str = "") -> Iterator[Entry]:
    """Every field of a struct, with those of the structs in it; ``[]`` items, ``{}`` values."""
    form, inner = shape(kind)
    if form in ("list", "map"):
        yield from body_fields(inner, prefix[:-1] + ("[]." if form == "list" else "{}."))
    elif form == "struct":
        for field in struct_fields(inner).values():
            yield Entry(prefix + field.name, _type(field.kind), field.treatment)
            if field.treatment.how != "refused":
                yield from body_fields(field.kind, f"{prefix}{field.name}.")


def _type(kind: Any) -> str:
    form, inner = shape(kind)
    names = {str: "string", int: "integer", bool: "boolean"}
    if form == "leaf":
        return names.get(kind, "any")
    return f"{_type(inner)}[]" if form == "list" else "object"


def plain_path(path: str) -> str:
    """A row's path without the patterns of its fields: ``/images/{name}/json``."""
    return re.sub(r"\{(\w+):[^}]+\}", r"{\1}", path).replace("{ref}", "{id}")


def _section(route: Route, told: dict[type, str]) -> Iterator[str]:
    """One endpoint; ``told`` remembers where a body was listed already."""
    title = f"{route.method} {plain_path(route.path)}"
    lines = [Entry(f"?{name}", "", treatment) for name, treatment in sorted(route.query.items())]
    yield f"\n### {title}\n"
    if route.verb:
        verbs = " or ".join(f"`{verb}`" for verb in route.verb.split())
        yield f"The policy decides on {verbs}.\n"
    elif route.open:
        yield f"The policy is not asked: {route.open}.\n"
    if route.body in told:
        yield f"The body is that of `{told[route.body]}`.\n"
    elif route.body is not None:
        told[route.body] = title
        lines += body_fields(route.body)
    if route.refused:
        yield f"Answers an error: {route.refused}."
        return
    if not lines:
        yield "Takes no parameters."
        return
    yield "| field | type | | |\n| --- | --- | --- | --- |"
    for entry in lines:
        note = entry.treatment.note.replace("|", "\\|")
        if entry.treatment.since > (0, 0):
            note = f"since {'.'.join(map(str, entry.treatment.since))}; {note}".rstrip("; ")
        yield f"| `{entry.path}` | {entry.kind} | {entry.treatment.how} | {note} |"


def render() -> str:
    """The whole page."""
    parts = [INTRO]
    nouns: dict[str, list[Route]] = {}
    for route in ROUTES:
        nouns.setdefault(route.path.split("/", 2)[1], []).append(route)
    told: dict[type, str] = {}
    nouns["rootless"] = nouns.pop("rootless")  # last: its body is that of create
    for noun, routes in nouns.items():
        parts.append(f"\n## /{noun}")
        for route in routes:
            parts.extend(_section(route, told))
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
