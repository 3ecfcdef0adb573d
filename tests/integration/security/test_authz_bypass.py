"""What is decided on is what is executed, however a request is written (CVE-2024-41110 and kin).

Each request here wants a privileged container, or another's verb, past a policy that denies it.
Whatever is answered: none may exist afterwards that the policy would have denied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.integration.policy.forced import policy
from tests.support.api import IMAGE, Api, UnixConnection
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
WANTED = {"Image": IMAGE, "HostConfig": {"Privileged": True, "NetworkMode": "none"}}
EVIL = json.dumps(WANTED).encode()
GOOD = json.dumps({"Image": IMAGE, "HostConfig": {"NetworkMode": "none"}}).encode()
JSON = b"Content-Type: application/json\r\n"
HOST = b"Host: d\r\nConnection: close\r\n"


def post(body: bytes, *headers: bytes, path: bytes = b"/containers/create") -> bytes:
    """A POST with a length, unless ``headers`` say another one."""
    lines = b"".join(line + b"\r\n" for line in headers)
    if b"content-length" not in lines.lower() and b"transfer-encoding" not in lines.lower():
        lines += b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + JSON + lines + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def text(body: str) -> bytes:
    return post(body.replace("IMAGE", IMAGE).encode())


BODIES = {
    "plain": post(EVIL),
    "twice, harmless first": text(
        '{"Image":"IMAGE","HostConfig":{"Privileged":false},"HostConfig":{"Privileged":true}}'
    ),
    "twice, harmless last": text(
        '{"Image":"IMAGE","HostConfig":{"Privileged":true},"HostConfig":{"Privileged":false}}'
    ),
    "twice inside": text('{"Image":"IMAGE","HostConfig":{"Privileged":true,"Privileged":false}}'),
    "small letters": text('{"image":"IMAGE","hostconfig":{"privileged":true}}'),
    "two cases, harmless first": text(
        '{"Image":"IMAGE","HostConfig":{"Privileged":false},"hostConfig":{"privileged":true}}'
    ),
    "two cases, harmless last": text(
        '{"Image":"IMAGE","hostconfig":{"PRIVILEGED":true},"HostConfig":{"Privileged":false}}'
    ),
    "escaped keys": text('{"Image":"IMAGE","Host\\u0043onfig":{"Privile\\u0067ed":true}}'),
    "a key that folds to ASCII": text('{"Image":"IMAGE","Ho\u017ftConfig":{"Privileged":true}}'),
    "UTF-16": post(json.dumps(WANTED).encode("utf-16")),
    "UTF-16 without a mark": post(json.dumps(WANTED).encode("utf-16-le")),
    "UTF-32": post(json.dumps(WANTED).encode("utf-32")),
    "a byte order mark": post(b"\xef\xbb\xbf" + EVIL),
    "UTF-7 by its type": post(EVIL.replace(b"{", b"+AHs-")),
    "overlong": post(EVIL.replace(b"Privileged", b"\xc1\x90rivileged")),
    "a second document": post(GOOD + EVIL),
    "behind NUL": post(GOOD + b"\0" + EVIL),
    "a list": post(b"[" + EVIL + b"]"),
    "comments": post(b"/* " + GOOD + b" */" + EVIL),
    "truth as a word": text('{"Image":"IMAGE","HostConfig":{"Privileged":"true"}}'),
    "truth as a number": text('{"Image":"IMAGE","HostConfig":{"Privileged":1}}'),
    "behind megabytes": post(GOOD[:-1] + b" " * (5 << 20) + b',"HostConfig":{"Privileged":true}}'),
    "behind a megabyte": post(
        GOOD[:1] + b" " * (1 << 20) + EVIL[1:]
    ),  # the size at which Docker stopped to show bodies to plugins
}
HARMLESS = (
    "twice, harmless last", "twice inside", "two cases, harmless last",
    "a key that folds to ASCII",  # is not known, and warned of
)  # fmt: skip
"""What asks for nothing that the policy denies: of a name that is there twice the last counts."""
FRAMES = {
    "a length of 0": post(EVIL, b"Content-Length: 0"),
    "two lengths": post(EVIL, b"Content-Length: 0", b"Content-Length: %d" % len(EVIL)),
    "two lengths, the true one first": post(
        EVIL, b"Content-Length: %d" % len(EVIL), b"Content-Length: 0"
    ),
    "a list of lengths": post(EVIL, b"Content-Length: %d, %d" % (len(EVIL), len(EVIL))),
    "a signed length": post(EVIL, b"Content-Length: +%d" % len(EVIL)),
    "length and chunks": post(chunked(EVIL), b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "chunks and length": post(chunked(EVIL), b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    "chunks": post(chunked(EVIL), b"Transfer-Encoding: chunked"),
    "chunks twice": post(chunked(chunked(EVIL)), b"Transfer-Encoding: chunked, chunked"),
    "chunks by another name": post(chunked(EVIL), b"Transfer-Encoding: \x0bchunked"),
    "compressed chunks": post(chunked(EVIL), b"Transfer-Encoding: gzip, chunked"),
    "a coding": post(EVIL, b"Content-Encoding: gzip"),
    "a space before the colon": post(EVIL, b"Content-Length : 0"),
    "another type": post(EVIL).replace(JSON, b"Content-Type: text/plain\r\n"),
    "two types": post(EVIL, b"Content-Type: text/plain"),
    "a type with a charset": post(json.dumps(WANTED).encode("utf-16-be")).replace(
        JSON, b"Content-Type: application/json; charset=utf-16be\r\n"
    ),
}
PATHS = {
    f"path {path}": post(GOOD, path=path.encode())
    for path in (
        "/containers/create", "/v1.43/containers/create", "//containers/create",
        "/v1.43//containers///create", "/containers/%63reate", "/%63ontainers/create",
        "/containers%2fcreate", "/x/../containers/create", "/x/%2e%2e/containers/create",
        "/./containers/./create", "/v1.43/v1.43/containers/create", "/v01.43/containers/create",
        "/v1.430/containers/create", "/v1/containers/create", "/containers/create/",
        "/containers/create;x", "/containers/create?name=x#y", "/containers/create%00",
        "/CONTAINERS/CREATE", "/containers\\create", "http://d/containers/create",
        "/_ping/../containers/create", "/containers/create%3fname=x",
        "/\u017f/../containers/create",
    )
}  # fmt: skip
METHODS = {
    "a body on GET": b"GET /containers/create HTTP/1.1\r\n" + HOST + JSON
    + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD,
    **{
        f"{header}": b"GET /containers/create HTTP/1.1\r\n" + HOST + JSON + header.encode()
        + b": POST\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD
        for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    },
    "a method of small letters": post(GOOD).replace(b"POST", b"post"),
    "a method by parameter": post(GOOD, path=b"/_ping?_method=POST&path=/containers/create"),
    "another path by header": post(GOOD, b"X-Original-URL: /containers/create", path=b"/_ping"),
    "a rewritten path": post(GOOD, b"X-Rewrite-URL: /containers/create", path=b"/_ping"),
    "a request within a body": post(
        b"", b"Content-Length: 0", path=b"/build/prune"
    ).replace(b"Connection: close\r\n", b"") + post(GOOD),
}  # fmt: skip


def send(engine: Engine, data: bytes) -> list[int]:
    """The status of each answer."""
    connection = UnixConnection(str(engine.socket), seconds=30)
    connection.connect()
    found = b""
    try:
        connection.sock.sendall(data)
        while more := connection.sock.recv(65536):
            found += more
    except ConnectionError:
        pass  # a server that has seen enough hangs up
    finally:
        connection.close()
    return [int(status) for status in re.findall(rb"^HTTP/1\.\d (\d+)", found, re.MULTILINE)]


@pytest.fixture(autouse=True)
def _clean(engine: Engine) -> Iterator[None]:
    yield
    engine.purge()


def privileged(api: Api) -> list[bool]:
    """Of each container that there is."""
    return [
        bool(api.ok("GET", f"/containers/{one['Id']}/json")["HostConfig"]["Privileged"])
        for one in api.ok("GET", "/containers/json", all=1)
    ]


def test_a_privileged_container_is_made_where_it_is_allowed(engine: Engine, api: Api) -> None:
    """Else the other tests would show nothing."""
    with policy(engine, "{}"):
        assert send(engine, BODIES["plain"]) == [201]
        assert send(engine, FRAMES["chunks"]) == [201]
        assert send(engine, BODIES["small letters"]) == [201]
        assert privileged(api) == [True, True, True]


@pytest.mark.parametrize("name", [*BODIES, *FRAMES])
def test_a_body_is_decided_on_as_it_is_executed(engine: Engine, api: Api, name: str) -> None:
    answers = send(engine, {**BODIES, **FRAMES}[name])
    made = privileged(api)
    assert True not in made
    assert len(made) == answers.count(201)
    assert answers, "an answer, whatever was sent"
    assert set(answers) <= {201, 400, 403, 413}, answers
    assert (201 in answers) == (name in HARMLESS)


@pytest.mark.parametrize("name", [*PATHS, *METHODS])
def test_no_way_to_write_a_request_leads_past_its_verb(engine: Engine, api: Api, name: str) -> None:
    with policy(engine, "{api: {denyActions: [container.create, image.run]}}"):
        answers = send(engine, {**PATHS, **METHODS}[name])
    assert privileged(api) == []
    assert 201 not in answers
    assert answers
