"""Finding the handler of a path, without aiohttp's resolver.

Its resolver is built for literal prefixes; behind ``/vX.Y`` it would try every
route's pattern in turn on the path of each command.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from aiohttp.web_response import StreamResponse

from rootless.api.call import Call
from rootless.api.dto.decode import Body
from rootless.api.fields import Query
from rootless.api.http import Disconnect

Handler = Callable[[Call], Awaitable[StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row: ``path`` as ``/containers/{ref}/json``; ``{ref:.*}`` may contain slashes.

    ``disconnect`` says what the client's going away does to the request:
    ``finish`` completes it, ``cancel`` ends it. ``query`` lists the parameters it
    takes and ``body`` is the struct of its JSON body. ``refused`` says why a row
    that only answers an error does so. ``verb`` is what the policy decides on (one of
    ``model.verbs``; which of several, the parameters say); without one ``open`` says why.
    """

    method: str
    path: str
    handler: Handler
    disconnect: Disconnect = "finish"
    query: Query = field(default_factory=dict)
    body: type[Body] | None = None
    refused: str = ""
    verb: str = ""
    open: str = ""


_FIELD = re.compile(r"\{(\w+)(?::([^}]+))?\}")


def _pattern(path: str) -> re.Pattern[str]:
    parts = []
    end = 0
    for match in _FIELD.finditer(path):
        parts.append(re.escape(path[end : match.start()]))
        parts.append(f"(?P<{match[1]}>{match[2] or '[^/]+'})")
        end = match.end()
    parts.append(re.escape(path[end:]))
    return re.compile("".join(parts), re.DOTALL)


class Router:
    """Rows indexed by method and first path segment; the first row that matches wins."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._rows: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            key = (route.method, route.path.split("/", 2)[1])
            self._rows.setdefault(key, []).append((_pattern(route.path), route))

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """The route for a path without version prefix, and the values of its fields."""
        if not path.startswith("/"):
            return None  # OPTIONS *
        for pattern, route in self._rows.get((method, path.split("/", 2)[1]), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return route, match.groupdict()
        return None
