"""docs/roles.md: each built-in role on each endpoint, made by asking a daemon over mutual TLS.

python -m tests.support.rolematrix > docs/roles.md      (as an unprivileged user)
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from rootless.api.router import Route
from rootless.api.routes.table import ROUTES
from rootless.model.roles import ROLES
from tests.support import pki
from tests.support.api import IMAGE, Api, TlsApi
from tests.support.apitable import plain_path
from tests.support.engine import Engine, new_engine
from tests.support.registry import free_port
from tests.support.savedimage import archive, tar

COLUMNS = ("viewer", "operator", "developer", "ci", "auditor", "admin")
assert set(COLUMNS) == set(ROLES)
WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}
INTRO = """\
# Roles and endpoints

<!-- Made by `python -m tests.support.rolematrix > docs/roles.md`; a test compares. -->

What a certificate of each built-in role ([builtin-policies.md](builtin-policies.md)) is answered
under the built-in default policy. Every cell was tried on a running daemon, over mutual TLS: once
with objects that somebody else made, and where the role can make some once with its own.

- **all**: with what anybody made. **own**: with what this identity made; others' objects are not
  there for it (404). **yes**: allowed, and about no single object; lists and prunes are about what
  the role sees. **–**: denied (403), whatever the object.
"""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Set:
    """Somebody's container, exec, network, volume and image, which requests are about."""

    def __init__(self, api: Api, word: str) -> None:
        self.api, self.word = api, word
        self.image = f"localhost:1/{word}:1"
        self.exec = ""

    def make(self) -> None:
        """All of it; whatever is left of a former one has to be gone."""
        api, word = self.api, self.word
        api.ok("POST", "/volumes/create", {"Name": word})
        api.ok("POST", "/networks/create", {"Name": word})
        api.run("sleep", "600", name=word, Tty=True)
        self.exec = str(api.ok("POST", f"/containers/{word}/exec", {"Cmd": ["true"]})["Id"])
        status, _, told = api.raw("POST", "/images/load", archive(self.image, word.encode()))
        assert status == 200, told

    def ask(self, route: Route, verb: str) -> Ask:
        """A request to a row, about these objects."""
        path, word = plain_path(route.path), self.word
        queries: dict[str, dict[str, str]] = {
            "/containers/{id}/archive": {"path": "/tmp"},
            "/containers/{id}/logs": {"stdout": "1"},
            "/containers/{id}/attach": {"logs": "1"},
            "/containers/{id}/stats": {"stream": "0", "one-shot": "1"},
            "/containers/{id}/resize": {"h": "1", "w": "1"},
            "/containers/{id}/rename": {"name": f"{word}2"},
            "/containers/{id}/stop": {"t": "0"},
            "/containers/{id}/restart": {"t": "0"},
            "/exec/{id}/resize": {"h": "1", "w": "1"},
            "/commit": {"container": word},
            "/events": {"since": "1", "until": "2"},
            "/images/get": {"names": self.image},
            "/images/search": {"term": "localhost:1/x"},
            "/images/create": {"fromImage": "localhost:1/other", "tag": "1"},
            "/images/{name}/tag": {"repo": f"{word}tagged"},
        }
        bodies: dict[str, Any] = {
            "/containers/create": {"Image": IMAGE, "HostConfig": {"NetworkMode": "none"}},
            "/rootless/plan": {"Image": IMAGE, "HostConfig": {"NetworkMode": "none"}},
            "/containers/{id}/exec": {"Cmd": ["true"]},
            "/exec/{id}/start": {"Detach": True},
            "/rootless/certificate": {"Request": ""},
            "/networks/create": {"Name": f"{word}2"},
            "/networks/{id}/connect": {"Container": word},
            "/networks/{id}/disconnect": {"Container": word},
            "/auth": {"username": "a", "password": "b", "serveraddress": "localhost:1"},
            "/images/load": archive(f"{self.image}2"),
            "/build": tar({"Dockerfile": f"FROM {IMAGE}\n".encode()}),
        }
        query, body = queries.get(path, {}), bodies.get(path)
        if route.method in ("GET", "HEAD"):
            body = None
        if verb == "image.import":
            query, body = {"fromSrc": "-"}, tar({"x": b"y"})
        elif route.method == "PUT":
            body = tar({"x": b"y"})
        for field, found in (("/exec/{id}", f"/exec/{self.exec}"), ("/{id}", f"/{word}")):
            path = path.replace(field, found)
        path = re.sub(r"/volumes/\{name\}", f"/volumes/{word}", path).replace("{name}", self.image)
        headers = WEBSOCKET if path.endswith("/ws") else {}
        if isinstance(body, bytes):
            headers = {"Content-Type": "application/x-tar"}
        return Ask(route.method, path, query, body, headers)


def _send(api: Api, ask: Ask) -> tuple[int, str]:
    """Status, and the message of an error; the rest of an answer is not waited for."""
    connection = api.connection()
    path = f"{ask.path}?{urlencode(ask.query)}" if ask.query else ask.path
    body = ask.body if isinstance(ask.body, bytes | None) else json.dumps(ask.body)
    try:
        connection.request(ask.method, path, body, {**api.headers, **ask.headers})
        answer = connection.getresponse()
        # In the stream of a pull the status is out before anything went wrong.
        text = answer.read().decode("utf-8", "replace") if answer.status >= 400 else ""
        return answer.status, text
    except http.client.HTTPException as error:
        raise AssertionError(f"{ask.method} {path}: {error!r}") from error
    finally:
        connection.close()


_SPOILS = ("rename", "remove", "prune")
"""Verbs after which the objects are not there any more."""
_LATE = ("pause", "restart", "stop", "kill", *_SPOILS)
"""Verbs that are tried last: an exec, for one, does not outlive them."""
ALLOWED, DENIED, ABSENT = "allowed", "denied", "absent"


def outcome(ask: Ask, status: int, text: str) -> str:
    """What a status says about the caller's rights."""
    if status == 404:
        return ABSENT
    if status == 403 and (ask.method == "HEAD" or "by policy" in text or "api." in text):
        return DENIED
    assert status < 400 or status in (400, 409, 500) or "api." not in text, (ask, status, text)
    return ALLOWED


class World:
    """A daemon, its own user, and one client of each role."""

    def __init__(self, engine: Engine, clients: dict[str, Api]) -> None:
        self.engine, self.clients = engine, clients
        self.own = Api(engine)
        self.theirs = Set(self.own, "theirs")
        self.mine: Set | None = None
        self._made = False

    def _fresh(self) -> None:
        """The objects as new, after a request that may have changed them."""
        if self._made:
            return
        own = self.own
        for one in own.ok("GET", "/containers/json", all=1):
            own.remove(one["Id"])
        own.ok("POST", "/networks/prune")
        for one in own.ok("GET", "/volumes")["Volumes"] or ():
            own.ok("DELETE", f"/volumes/{one['Name']}")
        for one in own.ok("GET", "/images/json"):
            if f"{IMAGE}:latest" not in one["RepoTags"]:
                own.ok("DELETE", f"/images/{one['Id']}", force=1)
        self.theirs.make()
        if self.mine is not None:
            self.mine.make()
        self._made = True

    def choose(self, role: str) -> None:
        """Ask as this role from now on, with objects of its own if it can make any."""
        api = self.clients[role]
        ask = self.theirs.ask(_row("POST", "/containers/create"), "container.create")
        may = outcome(ask, *_send(api, ask)) == ALLOWED
        self.mine, self._made = Set(api, "mine") if may else None, False

    def cell(self, role: str, route: Route, verb: str) -> str:
        """One cell of the table."""
        found = []
        for about in filter(None, (self.theirs, self.mine)):
            self._fresh()
            ask = about.ask(route, verb)
            found.append(outcome(ask, *_send(self.clients[role], ask)))
            if verb.partition(".")[2] in _SPOILS and found[-1] == ALLOWED:
                self._made = False
        if not _is_about_one(route, verb):
            assert len(set(found)) == 1, (role, route.path, found)
            return "yes" if found[0] == ALLOWED else "–"
        if found[0] == ALLOWED:
            assert set(found) == {ALLOWED}, (role, route.path, found)
            return "all"
        assert found[1:] != [ABSENT], (role, route.path, found)
        return "own" if found[1:] == [ALLOWED] else "–"


def _row(method: str, path: str) -> Route:
    return next(r for r in ROUTES if (r.method, plain_path(r.path)) == (method, path))


def _is_about_one(route: Route, verb: str) -> bool:
    """Whether the request names an object that somebody made."""
    if verb in ("image.pull", "image.import"):
        return False
    return "{" in route.path or route.path in ("/commit", "/images/get")


@contextmanager
def world() -> Iterator[World]:
    """The daemon with the built-in default policy."""
    port, authority = free_port(), pki.authority()
    with new_engine(start=False) as engine, tempfile.TemporaryDirectory() as place:
        server = pki.signed(authority, "server", server=True)
        pki.write(engine.root / "c/rootless/tls", authority, server)
        engine.start(
            "--tlsverify", "-H", f"tcp://localhost:{port}", f"--host=unix://{engine.socket}"
        )
        clients: dict[str, Api] = {}
        for role in COLUMNS:
            uri = f"spiffe://example.org/role/{role}/one"
            files = Path(place) / role
            pki.write(files, authority, pki.signed(authority, "one", uris=(uri,)))
            clients[role] = TlsApi(engine, port, files)
        yield World(engine, clients)


def rows() -> list[tuple[Route, str]]:
    """What the policy decides on."""
    return [(route, verb) for route in ROUTES for verb in route.verb.split()]


def _when(row: tuple[Route, str]) -> int:
    """A row's place among those that are tried one after the other."""
    did = row[1].partition(".")[2]
    return _LATE.index(did) if did in _LATE else -1


def render(asked: World) -> str:
    """The page."""
    cells: dict[tuple[str, str, str], list[str]] = {}
    for role in COLUMNS:
        asked.choose(role)
        for route, verb in sorted(rows(), key=_when):
            key = (verb, route.method, plain_path(route.path))
            cells.setdefault(key, []).append(asked.cell(role, route, verb))
    lines = [INTRO, f"| endpoint | verb | {' | '.join(COLUMNS)} |"]
    lines.append(f"| --- | --- |{' --- |' * len(COLUMNS)}")
    for (verb, method, path), found in sorted(cells.items()):
        lines.append(f"| `{method} {path}` | `{verb}` | {' | '.join(found)} |")
    lines.append("\nNobody is asked who they are by these:\n")
    for route in ROUTES:
        if route.open:
            lines.append(f"- `{route.method} {plain_path(route.path)}`: {route.open}.")
    refused = sum(bool(route.refused) and not route.verb for route in ROUTES)
    lines.append(f"\nThe other {refused} answer everybody the same error ([api.md](api.md)).")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    with world() as asked:
        sys.stdout.write(render(asked))
