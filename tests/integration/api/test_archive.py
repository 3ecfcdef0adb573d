"""Archives in and out of containers: symlinks, stats, owners, refusals."""

from __future__ import annotations

import base64
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration

TREE = (
    "mkdir -p /bar/quux; echo -n hello > /foo; echo -n world > /bar/quux/baz; cd /bar; "
    "ln -s notexist notarget; ln -s quux/baz filesymlink; ln -s quux dirsymlink; ln -s / root; "
    "ln -s ../../../../etc/passwd outside; ln -s /bar/loop2 loop1; ln -s /bar/loop1 loop2"
)


@pytest.fixture(params=["stopped", "running"])
def tree(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """A container with the tree, in either state."""
    running = request.param == "running"
    script = f"{TREE}; touch /ready" + ("; sleep 1000" if running else "")
    made = api.run("sh", "-c", script)
    until(lambda: api("HEAD", f"/containers/{made}/archive", path="/ready")[0] == 200)
    if not running:
        until(lambda: api.state(made)["Status"] == "exited")
    yield made
    api.remove(made)


def _get(api: Api, ref: str, path: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What the header says, and the content of each entry of the archive."""
    status, headers, body = api.raw("GET", f"/containers/{ref}/archive", path=path)
    assert status == 200, body
    found = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    entries = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            name = member.name + "/" * (member.isdir() and member.name != "/")
            entries[name] = file.read().decode("latin-1") if file else ""
    return found, entries


def _tar(*members: tuple[str, bytes], **fields: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name.rstrip("/"))
            member.size = len(content)
            for key, value in fields.items():
                setattr(member, key, value)
            if name.endswith("/"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("path", "entries"),
    [
        ("/foo", {"foo": "hello"}),
        ("bar/quux", {"quux/": "", "quux/baz": "world"}),
        ("bar/quux/", {"quux/": "", "quux/baz": "world"}),
        ("bar/quux/.", {"./": "", "./baz": "world"}),
        ("bar/quux/baz", {"baz": "world"}),
        ("bar/filesymlink", {"filesymlink": ""}),
        ("bar/dirsymlink", {"dirsymlink": ""}),
        ("bar/dirsymlink/", {"dirsymlink/": "", "dirsymlink/baz": "world"}),
        ("bar/dirsymlink/.", {"./": "", "./baz": "world"}),
        ("bar/notarget", {"notarget": ""}),
        ("bar/root", {"root": ""}),
        ("/bar/root/foo", {"foo": "hello"}),
        ("/bar/../foo", {"foo": "hello"}),
    ],
)
def test_what_comes_out(api: Api, tree: str, path: str, entries: dict[str, str]) -> None:
    assert _get(api, tree, path)[1] == entries


@pytest.mark.parametrize(("path", "prefix"), [("/", ""), ("/.", "./"), ("/bar/root/", "root/")])
def test_the_whole_tree_comes_out(api: Api, tree: str, path: str, prefix: str) -> None:
    _, found = _get(api, tree, path)
    slash = {name.lstrip("/"): content for name, content in found.items()}
    assert slash[f"{prefix}foo"] == "hello"
    assert slash[f"{prefix}bar/quux/baz"] == "world"


def test_what_is_said_of_a_path(api: Api, tree: str) -> None:
    found, _ = _get(api, tree, "/bar/filesymlink")
    assert (found["name"], found["linkTarget"]) == ("filesymlink", "/bar/quux/baz")
    assert found["mode"] & 1 << 27  # Go's bit of a symlink
    found, _ = _get(api, tree, "/bar/quux")
    assert found["mode"] & 1 << 31
    assert _get(api, tree, "/foo")[0]["size"] == 5
    assert _get(api, tree, "/bar/notarget")[0]["linkTarget"] == "/bar/notexist"
    status, headers, _ = api.raw("HEAD", f"/containers/{tree}/archive", path="/bar/outside")
    assert status == 200
    found = json.loads(base64.b64decode(headers["X-Docker-Container-Path-Stat"]))
    assert found["linkTarget"] == "/etc/passwd"


def test_links_lead_nowhere_but_into_the_container(api: Api, tree: str) -> None:
    """/bar/outside leads up beyond the root, which is the container's own."""
    assert (
        api.raw("PUT", f"/containers/{tree}/archive", _tar(("x", b"1")), path="/bar/root/")[0]
        == 200
    )
    assert _get(api, tree, "/x")[1] == {"x": "1"}
    for method in ("GET", "PUT"):
        body = _tar() if method == "PUT" else None
        status, _, text = api.raw(method, f"/containers/{tree}/archive", body, path="/bar/loop1/")
        assert (status, b"symbolic links" in text) == (400, True)


def test_what_is_not_there(api: Api, tree: str) -> None:
    path = f"/containers/{tree}/archive"
    text = f"Could not find the file /dne in container {tree}"
    assert api.refused("GET", path, path="/dne") == (404, text)
    assert api.refused("PUT", path, _tar(), path="/dne") == (404, text)
    assert api.raw("HEAD", path, path="/dne")[0] == 404
    for wrong in ("/foo/", "/foo/.", "/foo/x"):
        status, text = api.refused("GET", path, path=wrong)
        assert (status, "not a directory" in text) == (400, True), wrong
    status, text = api.refused("PUT", path, _tar(), path="/foo/")
    assert (status, "not a directory" in text) == (400, True)
    assert "is not a directory" in api.refused("PUT", path, _tar(), path="/foo")[1]
    for method in ("GET", "PUT"):
        assert api.refused(method, path)[0] == 400  # no path


def test_nothing_and_an_empty_archive_are_fine(api: Api, tree: str) -> None:
    path = f"/containers/{tree}/archive"
    assert api.raw("PUT", path, b"", path="/tmp")[0] == 200
    assert api.raw("PUT", path, _tar(), path="/tmp")[0] == 200
    assert api.refused("PUT", path, b"no archive at all" * 100, path="/tmp")[0] == 400


def test_kinds_are_kept_when_asked(api: Api, tree: str) -> None:
    path = f"/containers/{tree}/archive"
    file_over_dir, dir_over_file = _tar(("quux", b"file")), _tar(("foo/", b""))
    for body, where in ((file_over_dir, "/bar"), (dir_over_file, "/")):
        status, text = api.refused("PUT", path, body, path=where, noOverwriteDirNonDir=1)
        assert (status, "cannot overwrite" in text) == (400, True), text
    assert _get(api, tree, "/bar/quux/baz")[1] == {"baz": "world"}
    assert api.raw("PUT", path, dir_over_file, path="/")[0] == 200
    assert _get(api, tree, "/foo")[1] == {"foo/": ""}


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ("2375", "2375:2376"),
        ("7777", "7777:0"),
        ("7777:", "7777:0"),
        ("", "55:66"),  # as in Docker: the archive's
        (":7777", "0:7777"),
        ("2375:2376", "2375:2376"),
        ("testuser:testgroup", "2375:2376"),
        ("testuser", "2375:2376"),
        ("testuser:7777", "2375:7777"),
        ("7777:testgroup", "7777:2376"),
    ],
)
def test_owners_are_the_containers_user_when_asked(api: Api, user: str, owner: str) -> None:
    made = api.create("stat", "-c", "%u:%g", "/tmp/x", User=user)
    path = f"/containers/{made}/archive"
    etc = _tar(
        ("passwd", b"root:x:0:0::/:/bin/sh\ntestuser:x:2375:2376::/:/bin/sh\n"),
        ("group", b"root:x:0:\ntestgroup:x:2376:\n"),
        mode=0o644,
    )
    assert api.raw("PUT", path, etc, path="/etc")[0] == 200
    body = _tar(("x", b""), uid=55, gid=66)
    assert api.raw("PUT", path, body, path="/tmp", copyUIDGID=1)[0] == 200
    with tarfile.open(fileobj=io.BytesIO(api.raw("GET", path, path="/tmp/x")[2])) as tar:
        member = tar.getmember("x")
    assert f"{member.uid}:{member.gid}" == owner
    assert api.raw("PUT", path, body, path="/tmp")[0] == 200
    with tarfile.open(fileobj=io.BytesIO(api.raw("GET", path, path="/tmp/x")[2])) as tar:
        assert tar.getmember("x").uid == 55
    api.remove(made)


@pytest.mark.parametrize("state", ["created", "running"])
def test_what_is_read_only_stays_as_it_is(api: Api, state: str) -> None:
    host = {"ReadonlyRootfs": True, "Binds": ["ro-vol:/ro:ro", "rw-vol:/rw"]}
    made = api.create("sleep", "1000", HostConfig=host)
    if state == "running":
        api.ok("POST", f"/containers/{made}/start")
    path = f"/containers/{made}/archive"
    rootfs, volume = (
        f"{what} is marked read-only" for what in ("container rootfs", "mounted volume")
    )
    for where, text in (("/", rootfs), ("/tmp", rootfs), ("/ro", volume)):
        status, found = api.refused("PUT", path, _tar(("x", b"1")), path=where)
        assert (status, text in found) == (400, True), (where, found)
    assert api.raw("PUT", path, _tar(("x", b"1")), path="/rw")[0] == 200
    assert _get(api, made, "/rw/x")[1] == {"x": "1"}
    api.remove(made)
    for name in ("ro-vol", "rw-vol"):
        api.ok("DELETE", f"/volumes/{name}")


def test_a_hostile_archive_stays_inside(api: Api, tree: str, engine: Engine) -> None:
    """Names that lead out, and links that others are written through."""
    path = f"/containers/{tree}/archive"
    mark = engine.root / "t" / "escaped"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(mark.parent)
        tar.addfile(link)
        member = tarfile.TarInfo("link/escaped")
        tar.addfile(member)
    status, _, said = api.raw("PUT", path, out.getvalue(), path="/tmp")
    assert not mark.exists()
    assert (status, b"cannot be unpacked" in said) == (400, True), said
    for name in ("../../../../../../tmp/up", "/abs"):
        status, _, text = api.raw("PUT", path, _tar((name, b"1")), path="/tmp")
        assert status < 500, text
    assert api("HEAD", path, path="/up")[0] == 404


@pytest.mark.parametrize(
    ("kind", "status"), [(tarfile.CHRTYPE, 200), (tarfile.BLKTYPE, 200), (b"Z", 400)]
)
def test_device_nodes_are_left_out_and_unknown_kinds_refused(
    api: Api, kind: bytes, status: int
) -> None:
    """A user namespace makes no device nodes (Docker leaves them out there as well)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("device")
        member.type, member.devmajor, member.devminor = kind, 1, 3
        tar.addfile(member)
    made = api.create("true")
    path = f"/containers/{made}/archive"
    assert api.raw("PUT", path, out.getvalue(), path="/tmp")[0] == status
    assert api.raw("HEAD", path, path="/tmp/device")[0] == 404
    api.remove(made)


def test_special_files_come_out_and_go_in(api: Api) -> None:
    made = api.run("sh", "-c", "mkfifo /fifo; sleep 1000")
    until(lambda: api("HEAD", f"/containers/{made}/archive", path="/fifo")[0] == 200)
    body = api.raw("GET", f"/containers/{made}/archive", path="/fifo")[2]
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        assert tar.getmember("fifo").isfifo()
    assert api.raw("PUT", f"/containers/{made}/archive", body, path="/tmp")[0] == 200
    found, _ = _get(api, made, "/tmp/fifo")
    assert found["mode"] & 1 << 25
    api.remove(made)


def test_an_image_without_files_takes_some(api: Api, engine: Engine) -> None:
    """Copying into a container that never ran, and running what was copied."""
    made = api.create("sh", "/run-me", image=IMAGE)
    body = _tar(("run-me", b"echo ran > /result"), mode=0o755)
    assert api.raw("PUT", f"/containers/{made}/archive", body, path="/")[0] == 200
    api.ok("POST", f"/containers/{made}/start")
    until(lambda: api.state(made)["Status"] == "exited")
    assert _get(api, made, "/result")[1] == {"result": "ran\n"}
    api.remove(made)


def test_a_client_that_ends_its_half_after_an_upload_gets_its_answer(
    api: Api, engine: Engine
) -> None:
    """As ``ncat`` and ``socat`` do; the files are there, and it must be told."""
    made = api.run("sleep", "1000")
    body = _tar(("x", b"y" * 1_000_000))
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(60)
        line.connect(str(engine.socket))
        line.sendall(
            f"PUT /containers/{made}/archive?path=/tmp HTTP/1.1\r\nHost: d\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        line.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: line.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert _get(api, made, "/tmp/x")[1] == {"x": "y" * 1_000_000}
    api.remove(made)
