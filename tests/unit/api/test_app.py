"""What every request goes through."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from rootless.api.app import make_app, serve
from tests.unit.api.conftest import Served
from tests.unit.api.wire import Answer, head


async def raw(served: Served, data: bytes) -> Answer:
    """The answer to bytes that are no proper request."""
    async with await served.connect() as client:
        client.writer.write(data)
        return await client.read_answer()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.51"])
async def test_ping(served: Served, method: str, prefix: str) -> None:
    answer = await served.request(method, f"{prefix}/_ping")
    assert answer.status == 200
    assert answer.body == (b"OK" if method == "GET" else b"")
    wanted = {
        "api-version": "1.51",
        "ostype": "linux",
        "docker-experimental": "false",
        "cache-control": "no-cache, no-store, must-revalidate",
        "pragma": "no-cache",
        "swarm": "inactive",
    }
    assert wanted.items() <= answer.headers.items()
    assert answer.headers["server"].startswith("Rootless/")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (
            "1.23",
            "client version 1.23 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("9", "client version 9 is too new. Maximum supported API version is 1.51"),
        ("1.51.1", "client version 1.51.1 is too new. Maximum supported API version is 1.51"),
        (
            "1",
            "client version 1 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
        ("1..5", "invalid API version '1..5' (hint: such as v1.51)"),
    ],
)
async def test_versions_out_of_range(served: Served, version: str, message: str) -> None:
    answer = await served.request("GET", f"/v{version}/_ping")
    assert (answer.status, answer.message) == (400, message)
    assert answer.headers["api-version"] == "1.51"


@pytest.mark.parametrize("path", ["/containers/a%00/json", "/containers/json?filters=%00"])
async def test_nul_is_refused(served: Served, path: str) -> None:
    answer = await served.request("GET", path)
    assert (answer.status, "NUL" in answer.message) == (400, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("PATCH", "/info"),
        ("GET", "/"),
        ("GET", "/v1.51/x"),
        ("GET", "/v9.9/x"),
        ("GET", "/vx/info"),
        ("DELETE", "/v1.51/info"),
    ],
)
async def test_unknown_paths(served: Served, method: str, path: str) -> None:
    answer = await served.request(method, path)
    assert (answer.status, answer.json()) == (404, {"message": "page not found"})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/networks", "/networks/", "/v1.24/networks/"])
async def test_networks_with_a_slash(served: Served, path: str) -> None:
    assert len(await served.json("GET", path)) == 3


@pytest.mark.parametrize(
    ("path", "escape"),
    [
        ("/info?a=%zz", "%zz"),
        ("/info?a=%4", "%4"),
        ("/containers/%/json", "%/j"),
        ("/containers/json?all=1%", "%"),
    ],
)
async def test_wrong_escapes(served: Served, path: str, escape: str) -> None:
    answer = await served.request("GET", path)
    assert (answer.status, answer.message) == (400, f'invalid URL escape "{escape}"')


async def test_a_start_takes_no_config(served: Served) -> None:
    ref = await served.create("silent")
    path = f"/containers/{ref}/start"
    answer = await served.request("POST", path, {"Binds": ["/:/host"]})
    assert (answer.status, "removed in v1.24" in answer.message) == (400, True)
    chunked = b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    answer = await raw(served, f"POST {path} HTTP/1.1\r\n".encode() + chunked)
    assert (answer.status, "removed in v1.24" in answer.message) == (400, True)
    await served.json("POST", path, {}, status=204)


@pytest.mark.parametrize("path", ["/info", "/v1.51/containers/x/json", "/nothing"])
async def test_options(served: Served, path: str) -> None:
    answer = await served.request("OPTIONS", path)
    assert (answer.status, answer.body, answer.headers["api-version"]) == (200, b"", "1.51")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", 'invalid resize height "": invalid syntax'),
        ("h=1", 'invalid resize width "": invalid syntax'),
        ("h=x&w=1", 'invalid resize height "x": invalid syntax'),
        ("h=1&w=65536", 'invalid resize width "65536": value out of range'),
    ],
)
async def test_sizes_of_terminals(served: Served, query: str, message: str) -> None:
    ref = await served.create("silent", Tty=True)
    answer = await served.request("POST", f"/containers/{ref}/resize?{query}")
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_broken_requests_get_json(served: Served, data: bytes) -> None:
    answer = await raw(served, data)
    assert answer.status == 400
    assert answer.message.startswith("Bad Request: ")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:2375", "api.moby.localhost", "docker", "127.0.0.1:80", "[::1]",
             "%2Fvar%2Frun%2Fdocker.sock", ""],
)  # fmt: skip
async def test_own_hosts(served: Served, host: str) -> None:
    assert (await served.request("GET", "/_ping", Host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "10.0.0.1", "127.0.0.1.evil.io"]
)
async def test_foreign_hosts_are_refused(served: Served, host: str) -> None:
    answer = await served.request("GET", "/_ping", Host=host)
    assert answer.status == 403
    assert "refused" in answer.message


async def test_foreign_origins_are_refused(served: Served) -> None:
    refused = await served.request("POST", "/containers/prune", Origin="http://evil.example")
    assert refused.status == 403
    null = await served.request("POST", "/containers/prune", Origin="null")
    assert null.status == 403
    own = await served.request("POST", "/containers/prune", Origin="http://localhost")
    assert own.status == 200


async def test_a_crash_is_logged_but_not_shown(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.engine.system.crash = True
    answer = await served.request("GET", "/_ping")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    assert "secret detail" in caplog.text


async def test_denial_names_every_finding(served: Served) -> None:
    body = {"Image": "busybox", "HostConfig": {"Privileged": True}}
    answer = await served.request("POST", "/containers/create", body)
    assert answer.status == 403
    for part in ("privileges.privileged", "capabilities.add", "drop it", "name them"):
        assert part in answer.message


async def test_not_modified_has_no_body(served: Served) -> None:
    ref = await served.create("x")
    async with await served.connect() as client:
        client.send("POST", f"/containers/{ref}/stop")
        answer = await client.read_answer()
        assert (answer.status, answer.headers.get("content-length", "0")) == (304, "0")
        assert (await client.request("GET", "/_ping")).body == b"OK"


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "application/json", "invalid JSON: got EOF while reading request body"),
        (b"{", "application/json", "invalid JSON: "),
        (b"{}", "application/json", "config cannot be empty in order to create a container"),
        (b"null", "application/json", "config cannot be empty in order to create a container"),
        (b"{} x", "application/json", "unexpected content after JSON"),
        (b"[" * 100_000, "application/json", "invalid JSON: "),
        (b'{"Image": 5}', "application/json", "invalid JSON: Image: expected str, got int"),
        (
            b'{"HostConfig": {"Memory": "1"}}',
            "application/json",
            "invalid JSON: HostConfig.Memory: expected int, got str",
        ),
        (
            b"{}",
            "text/plain",
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
    ],
)
async def test_bad_bodies(served: Served, body: bytes, content_type: str, message: str) -> None:
    headers = {"Content-Type": content_type}
    answer = await served.request("POST", "/containers/create", body, **headers)
    assert answer.status == 400
    assert answer.message.startswith(message)


async def test_body_size_is_bounded(served: Served) -> None:
    async with await served.connect() as client:
        client.send("POST", "/containers/create", b"", Content_Length=str(1 << 40),
                    Content_Type="application/json")  # fmt: skip
        block = b" " * (1 << 20)
        for _ in range(5):
            client.writer.write(block)
        answer = await client.read_answer()
        assert answer.status == 400
        assert "larger than 4 MiB" in answer.message
        assert answer.headers["connection"] == "close"


async def test_expect_100_continue(served: Served) -> None:
    body = b'{"Name": "v"}'
    data = head("POST", "/volumes/create", body, Content_Type="application/json",
                Expect="100-continue")  # fmt: skip
    at = data.index(b"\r\n\r\n") + 4
    async with await served.connect() as client:
        client.writer.write(data[:at])
        assert (await client.read_head()).status == 100
        client.writer.write(data[at:])
        assert (await client.read_answer()).status == 201


async def test_identity_is_the_peers(served: Served) -> None:
    ref = await served.create("x")
    await served.json("GET", f"/containers/{ref}/json")
    identity = served.engine.containers.calls[-1][1]
    assert (identity.source, identity.uid, identity.pid) == ("unix", os.getuid(), os.getpid())
    assert identity.executable == os.readlink("/proc/self/exe")


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    async with await served.connect() as client:
        client.writer.write(head("GET", "/_ping") * 100)
        client.writer.write_eof()
        for _ in range(100):
            assert (await client.read_answer()).body == b"OK"
        assert await client.reader.read() == b""


async def test_half_closed_client_gets_its_answer(served: Served) -> None:
    async with await served.connect() as client:
        client.send("GET", "/info")
        client.writer.write_eof()
        assert (await client.read_answer()).json()["ID"] == "id"


async def test_unfinished_body_ends_with_the_client(served: Served) -> None:
    async with await served.connect() as client:
        data = head("POST", "/volumes/create", b"{}", Content_Length="100")
        client.writer.write(data)
        client.writer.write_eof()
        assert await client.reader.read() == b""
    assert served.engine.volumes.volumes == {}


async def test_gone_client_ends_a_stream(served: Served) -> None:
    ref = await served.create("x")
    for path in ("/events", f"/containers/{ref}/logs?stdout=1&follow=1"):
        served.engine.registered.clear()
        served.engine.released.clear()
        client = await served.connect()
        client.send("GET", path)
        assert (await client.read_head()).status == 200
        await served.engine.registered.wait()
        await client.close()
        await served.engine.released.wait()
    assert served.engine.containers.open_streams == 0


async def test_shutdown_ends_streams(tmp_path: object) -> None:
    import socket
    import tempfile

    from tests.unit.api.fake_engine import FakeEngine
    from tests.unit.api.wire import Client

    with tempfile.TemporaryDirectory(prefix="api-") as directory:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(f"{directory}/s")
        engine = FakeEngine()
        runner = await serve(make_app(engine), [sock])
        client = await Client.connect(f"{directory}/s")
        client.send("GET", "/events")
        await client.read_head()
        await engine.registered.wait()
        idle = await Client.connect(f"{directory}/s")
        assert (await idle.request("GET", "/_ping")).status == 200
        async with asyncio.timeout(5):
            await runner.close()
        await engine.released.wait()
        assert await idle.reader.read() == b""
        await client.close()
        await idle.close()


async def test_filters_in_both_forms(served: Served) -> None:
    for text in ('{"label":["a=b"]}', '{"label":{"a=b":true}}'):
        await served.json("GET", f"/containers/json?filters={text}")
        assert served.engine.containers.calls[-1][1][0] == {"label": ["a=b"]}
    for text in ("{", "[]", '{"label":5}'):
        answer = await served.request("GET", f"/containers/json?filters={text}")
        assert answer.status == 400
        assert "invalid filter" in answer.message


async def test_names_as_inspect_gives_them(served: Served) -> None:
    await served.json("POST", "/containers/create?name=a", {"Image": "busybox"}, status=201)
    for path in ("/containers//a/json", "/v1.51/containers/%2Fa/json"):
        assert (await served.json("GET", path))["Name"] == "/a"


async def test_names_with_slashes(served: Served) -> None:
    found = await served.json("GET", "/v1.51/images/registry.example/a/b:tag/json")
    assert found["Id"].startswith("sha256:")
    again = await served.json("GET", "/images/registry.example%2Fa%2Fb/json")
    assert again == found


async def test_progress_and_its_errors(served: Served) -> None:
    answer = await served.request("POST", "/images/create?fromImage=busybox&tag=latest")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines[1] == {
        "status": "Downloading",
        "progressDetail": {"current": 5, "total": 10},
        "id": "abc",
    }
    digest = f"sha256:{'0' * 64}"
    late = await served.request("POST", f"/images/create?fromImage=broken&tag={digest}")
    assert late.status == 200
    assert json.loads(late.body.splitlines()[-1]) == {
        "errorDetail": {"message": "layer abc has the wrong digest"},
        "error": "layer abc has the wrong digest",
    }
    early = await served.request("POST", "/images/create?fromImage=missing")
    assert early.status == 404
    references = [call[1][0] for call in served.engine.images.calls]
    assert references == ["busybox:latest", f"broken@{digest}", "missing"]


async def test_registry_auth_header(served: Served) -> None:
    import base64

    text = base64.urlsafe_b64encode(b'{"username":"u","password":"\xc3\xbf?>"}').decode()
    for header in (text, text.rstrip("=")):
        await served.request("POST", "/images/busybox/push?tag=1", X_Registry_Auth=header)
        auth = served.engine.images.calls[-1][1][1]["auth"]
        assert (auth.username, auth.password) == ("u", "\xff?>")
    bad = await served.request("POST", "/images/busybox/push", X_Registry_Auth="!")
    assert (bad.status, served.engine.images.calls[-1][1][1]["auth"]) == (200, None)
    assert "X-Registry-Auth was ignored" in bad.headers["warning"]


async def test_archives_stream_both_ways(served: Served) -> None:
    ref = await served.create("x")
    answer = await served.request("GET", f"/containers/{ref}/archive?path=/etc")
    assert len(answer.body) == 4 << 20
    import base64

    stat = json.loads(base64.b64decode(answer.headers["x-docker-container-path-stat"]))
    assert stat["name"] == "etc"
    assert stat["mode"] == 1 << 31 | 1 << 20 | 0o777
    assert (await served.request("HEAD", f"/containers/{ref}/archive?path=/absent")).status == 404
    data = os.urandom(3 << 20)
    put = await served.request("PUT", f"/containers/{ref}/archive?path=/x&copyUIDGID=1", data)
    assert put.status == 200
    assert served.engine.containers.uploads == [data]


async def test_a_stream_that_fails_is_cut_short(served: Served) -> None:
    """A clean end would make half an archive look whole."""
    ref = await served.create("x")
    async with await served.connect() as client:
        client.send("GET", f"/containers/{ref}/archive?path=/broken")
        await client.read_head()
        assert await client.read_chunk() == b"x" * 100
        assert await client.reader.read() == b""


async def test_gzip_bodies_are_not_unpacked(served: Served) -> None:
    import gzip

    data = gzip.compress(b"\0" * (1 << 20))
    await served.request("POST", "/images/load", data, Content_Encoding="gzip")
    assert served.engine.images.uploaded == len(data)


async def test_ignored_fields_become_warnings(served: Served) -> None:
    body = {"Image": "busybox", "HostConfig": {"ReadOnlyRootFS": True, "Bogus": 1}, "x": None}
    found = await served.json("POST", "/containers/create", body, status=201)
    assert found["Warnings"] == [
        "field HostConfig.Bogus is not known and was ignored",
        "field x is not known and was ignored",
    ]
    assert served.engine.containers.requests[-1].host.read_only_rootfs


async def test_wait_answers_before_the_end(served: Served) -> None:
    ref = await served.create("silent")
    await served.engine.containers.attach(None, ref)  # type: ignore[arg-type]  # the engine in its place asks nobody
    async with await served.connect() as client:
        client.send("POST", f"/containers/{ref}/wait?condition=next-exit")
        assert (await client.read_head()).status == 200
        await served.json("POST", f"/containers/{ref}/start", status=204)
        await served.json("POST", f"/containers/{ref}/kill?signal=TERM", status=204)
        assert json.loads(await client.read_chunk()) == {"StatusCode": 137}
    bad = await served.request("POST", f"/containers/{ref}/wait?condition=x")
    assert bad.status == 400


async def test_plan(served: Served) -> None:
    body = {"Image": "busybox"}
    found = await served.json("POST", "/rootless/plan", body)
    assert found["Allowed"] is True
    assert found["Steps"] == [{"Step": "mount", "Description": "mount /proc"}]
    assert served.engine.containers.records == {}


async def test_what_egress_lists_denied(served: Served) -> None:
    rows = await served.json("GET", "/rootless/denied?network=front&since=1.5")
    assert rows[0]["Target"] == "[2001:db8::7]:443/tcp"
    assert (rows[0]["First"], rows[0]["Count"]) == ("1970-01-01T00:00:01Z", 3)
    wanted = {"network": "front", "container": "", "since_ns": 1_500_000_000}
    assert served.engine.networks.asked == wanted


async def test_networks(served: Served) -> None:
    names = [n["Name"] for n in await served.json("GET", "/networks")]
    assert names == ["slirp4netns", "host", "none"]
    one = await served.json("GET", '/networks?filters={"driver":["null"]}')
    assert [n["Name"] for n in one] == ["none"]
    assert (await served.json("GET", f"/networks/{one[0]['Id'][:12]}"))["Name"] == "none"
    made = await served.json("POST", "/networks/create", {"Name": "x"}, status=201)
    assert (await served.json("GET", f"/networks/{made['Id']}"))["Name"] == "x"
    for body, status in (
        ({"Name": "host"}, 403),
        ({"Name": ""}, 400),
        ({"Name": "a/b"}, 400),
        ({"Name": "y", "Driver": "overlay"}, 404),
        ({"Name": "y", "Options": {"nope": "1"}}, 400),
        ({"Name": "y", "Options": {"com.docker.network.driver.mtu": "x"}}, 400),
        ({"Name": "y", "EnableIPv4": False}, 400),
        ({"Name": "y", "IPAM": {"Driver": "dhcp"}}, 400),
        ({"Name": "y", "ConfigOnly": True}, 400),
    ):
        refused = await served.request("POST", "/networks/create", body)
        assert refused.status == status, body
    connect = {"Container": "box", "EndpointConfig": {"Aliases": ["db"], "GwPriority": 2}}
    await served.json("POST", "/networks/x/connect", connect, status=200)
    await served.json("POST", "/networks/x/disconnect", {"Container": "box"}, status=200)
    asked = served.engine.networks.calls[-2][2]
    assert (asked.aliases, asked.gateway_priority) == (("db",), 2)
    assert served.engine.networks.calls[-1] == ("x", "box")
    assert (await served.request("GET", "/networks/absent")).status == 404
    assert (await served.request("DELETE", "/networks/host")).status == 403


async def test_logs(served: Served) -> None:
    from rootless.model.records import LogEntry

    ref = await served.create("x")
    served.engine.containers.log = [
        LogEntry("stdout", 1_700_000_000_000_000_001, b"one\n"),
        LogEntry("stderr", 1_700_000_000_500_000_000, b"two\n"),
    ]
    path = f"/containers/{ref}/logs?stdout=1&stderr=1"
    async with await served.connect() as client:
        client.send("GET", f"{path}&timestamps=1&tail=7&since=1700000000.5")
        answer = await client.read_answer()
    assert answer.body == (
        b"\x01\0\0\0\0\0\0\x23" + b"2023-11-14T22:13:20.000000001Z one\n"
        b"\x02\0\0\0\0\0\0\x23" + b"2023-11-14T22:13:20.500000000Z two\n"
    )
    query = served.engine.containers.calls[-1][1]
    assert (query["tail"], query["since_ns"]) == (7, 1_700_000_000_500_000_000)
    none = await served.request("GET", f"/containers/{ref}/logs")
    assert "you must choose at least one stream" in none.message
