"""``rootless inspect`` and the ``inspect`` of every group."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, INSPECT_FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.flags import UsageError
from rootless.cli.formats import one_text
from rootless.client import jsonlite
from rootless.client.api import query, quote
from rootless.client.http import ApiError
from rootless.errors import NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

KINDS = ("container", "image", "network", "volume")


def _target(kind: str, name: str, *, size: bool) -> str:
    if kind == "container":
        return f"/containers/{quote(name)}/json" + query(size=size or None)
    if kind == "image":
        return f"/images/{quote(name, '/:@')}/json"
    return f"/{kind}s/{quote(name)}"


def _find(call: Invocation, name: str, kinds: tuple[str, ...], *, size: bool) -> Any:
    for kind in kinds:
        try:
            return call.client.get(_target(kind, name, size=size))
        except ApiError as error:
            # An endpoint that does not exist yet answers 404 or 501 as well.
            if error.status not in (404, 501) or len(kinds) == 1:
                raise
    raise NotFound(f"No such object: {name}")


def print_all(names: list[str], fetch: Callable[[str], Any], form: str) -> int:
    """Print the objects; a missing one is reported and the rest still shown, status 1."""
    found = []
    status = 0
    for name in names:
        try:
            found.append(fetch(name))
        except RootlessError as error:
            if not isinstance(error, (ApiError, NotFound)):
                raise
            sys.stderr.write(f"rootless: {error.message}\n")
            status = 1
    if not form:
        sys.stdout.write((jsonlite.pretty(found) if found else "[]") + "\n")
    elif form == "json":
        sys.stdout.write(jsonlite.pretty_line(found) + "\n")
    else:
        for value in found:
            sys.stdout.write(one_text(form, value) + "\n")
    return status


def _run(call: Invocation, kinds: tuple[str, ...]) -> int:
    size = bool(call.values.get("size"))
    return print_all(call.args, lambda n: _find(call, n, kinds, size=size), call["format"])


def _any(call: Invocation) -> int:
    kind = call["type"]
    if kind and kind not in KINDS:
        raise UsageError(f'"{kind}" is not a valid value for --type (one of {", ".join(KINDS)})')
    return _run(call, (kind,) if kind else KINDS)


_FORMAT = ("format", "f", STRING, "", INSPECT_FORMAT_HELP)
_SIZE = ("size", "s", BOOL, False, "Display total file sizes if the type is container")


def _group(kind: str, *, size: bool = False) -> Command:
    return Command(
        lambda call: _run(call, (kind,)),
        usage=f"{kind} inspect [OPTIONS] {kind.upper()} [{kind.upper()}...]",
        summary=f"Display detailed information on one or more {kind}s",
        flags=(_FORMAT, _SIZE) if size else (_FORMAT,),
        min_args=1,
        max_args=None,
    )


COMMAND = Command(
    _any,
    usage="inspect [OPTIONS] NAME|ID [NAME|ID...]",
    summary="Return low-level information on objects",
    description="""
Looks for a container, then an image, a network, a volume of that name, and prints
JSON. Templates are Go's, with Docker's functions: json, join, split, lower, upper,
title, pad, truncate, table, println.
""",
    flags=(
        _FORMAT,
        _SIZE,
        ("type", "", STRING, "", "Only this kind: container, image, network or volume"),
    ),
    min_args=1,
    max_args=None,
    examples="""
rootless inspect web
rootless inspect -f '{{.State.Status}}' web
rootless inspect -f '{{range .Mounts}}{{.Source}}{{"\\n"}}{{end}}' web
rootless inspect -f '{{index .Config.Labels "tier"}}' web
""",
)
CONTAINER = _group("container", size=True)
IMAGE = _group("image")
NETWORK = _group("network")
VOLUME = _group("volume")
