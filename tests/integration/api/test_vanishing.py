"""Clients that vanish in the middle of anything: nothing of theirs is left, all else goes on."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support import registry
from tests.support.api import IMAGE, Api, until
from tests.support.engine import Engine
from tests.support.registry import reply

pytestmark = pytest.mark.integration
MIB = 1 << 20
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
NOISE = random.Random(1).randbytes(MIB)
"""What no compression makes shorter."""


def descriptors(engine: Engine) -> Counter[str]:
    """What the daemon has open, by kind; files by name."""
    assert engine.daemon is not None
    found: Counter[str] = Counter()
    place = Path(f"/proc/{engine.daemon.pid}/fd")
    for name in os.listdir(place):
        with suppress(FileNotFoundError):
            found[os.readlink(place / name).partition(":[")[0]] += 1
    del found["anon_inode:inotify"]  # one for all, made when the first log is followed
    return found


@contextmanager
def nothing_left(engine: Engine) -> Iterator[None]:
    """Afterwards the daemon has nothing more open than before, and answers."""
    engine.ok("run", "--rm", "--network", "none", IMAGE, "true")
    # What the last container left is closed some time after its end.
    until(lambda: _still(engine))
    before = descriptors(engine)
    yield
    until(lambda: not descriptors(engine) - before)
    assert engine.ok("version", "-f", "{{.Server.Version}}")


def _still(engine: Engine) -> bool:
    before = descriptors(engine)
    time.sleep(0.2)
    return descriptors(engine) == before


class Line:
    """One connection of a client that will not say good-bye."""

    def __init__(self, engine: Engine) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(engine.socket))

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        """A request; without a body and with ``Transfer_Encoding`` the body is to follow."""
        names = {"Host": "d"} | {k.replace("_", "-"): v for k, v in headers.items()}
        if body is not None:
            names |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""))

    def chunk(self, data: bytes) -> None:
        """A chunk of the body."""
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def read_until(self, mark: bytes) -> bytes:
        """All that comes up to ``mark``."""
        found = b""
        while mark not in found:
            data = self.socket.recv(65536)
            assert data, found
            found += data
        return found

    def vanish(self) -> None:
        """As a killed client does."""
        self.socket.close()


@pytest.fixture
def silent(api: Api) -> Iterator[str]:
    """A container that runs and says nothing."""
    ref = api.run("sleep", "1000", Tty=False, OpenStdin=True)
    yield ref
    api.remove(ref)


@pytest.fixture
def loud(api: Api) -> Iterator[str]:
    """A container that never stops talking."""
    ref = api.run("yes", HostConfig={"LogConfig": {"Type": "none"}})
    yield ref
    api.remove(ref)


ATTACH = "/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1"


@pytest.mark.parametrize("headers", [UPGRADE, {}], ids=["101", "200"])
@pytest.mark.parametrize("half", [False, True], ids=["whole", "half-closed"])
def test_attached(
    engine: Engine, api: Api, silent: str, headers: dict[str, str], half: bool
) -> None:
    with nothing_left(engine):
        line = Line(engine)
        line.send("POST", ATTACH.format(silent), **headers)
        line.read_until(b"\r\n\r\n")
        if half:
            line.socket.shutdown(socket.SHUT_WR)
        line.vanish()
    assert api.state(silent)["Running"]


def test_attached_to_a_flood(engine: Engine, api: Api, loud: str) -> None:
    """Its output flows again, into nothing."""
    with nothing_left(engine):
        line = Line(engine)
        line.send("POST", ATTACH.format(loud), **UPGRADE)
        line.read_until(b"y\ny\n")
        line.vanish()
    assert api.state(loud)["Running"]


def test_input_nobody_reads(engine: Engine, api: Api, silent: str) -> None:
    """Everything between the client and the process is full."""
    with nothing_left(engine):
        line = Line(engine)
        line.send("POST", ATTACH.format(silent), **UPGRADE)
        line.read_until(b"\r\n\r\n")
        line.socket.settimeout(1)
        with suppress(TimeoutError):
            while True:
                line.socket.sendall(bytes(MIB))
        line.vanish()
    assert api.state(silent)["Running"]


@pytest.mark.parametrize("command", [["yes"], ["sleep", "1000"], ["cat"]], ids=lambda c: c[0])
def test_exec(engine: Engine, api: Api, silent: str, command: list[str]) -> None:
    """The process goes on, as in Docker; one that reads sees the end of its input."""
    body = {"Cmd": command, "AttachStdout": True, "AttachStderr": True, "AttachStdin": True}
    made = api.ok("POST", f"/containers/{silent}/exec", body)["Id"]
    line = Line(engine)
    line.send("POST", f"/exec/{made}/start", b"{}", **UPGRADE)
    line.read_until(b"\r\n\r\n")
    if command == ["yes"]:
        line.read_until(b"y\ny\n")
    line.vanish()
    if command == ["cat"]:
        assert until(lambda: api.ok("GET", f"/exec/{made}/json")["ExitCode"] is not None)
        assert api.ok("GET", f"/exec/{made}/json")["ExitCode"] == 0
    else:
        assert api.ok("GET", f"/exec/{made}/json")["Running"]
    assert api.state(silent)["Running"]


@pytest.mark.parametrize(
    "path",
    [
        "GET /containers/{}/logs?follow=1&stdout=1",
        "GET /events",
        "GET /containers/{}/stats",
        "POST /containers/{}/wait",
        "GET /containers/{}/stats?stream=0",
    ],
)
def test_watching(engine: Engine, silent: str, path: str) -> None:
    method, _, target = path.format(silent).partition(" ")
    with nothing_left(engine):
        line = Line(engine)
        line.send(method, target)
        if "stream=0" not in path:
            line.read_until(b"\r\n\r\n")
        line.vanish()


def test_a_log_that_is_longer_than_its_reader(engine: Engine, api: Api) -> None:
    ref = api.run("seq", "1", "300000")
    api.ok("POST", f"/containers/{ref}/wait")
    with nothing_left(engine):
        line = Line(engine)
        line.send("GET", f"/containers/{ref}/logs?stdout=1")
        line.read_until(b"100\n")
        line.vanish()
    api.remove(ref)


@pytest.mark.parametrize("what", ["archive?path=/big", "export"])
def test_files_on_their_way_out(engine: Engine, api: Api, what: str) -> None:
    ref = api.run("dd", "if=/dev/zero", "of=/big", "bs=1M", "count=64")
    api.ok("POST", f"/containers/{ref}/wait")
    with nothing_left(engine):
        line = Line(engine)
        line.send("GET", f"/containers/{ref}/{what}")
        line.read_until(b"\r\n\r\n")
        line.socket.recv(65536)
        line.vanish()
    api.remove(ref)


def _layer(size: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        entry = tarfile.TarInfo("big")
        entry.size = size
        tar.addfile(entry, io.BytesIO((NOISE * (size // MIB + 1))[:size]))
    return made.getvalue()


def _images(api: Api) -> list[str]:
    return sorted(image["Id"] for image in api.ok("GET", "/images/json", all=1))


@pytest.mark.parametrize(
    "path",
    [
        "PUT /containers/{}/archive?path=/",
        "POST /images/create?fromSrc=-&repo=half",
        "POST /images/load",
    ],
)
@pytest.mark.parametrize("sent", [0, 8 * MIB])
def test_files_on_their_way_in(engine: Engine, api: Api, silent: str, path: str, sent: int) -> None:
    method, _, target = path.format(silent).partition(" ")
    images, blobs = _images(api), _blobs(engine)
    with nothing_left(engine):
        line = Line(engine)
        line.send(method, target, Transfer_Encoding="chunked", Content_Type="application/x-tar")
        data = _layer(16 * MIB)
        for start in range(0, sent, MIB):
            line.chunk(data[start : start + MIB])
        line.vanish()
    assert _images(api) == images
    assert set(_blobs(engine)) <= set(blobs)  # less where another test left what nobody uses
    assert api.state(silent)["Running"]


def _blobs(engine: Engine) -> list[str]:
    return sorted(path.name for path in (engine.data / "content").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "path", ["/containers/create", "/containers/{}/exec", "/commit?container={}", "/volumes/create"]
)
def test_half_a_body(engine: Engine, api: Api, silent: str, path: str) -> None:
    containers = api.ok("GET", "/containers/json", all=1)
    volumes, images = api.ok("GET", "/volumes")["Volumes"], _images(api)
    with nothing_left(engine):
        line = Line(engine)
        line.send(
            "POST", path.format(silent), Content_Length="100", Content_Type="application/json"
        )
        line.socket.sendall(b'{"Image": "')
        line.vanish()
    assert [c["Id"] for c in api.ok("GET", "/containers/json", all=1)] == [
        c["Id"] for c in containers
    ]
    assert api.ok("GET", "/volumes")["Volumes"] == volumes
    assert _images(api) == images


def test_what_was_asked_for_is_finished(engine: Engine, api: Api) -> None:
    """A commit has been asked for once its body is there; nobody has to wait for it."""
    ref = api.run("dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=16")
    api.ok("POST", f"/containers/{ref}/wait")
    with nothing_left(engine):
        line = Line(engine)
        line.send("POST", f"/commit?container={ref}&repo=unheard", b"{}")
        line.vanish()
        until(lambda: api("GET", "/images/unheard/json")[0] == 200)
    api.ok("DELETE", "/images/unheard")
    api.remove(ref)


class SlowRegistry:
    """Serves an image whose layer never comes to its end; takes pushes as slowly."""

    def __init__(self) -> None:
        self.layer = _layer(16 * MIB)
        self.begun = False
        self.gone = False

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        if handler.command == "POST":
            reply(handler, 202, headers={"Location": f"{handler.path}1"})
        elif handler.command == "PATCH":
            self._until_gone(lambda: handler.rfile.read(65536))
        elif "/manifests/" in handler.path:
            reply(handler, 200, self._manifest(), {"Content-Type": MANIFEST})
        elif "/blobs/" in handler.path and handler.command == "GET":
            if handler.path.endswith(registry_digest(CONFIG)):
                reply(handler, 200, CONFIG)
                return
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(self.layer)))
            handler.end_headers()
            handler.wfile.write(self.layer[: 4 * MIB])
            self._until_gone(lambda: handler.connection.recv(1))
        elif "/blobs/" in handler.path:
            reply(handler, 404)
        else:
            reply(handler, 200)

    def _until_gone(self, read: Callable[[], bytes]) -> None:
        self.begun = True
        with suppress(OSError):
            while read():
                time.sleep(0.05)
        self.gone = True

    def _manifest(self) -> bytes:
        layer = {"mediaType": LAYER, "digest": registry_digest(self.layer), "size": len(self.layer)}
        config = {"mediaType": CONFIG_TYPE, "digest": registry_digest(CONFIG), "size": len(CONFIG)}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
        ).encode()


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def registry_digest(data: bytes) -> str:
    """As registries name content."""
    import hashlib

    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONFIG = json.dumps(
    {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [registry_digest(_layer(16 * MIB))]},
    }
).encode()


def test_a_pull(engine: Engine, api: Api) -> None:
    """What came is kept for the next try, as resuming needs it; nothing else is."""
    slow = SlowRegistry()
    images = _images(api)
    with registry.http_server(slow) as home, nothing_left(engine):
        line = Line(engine)
        line.send("POST", f"/images/create?fromImage={home.host}/x&tag=latest")
        line.read_until(b"Downloading")
        line.vanish()
        until(lambda: slow.gone)
    assert _images(api) == images
    for path in (engine.data / "content/tmp").iterdir():
        path.unlink()


def test_a_pull_that_has_told_nothing_yet(engine: Engine) -> None:
    """Its registry does not answer."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with nothing_left(engine):
            line = Line(engine)
            port = mute.getsockname()[1]
            line.send("POST", f"/images/create?fromImage=127.0.0.1:{port}/x&tag=latest")
            asked, _ = mute.accept()
            line.vanish()
            asked.settimeout(60)
            while asked.recv(65536):
                continue
            asked.close()


def test_a_push(engine: Engine, api: Api) -> None:
    slow = SlowRegistry()
    with registry.http_server(slow) as home:
        api.ok("POST", "/images/create", _layer(16 * MIB), fromSrc="-", repo=f"{home.host}/y")
        with nothing_left(engine):
            line = Line(engine)
            line.send("POST", f"/images/{home.host}/y/push?tag=latest")
            until(lambda: slow.begun)
            line.vanish()
            until(lambda: slow.gone)
        api.ok("DELETE", f"/images/{home.host}/y")


def test_a_save(engine: Engine, api: Api) -> None:
    api.ok("POST", "/images/create", _layer(16 * MIB), fromSrc="-", repo="saved")
    with nothing_left(engine):
        line = Line(engine)
        line.send("GET", "/images/saved/get")
        line.read_until(b"\r\n\r\n")
        line.vanish()
    api.ok("DELETE", "/images/saved")


def test_a_hundred_at_once(engine: Engine, api: Api, silent: str) -> None:
    """Of every kind, while somebody else works."""
    paths = ["GET /events", "GET /containers/{}/logs?follow=1&stdout=1", "POST " + ATTACH]
    with nothing_left(engine):
        lines = []
        for number in range(100):
            method, _, path = paths[number % 3].format(silent).partition(" ")
            lines.append(Line(engine))
            lines[-1].send(method, path)
        for line in lines:
            line.read_until(b"\r\n\r\n")
        ref = api.run("true")
        for line in lines:
            line.vanish()
        api.remove(ref)
    assert api.state(silent)["Running"]
