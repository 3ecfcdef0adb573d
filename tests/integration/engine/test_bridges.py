"""Networks of the user's: names, addresses, ports, and who cannot reach whom."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import procfs
from tests.support.api import Api, until
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
SERVER = ("sh", "-c", "echo page > /tmp/page && exec httpd -f -p 8000 -h /tmp")
FETCH = ("wget", "-q", "-O", "-")  # with -T the static one of Debian crashes


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.ok("inspect", name))[0]
    return found


def place(engine: Engine, name: str, network: str) -> dict[str, Any]:
    found: dict[str, Any] = inspect(engine, name)["NetworkSettings"]["Networks"][network]
    return found


def serve(engine: Engine, name: str, *flags: str) -> None:
    """A container that serves a page, and does so already."""
    engine.ok("run", "-d", "--name", name, *flags, IMAGE, *SERVER)
    until(lambda: engine.run("exec", name, *FETCH, "http://127.0.0.1:8000/page").stdout)


@pytest.fixture
def networks(engine: Engine) -> Iterator[list[str]]:
    """Networks that the test makes; they go behind it, with the containers on them."""
    made: list[str] = []
    yield made
    ids = engine.containers()
    if ids:
        engine.ok("rm", "--force", *ids)
    for name in made:
        engine.ok("network", "rm", name)


def make(engine: Engine, networks: list[str], name: str, *flags: str) -> str:
    networks.append(name)
    return engine.ok("network", "create", *flags, name)


def inside(engine: Engine, name: str, source: str) -> str:
    """Run Python in a container's network namespace with every capability there."""
    pid = inspect(engine, name)["State"]["Pid"]
    done = subprocess.run(
        [
            "nsenter", f"--user=/proc/{pid}/ns/user", f"--net=/proc/{pid}/ns/net",
            "--setuid=0", "--setgid=0", sys.executable, "-c", source,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_containers_find_one_another_by_name(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "front")
    serve(engine, "web", "--network", "front", "--network-alias", "www")
    short = inspect(engine, "web")["Id"][:12]
    for name in ("web", "www", short, "web.front", "WEB"):
        got = engine.ok(
            "run", "--rm", "--network", "front", IMAGE, *FETCH, f"http://{name}:8000/page"
        )
        assert got == "page", name
    files = engine.ok("exec", "web", "cat", "/etc/resolv.conf", "/etc/hosts").splitlines()
    assert "nameserver 127.0.0.11" in files
    assert f"{place(engine, 'web', 'front')['IPAddress']}\t{short}" in files
    engine.ok("rename", "web", "shop")
    got = engine.ok("run", "--rm", "--network", "front", IMAGE, *FETCH, "http://shop:8000/page")
    assert got == "page"
    gone = engine.run("run", "--rm", "--network", "front", IMAGE, "nslookup", "web")
    assert gone.returncode != 0


def test_one_name_may_be_many(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "many")
    for number in range(3):
        engine.ok(
            "run", "-d", "--name", f"n{number}", "--network", "many", "--network-alias", "all",
            IMAGE, "sleep", "1000",
        )  # fmt: skip
    found = engine.ok("run", "--rm", "--network", "many", IMAGE, "nslookup", "all")
    for number in range(3):
        assert place(engine, f"n{number}", "many")["IPAddress"] in found


def test_networks_do_not_see_one_another(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "one", "--ipv6")
    make(engine, networks, "two", "--ipv6")
    serve(engine, "web", "--network", "one")
    found = place(engine, "web", "one")
    address, gateway = found["IPAddress"], found["Gateway"]
    engine.ok("run", "-d", "--name", "other", "--network", "two", IMAGE, "sleep", "1000")
    # What must not work is tried where the same thing works elsewhere.
    assert engine.ok(
        "run", "--rm", "--network", "one", IMAGE, *FETCH, f"http://{address}:8000/page"
    )
    assert engine.run("exec", "other", "nslookup", "web").returncode != 0
    connect = "import socket; s = socket.socket(); s.settimeout(2)\nprint(s.connect_ex(('{}', {})))"
    connect6 = connect.replace("socket.socket()", "socket.socket(socket.AF_INET6)")
    six = (found["GlobalIPv6Address"], found["IPv6Gateway"])
    assert inside(engine, "web", connect6.format(six[0], 8000)) == "0"
    for tried, source in ((address, connect), (gateway, connect), *((a, connect6) for a in six)):
        assert inside(engine, "other", source.format(tried, 8000)) != "0", tried
    # The namespace's addresses answer to the network that they are on.
    ping = ("run", "--rm", "--cap-add", "NET_RAW", "--network", "two", IMAGE, "ping", "-c1")
    assert engine.run(*ping, "-W30", place(engine, "other", "two")["Gateway"]).returncode == 0
    assert engine.run(*ping, "-W2", gateway).returncode == 1
    # Its own resolver answers; that of the other network's containers does not leak.
    reverse = ".".join(reversed(address.split(".")))
    told = engine.run("exec", "other", "nslookup", "-type=ptr", f"{reverse}.in-addr.arpa")
    assert "web" not in told.stdout


def _leads_out(pid: int) -> bool:
    """Whether there is a default route of IPv6 by slirp4netns in a process' network namespace.

    On a host without IPv6 there is none to wait for.
    """
    if not os.path.exists("/proc/net/if_inet6"):
        return True
    routes = map(str.split, Path(f"/proc/{pid}/net/ipv6_route").read_text().splitlines())
    return any((r[0], r[1], r[-1]) == ("0" * 32, "00", "tap0") for r in routes)


@pytest.mark.parametrize("network", ["bridge", "out", "slirp4netns"])
def test_the_host_is_out_of_reach(engine: Engine, networks: list[str], network: str) -> None:
    if network == "out":
        make(engine, networks, "out", "--ipv6")
    engine.ok("run", "-d", "--name", "box", "--network", network, IMAGE, "sleep", "1000")
    found = place(engine, "box", network)
    own = network == "slirp4netns"
    until(lambda: _leads_out(inspect(engine, "box")["State"]["Pid"] if own
                             else _named("rootless-net", engine.root)))  # fmt: skip
    tried = ["10.0.2.2", "10.0.2.3", "10.0.2.100", "127.0.0.1", "127.0.0.11", "fd00::2", "fd00::3",
             "::1", "::ffff:127.0.0.1", found["Gateway"], found["IPv6Gateway"]]  # fmt: skip
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))]
        port = servers[0].getsockname()[1]
        with contextlib.suppress(OSError):  # no IPv6, or another one has the port there
            made = socket.create_server(("::1", port), family=socket.AF_INET6)
            servers.append(stack.enter_context(made))
        source = (
            f"import socket\nfor a in {[address for address in tried if address]}:\n"
            "    s = socket.socket(socket.AF_INET6 if ':' in a else socket.AF_INET)\n"
            "    s.settimeout(2)\n"
            f"    print(a, s.connect_ex((a, {port})))"
        )
        lines = inside(engine, "box", source).splitlines()
        assert len(lines) == len(tried)
        for line in lines:
            assert not line.endswith(" 0"), line
        for server in servers:
            server.settimeout(0)
            with pytest.raises(BlockingIOError):
                server.accept()
    # Neither is the engine's API, where it is a file.
    assert engine.run("exec", "box", "ls", str(engine.root)).returncode != 0
    # Abstract sockets belong to the host's network namespace.
    with socket.socket(socket.AF_UNIX) as hidden:
        hidden.bind("\0rootless-test-bridges")
        hidden.listen()
        source = (
            "import socket; s = socket.socket(socket.AF_UNIX)\n"
            "print(s.connect_ex('\\0rootless-test-bridges'))"
        )
        assert inside(engine, "box", source) != "0"


def own_address() -> str:
    """An address of this host that is not loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))
        return str(sock.getsockname()[0])


def test_the_way_out_and_internal_networks(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "open", "--ipv6")
    make(engine, networks, "closed", "--internal")
    for name in ("open", "closed"):
        engine.ok("run", "-d", "--name", f"on-{name}", "--network", name, IMAGE, "sleep", "1000")
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        source = (
            "import socket; s = socket.socket(); s.settimeout(3)\n"
            f"print(s.connect_ex(('{own_address()}', {port})))"
        )
        assert inside(engine, "on-open", source) == "0"
        assert inside(engine, "on-closed", source) != "0"
        # Nor by a route that it makes itself.
        (plan,) = json.loads(engine.ok("network", "inspect", "closed"))[0]["IPAM"]["Config"]
        change = (
            "import subprocess; subprocess.run('ip route {} default via {}'.split(), check=True)"
        )
        inside(engine, "on-closed", change.format("add", plan["Gateway"]))
        assert inside(engine, "on-closed", source) != "0"
        inside(engine, "on-closed", change.format("del", plan["Gateway"]))
    until(lambda: _leads_out(_named("rootless-net", engine.root)))
    assert "default" in engine.ok("exec", "on-open", "ip", "route")
    assert "default" not in engine.ok("exec", "on-closed", "ip", "route")
    assert engine.run("exec", "on-closed", "nslookup", "localhost.test").returncode != 0
    shown = json.loads(engine.ok("network", "inspect", "closed"))[0]
    assert (shown["Internal"], shown["Driver"], shown["Scope"]) == (True, "bridge", "local")


def test_published_ports(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "front")
    serve(engine, "web", "--network", "front", "-p", "8000", "-p", "[::1]::8000", "-p", "9000/udp")
    ports = inspect(engine, "web")["NetworkSettings"]["Ports"]
    for binding in ports["8000/tcp"]:
        with socket.create_connection((binding["HostIp"], int(binding["HostPort"])), 60) as client:
            client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.endswith(b"page\n")
    assert {binding["HostIp"] for binding in ports["8000/tcp"]} == {"127.0.0.1", "::1"}
    echo = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "s.bind(('0.0.0.0', 9000)); s.settimeout(60)\n"
        "d, a = s.recvfrom(100); s.sendto(d.upper(), a)"
    )
    listener = threading.Thread(target=inside, args=(engine, "web", echo))
    listener.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.connect(("127.0.0.1", int(ports["9000/udp"][0]["HostPort"])))
        until(lambda: _asked(client) == b"HELLO")
    listener.join()
    taken = ports["8000/tcp"][0]["HostPort"]
    refused = engine.run(
        "run", "--rm", "--network", "front", "-p", f"127.0.0.1:{taken}:80", IMAGE, "true"
    )
    assert (refused.returncode, "port is already allocated" in refused.stderr) == (125, True)


def _asked(client: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        client.send(b"hello")
        return client.recv(100)
    return b""


def _page(port: int) -> bytes:
    """What a published port on loopback answers; b'' when it refuses, or cuts the client off."""
    with (
        contextlib.suppress(ConnectionError),
        socket.create_connection(("127.0.0.1", port), 60) as client,
    ):
        client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: client.recv(4096), b"")).rpartition(b"\r\n")[2]
    return b""


def test_published_ports_follow_the_networks(engine: Engine, networks: list[str]) -> None:
    for name in ("first", "second"):
        make(engine, networks, name)
    serve(engine, "web", "--network", "first", "--network", "second", "-p", "8000")
    port = int(inspect(engine, "web")["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"])
    assert _page(port) == b"page\n"
    engine.ok("network", "disconnect", "first", "web")
    assert _page(port) == b"page\n"
    engine.ok("network", "disconnect", "second", "web")
    assert _page(port) == b""
    engine.ok("network", "connect", "first", "web")
    assert _page(port) == b"page\n"
    # A removed container's port is free at once, also for another container.
    for network in ("second", "first"):
        engine.ok("rm", "-f", "web")
        serve(engine, "web", "--network", network, "-p", f"127.0.0.1:{port}:8000")
        assert _page(port) == b"page\n"


def test_connecting_a_running_container(
    engine: Engine, networks: list[str], docker_cli: DockerCli
) -> None:
    make(engine, networks, "here")
    make(engine, networks, "there", "--subnet", "10.77.3.0/24")
    serve(engine, "web", "--network", "here")
    told = docker_cli("network", "connect", "--ip", "10.77.3.50", "--alias", "db", "there", "web")
    assert told.returncode == 0, told.stderr
    got = engine.ok("run", "--rm", "--network", "there", IMAGE, *FETCH, "http://db:8000/page")
    assert got == "page"
    assert place(engine, "web", "there")["IPAddress"] == "10.77.3.50"
    assert "10.77.3.50\t" in engine.ok("exec", "web", "cat", "/etc/hosts")
    shown = json.loads(engine.ok("network", "inspect", "there"))[0]
    assert [c["IPv4Address"] for c in shown["Containers"].values()] == ["10.77.3.50/24"]
    again = docker_cli("network", "connect", "there", "web")
    assert "endpoint with name web already exists in network there" in again.stderr
    # A restart keeps both.
    engine.ok("restart", "-t", "0", "web")
    assert place(engine, "web", "there")["IPAddress"] == "10.77.3.50"
    used = docker_cli("network", "rm", "here")
    assert 'network here has active endpoints (name:"web" id:"' in used.stderr
    assert docker_cli("network", "disconnect", "here", "web").returncode == 0
    assert set(inspect(engine, "web")["NetworkSettings"]["Networks"]) == {"there"}
    addresses = engine.ok("exec", "web", "ip", "-4", "-o", "addr")
    assert ("eth0" in addresses, "eth1" in addresses) == (False, True)
    assert "default via 10.77.3.1" in engine.ok("exec", "web", "ip", "route")
    for how in ((), ("--force",)):
        twice = docker_cli("network", "disconnect", *how, "here", "web")
        assert "is not connected to network here" in twice.stderr


def test_a_container_that_was_never_started(
    engine: Engine, networks: list[str], docker_cli: DockerCli
) -> None:
    """What it asks for is shown; a link may name who comes later."""
    make(engine, networks, "for later use")
    ref = engine.ok("create", "--name", "first", IMAGE, "sleep", "1000").strip()
    option = "com.docker.network.endpoint.ifname=e"
    told = docker_cli("network", "connect", "--driver-opt", option, "for later use", "first")
    assert "com.docker.network.endpoint.ifname of a container is not supported" in told.stderr
    asked = {
        "MacAddress": "02:00:00:00:00:77",
        "Links": ["second:shop"],
        "DriverOpts": {"org.some": "x"},
    }
    body = {"Container": ref, "EndpointConfig": asked}
    Api(engine).ok("POST", "/networks/for%20later%20use/connect", body)
    shown = place(engine, "first", "for later use")
    assert {key: shown[key] for key in asked} == asked
    engine.ok("start", "first")
    serve(engine, "second", "--network", "for later use")
    assert place(engine, "first", "for later use")["MacAddress"] == asked["MacAddress"]
    address = place(engine, "second", "for later use")["IPAddress"]
    assert address in engine.ok("exec", "first", "nslookup", "shop")


def test_a_slirp4netns_besides_a_bridge(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "extra")
    serve(engine, "web", "--network", "extra")
    engine.ok("run", "-d", "--name", "box", "--network", "slirp4netns", IMAGE, "sleep", "1000")
    assert engine.run("exec", "box", "nslookup", "web").returncode != 0
    engine.ok("network", "connect", "extra", "box")
    assert engine.ok("exec", "box", "nslookup", "web").count(
        place(engine, "web", "extra")["IPAddress"]
    )
    both = set(inspect(engine, "box")["NetworkSettings"]["Networks"])
    assert both == {"slirp4netns", "extra"}
    assert "tap0" in engine.ok("exec", "box", "ip", "route", "show", "default")


def test_the_default_bridge(engine: Engine, api: Api, docker_cli: DockerCli) -> None:
    serve(engine, "web", "-p", "8000")
    found = inspect(engine, "web")
    assert found["HostConfig"]["NetworkMode"] == "bridge"
    shown = found["NetworkSettings"]["Networks"]["bridge"]
    subnet = json.loads(engine.ok("network", "inspect", "bridge"))[0]
    assert shown["Gateway"] == subnet["IPAM"]["Config"][0]["Gateway"]
    assert (shown["Aliases"], shown["DNSNames"]) == (None, None)
    for key in ("IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "EndpointID"):
        assert found["NetworkSettings"][key] == shown[key] != "", key
    assert subnet["Containers"][found["Id"]]["IPv4Address"].startswith(shown["IPAddress"] + "/")
    assert _page(int(found["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"])) == b"page\n"
    # Nobody on it finds or reaches another one; whoever names a network alone is not on it.
    engine.ok("run", "-d", "--name", "box", IMAGE, "sleep", "1000")
    for name in ("web", found["Id"][:12]):
        assert engine.run("exec", "box", "nslookup", name).returncode != 0
    out = (
        f"import socket; s = socket.socket(); s.settimeout(1)\n"
        f"print(s.connect_ex(('{shown['IPAddress']}', 8000)))"
    )
    assert inside(engine, "web", out) == "0"
    assert inside(engine, "box", out) != "0"
    status, answer = api("POST", "/networks/bridge/connect",
                         {"Container": "box", "EndpointConfig": {"Aliases": ["x"]}})  # fmt: skip
    assert (status, answer["message"]) == (
        403, "endpoint with name box already exists in network bridge"
    )  # fmt: skip
    told = docker_cli("run", "--rm", "--network-alias", "x", IMAGE, "true")
    assert "only supported for user-defined networks" in told.stderr
    told = docker_cli("run", "--rm", "--ip", "172.17.0.9", IMAGE, "true")
    assert "user specified IP address is supported on user defined networks only" in told.stderr
    assert api("DELETE", "/networks/bridge")[0] == 403
    assert docker_cli("network", "prune", "-f").returncode == 0
    assert docker_cli("network", "disconnect", "bridge", "box").returncode == 0
    assert "eth0" not in engine.ok("exec", "box", "ls", "/sys/class/net")
    assert docker_cli("network", "connect", "bridge", "box").returncode == 0
    assert place(engine, "box", "bridge")["IPAddress"]
    engine.ok("rm", "-f", "web", "box")


def test_static_addresses_and_what_cannot_be(engine: Engine, networks: list[str], api: Api) -> None:
    make(engine, networks, "plan", "--subnet", "10.77.4.0/24", "--ip-range", "10.77.4.128/25",
         "--aux-address", "printer=10.77.4.130", "--label", "tier=db")  # fmt: skip
    make(engine, networks, "auto")
    engine.ok("run", "-d", "--name", "aa", "--network", "plan", "--ip", "10.77.4.9",
              "--mac-address", "02:00:00:00:00:09", IMAGE, "sleep", "1000")  # fmt: skip
    shown = place(engine, "aa", "plan")
    assert (shown["IPAddress"], shown["MacAddress"]) == ("10.77.4.9", "02:00:00:00:00:09")
    assert shown["IPAMConfig"] == {"IPv4Address": "10.77.4.9"}
    engine.ok("run", "-d", "--name", "bb", "--network", "plan", IMAGE, "sleep", "1000")
    # The gateway and the printer have the first two of the range.
    assert place(engine, "bb", "plan")["IPAddress"] == "10.77.4.129"
    engine.ok("run", "-d", "--name", "cc", "--network", "plan", IMAGE, "sleep", "1000")
    assert place(engine, "cc", "plan")["IPAddress"] == "10.77.4.131"
    for flags, said in (
        (("--network", "plan", "--ip", "10.77.4.9"), "Address already in use"),
        (("--network", "plan", "--ip", "10.77.4.128"), "Address already in use"),
        (("--network", "plan", "--ip", "10.78.0.1"), "no configured subnet or ip-range contain"),
        (("--network", "plan", "--ip", "nonsense"), "invalid IPv4 address"),
        (("--network", "auto", "--ip", "172.20.0.9"), "user configured subnets"),
        (("--network", "plan", "--mac-address", "01:00:00:00:00:00"), "invalid MAC address"),
        (("--network", "nowhere"), "network nowhere not found"),
        (("--network", "none", "--network", "plan"), "conflicting options"),
    ):
        done = engine.run("run", "--rm", *flags, IMAGE, "true")
        assert (done.returncode, said in done.stderr) == (125, True), (flags, done.stderr)
    for wanted, status, said in (
        ({"Subnet": "10.77.4.0/25"}, 403, "Pool overlaps with other one on this address space"),
        ({"Subnet": "10.0.2.128/25"}, 403, "Pool overlaps"),
        ({"Subnet": "10.79.0.1/24"}, 400, "it should be 10.79.0.0/24"),
        ({"Subnet": "10.79.0.0/99"}, 400, "invalid CIDR block notation"),
        ({"Subnet": "10.79.0.0/24", "Gateway": "10.80.0.1"}, 400, "doesn't contain this address"),
        ({"Subnet": "10.79.0.0/24", "IPRange": "10.79.0.0/16"}, 400, "bigger than its parent"),
        ({"Subnet": "10.79.0.0/32"}, 400, "no place"),
    ):
        got, body = api("POST", "/networks/create", {"Name": "bad", "IPAM": {"Config": [wanted]}})
        assert (got, said in body["message"]) == (status, True), (wanted, body)
    assert api("POST", "/networks/create", {"Name": "plan"})[0] == 409
    assert api("DELETE", "/networks/slirp4netns")[0] == 403
    assert api("GET", "/networks/absent")[0] == 404
    assert api("POST", "/networks/plan/connect", {"Container": "absent"})[0] == 404
    found = json.loads(engine.ok("network", "inspect", "plan"))[0]
    assert found["IPAM"]["Config"] == [
        {
            "Subnet": "10.77.4.0/24", "IPRange": "10.77.4.128/25", "Gateway": "10.77.4.128",
            "AuxiliaryAddresses": {"printer": "10.77.4.130"},
        }
    ]  # fmt: skip
    names = engine.ok("network", "ls", "--filter", "label=tier=db", "--format", "{{.Name}}")
    assert names == "plan"


SEND = """
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
def mac(t): return bytes(int(x, 16) for x in t.split(":"))
def ip(src, dst, data):
    head = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(data), 1, 0, 64, 17, 0,
                       socket.inet_aton(src), socket.inet_aton(dst))
    c = sum(struct.unpack("!10H", head)); c = (c & 65535) + (c >> 16); c = ~(c + (c >> 16)) & 65535
    return head[:10] + struct.pack("!H", c) + head[12:] + data
def udp(port, text): return struct.pack("!4H", 1, port, 8 + len(text), 0) + text
def arp(sha, spa, tha, tpa):
    return struct.pack("!HHBBH6s4s6s4s", 1, 2048, 6, 4, 2, sha, socket.inet_aton(spa), tha,
                       socket.inet_aton(tpa))
"""


def test_nobody_speaks_for_another(engine: Engine, networks: list[str]) -> None:
    """A container with every capability over its interface forges what it likes."""
    make(engine, networks, "front", "--subnet", "10.77.5.0/24")
    for name, address in (("aa", "10.77.5.2"), ("bb", "10.77.5.3"), ("cc", "10.77.5.4")):
        engine.ok(
            "run", "-d", "--name", name, "--network", "front", "--ip", address, IMAGE,
            "sleep", "1000",
        )  # fmt: skip
    own, other = (place(engine, n, "front")["MacAddress"] for n in ("aa", "bb"))
    target = place(engine, "cc", "front")["MacAddress"]
    hear = (
        "import socket\ns = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n"
        "s.bind(('eth0', 3)); s.settimeout(60); print('listening', flush=True)\n"
        "while True:\n    d = s.recv(2000)\n"
        "    if d[12:14] == b'\\x08\\x06' or b'forged' in d or b'honest' in d:\n"
        "        print(d.hex(), flush=True)\n        if b'honest' in d: break"
    )
    pid = inspect(engine, "cc")["State"]["Pid"]
    with subprocess.Popen(
        ["nsenter", f"--user=/proc/{pid}/ns/user", f"--net=/proc/{pid}/ns/net",
         "--setuid=0", "--setgid=0", sys.executable, "-c", hear], stdout=subprocess.PIPE,
    ) as listener:  # fmt: skip
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"listening\n"
        inside(engine, "aa", SEND + (
            f"me, it, all = mac('{own}'), mac('{target}'), b'\\xff' * 6\n"
            f"s.send(it + me + b'\\x08\\x00' + ip('10.77.5.3', '10.77.5.4', udp(9, b'forged')))\n"
            f"s.send(it + mac('{other}') + b'\\x08\\x00' + "
            "ip('10.77.5.2', '10.77.5.4', udp(9, b'forged')))\n"
            "s.send(all + me + b'\\x08\\x06' + arp(me, '10.77.5.3', it, '10.77.5.4'))\n"
            f"s.send(it + me + b'\\x88\\xcc' + b'forged')\n"
            f"s.send(it + me + b'\\x81\\x00\\x00\\x01\\x08\\x00' + "
            "ip('10.77.5.2', '10.77.5.4', udp(9, b'forged')))\n"
            f"s.send(it + me + b'\\x08\\x00' + ip('10.77.5.2', '10.77.5.4', udp(9, b'honest')))"
        ))  # fmt: skip
        heard = [bytes.fromhex(line.decode()) for line in listener.stdout]
    assert [b"honest" in frame for frame in heard if frame[12:14] != b"\x08\x06"] == [True]
    assert not [f for f in heard if f[12:14] == b"\x08\x06" and f[28:32] == bytes((10, 77, 5, 3))]


SEND6 = """
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
def mac(t): return bytes(int(x, 16) for x in t.split(":"))
def number(t): return socket.inet_pton(socket.AF_INET6, t)
def ip(src, dst, kind, data):
    head = struct.pack("!IHBB16s16s", 6 << 28, len(data), kind, 255, number(src), number(dst))
    return b"\\x86\\xdd" + head + data
def udp(src, dst, text): return ip(src, dst, 17, struct.pack("!4H", 1, 9, 8 + len(text), 0) + text)
def icmp(src, dst, kind, data): return ip(src, dst, 58, struct.pack("!BBH", kind, 0, 0) + data)
"""
HEAR6 = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 3)); s.settimeout(60); print("listening", flush=True)
while True:
    d = s.recv(2000)
    if b"said" in d:
        print(d[d.index(b"said"):].decode(), flush=True)
        if b"at last" in d: break
"""


def test_nobody_speaks_for_another_over_ipv6(engine: Engine, networks: list[str]) -> None:
    """Neither in the source of a packet nor in what a neighbour or a router tells."""
    make(engine, networks, "front6", "--ipv6", "--subnet", "10.77.8.0/24", "--subnet",
         "fd77:8::/64")  # fmt: skip
    for name in ("aa", "bb", "cc"):
        engine.ok("run", "-d", "--name", name, "--network", "front6", IMAGE, "sleep", "1000")
    (me, own), (_, other), (it, target) = (
        (found["MacAddress"], found["GlobalIPv6Address"])
        for found in (place(engine, name, "front6") for name in ("aa", "bb", "cc"))
    )
    octets = bytes(int(part, 16) for part in me.split(":"))
    link = "fe80::" + bytes([octets[0] ^ 2, *octets[1:3], 255, 254, *octets[3:]]).hex(":", 2)
    pid = inspect(engine, "cc")["State"]["Pid"]
    with subprocess.Popen(
        ["nsenter", f"--user=/proc/{pid}/ns/user", f"--net=/proc/{pid}/ns/net",
         "--setuid=0", "--setgid=0", sys.executable, "-c", HEAR6],
         stdout=subprocess.PIPE, text=True,
    ) as listener:  # fmt: skip
        assert listener.stdout is not None
        assert listener.stdout.readline() == "listening\n"
        inside(engine, "aa", SEND6 + (
            f"to = mac('{it}') + mac('{me}')\n"
            f"tells = lambda source, whose, text: icmp(source, '{target}', 136,\n"
            "    bytes((32, 0, 0, 0)) + number(whose) + b'\\2\\1' + to[6:] + text)\n"
            f"s.send(to + udp('{other}', '{target}', b'said for another'))\n"
            f"s.send(to + tells('{own}', '{other}', b'said of another'))\n"
            f"s.send(to + tells('{link}', '{other}', b'said of another'))\n"
            f"s.send(to + icmp('{link}', '{target}', 134, bytes(12) + b'said by a router'))\n"
            f"s.send(to + icmp('{link}', '{target}', 137, number('{own}') + number('{other}')"
            " + b'said by a redirect'))\n"
            f"s.send(to + tells('{own}', '{own}', b'said of me'))\n"
            f"s.send(to + udp('{own}', '{target}', b'said by me at last'))"
        ))  # fmt: skip
        heard = [line.strip() for line in listener.stdout]
    assert heard == ["said of me", "said by me at last"]


def test_containers_kept_apart(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "apart", "-o", "com.docker.network.bridge.enable_icc=false")
    make(engine, networks, "together")
    for network in ("apart", "together"):
        serve(engine, f"web-{network}", "--network", network)
        engine.ok("run", "-d", "--name", f"box-{network}", "--network", network, IMAGE,
                  "sleep", "1000")  # fmt: skip
        address = place(engine, f"web-{network}", network)["IPAddress"]
        source = (
            "import socket; s = socket.socket(); s.settimeout(2)\n"
            f"print(s.connect_ex(('{address}', 8000)))"
        )
        reached = inside(engine, f"box-{network}", source) == "0"
        assert reached == (network == "together")


def test_ipv6(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "six", "--ipv6", "--subnet", "10.77.6.0/24", "--subnet", "fd77:6::/64")
    serve(engine, "web", "--network", "six", "--ip6", "fd77:6::50")
    assert place(engine, "web", "six")["GlobalIPv6Address"] == "fd77:6::50"
    assert place(engine, "web", "six")["IPv6Gateway"] == "fd77:6::1"
    engine.ok("run", "-d", "--name", "box", "--network", "six", IMAGE, "sleep", "1000")
    source = (
        "import socket; s = socket.socket(socket.AF_INET6); s.settimeout(20)\n"
        "print(s.connect_ex(('{}', 8000)))"
    )
    assert inside(engine, "box", source.format("fd77:6::50")) == "0"
    found = engine.ok("exec", "box", "nslookup", "web")
    assert "fd77:6::50" in found
    make(engine, networks, "auto6", "--ipv6")
    config = json.loads(engine.ok("network", "inspect", "auto6"))[0]["IPAM"]["Config"]
    assert [c["Subnet"][:2] for c in config if ":" in c["Subnet"]] == ["fd"]


def test_links_and_events(engine: Engine, networks: list[str]) -> None:
    made = make(engine, networks, "front")
    serve(engine, "web", "--network", "front")
    got = engine.ok("run", "--rm", "--network", "front", "--link", "web:shop", IMAGE, *FETCH,
                    "http://shop:8000/page")  # fmt: skip
    assert got == "page"
    other = engine.run("run", "--rm", "--network", "front", IMAGE, "nslookup", "shop")
    assert other.returncode != 0
    lines = engine.ok(
        "events", "--since", "0", "--until", "0s", "--filter", "type=network",
        "--filter", f"network={made}", "--format", "{{.Action}} {{.Actor.Attributes.name}}",
    ).splitlines()  # fmt: skip
    assert lines[:4] == ["create front", "connect front", "connect front", "disconnect front"]


def _named(comm: str, root: Path) -> int:
    """The pid of one of the processes that serve an engine's bridges.

    Told from other engines' by its log, slirp4netns by the user namespace it shares.
    """
    shared = 0
    if comm == "slirp4netns":
        shared = os.stat(f"/proc/{_named('rootless-dns', root)}/ns/user").st_ino
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if procfs.stat(pid).comm != comm:
                continue
            if shared:
                found = os.stat(f"/proc/{pid}/ns/user").st_ino == shared
            else:
                found = str(root) in os.readlink(f"/proc/{pid}/fd/2")
            if found:
                return pid
    raise AssertionError(f"there is no {comm}")


def _kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_small_processes_have_given_everything_up(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "front")
    serve(engine, "web", "--network", "front", "-p", "8000")
    for name in ("rootless-dns", "rootless-ports"):
        found = _status(_named(name, engine.root))
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1"), name
        for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
            assert int(found[f"Cap{kind}"], 16) == 0, name
        assert found["Uid"].split()[0] != str(os.getuid())
        assert found["Groups"] == ""
    holder = _status(_named("rootless-net", engine.root))
    assert (holder["Seccomp"], holder["NoNewPrivs"]) == ("2", "1")
    kept = sum(1 << number for number in (6, 7, 8, 12, 21))  # linux/capability.h
    assert {int(holder[f"Cap{kind}"], 16) for kind in ("Prm", "Eff", "Bnd")} == {kept}
    way_out = _status(_named("slirp4netns", engine.root))
    assert (way_out["Seccomp"], way_out["NoNewPrivs"]) == ("2", "1")


FLOOD = """
import errno, resource, socket
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sent = []
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 40000))
for n in range(4500):
    s.sendto(b'x', ('198.51.100.%d' % (n % 200 + 1), 1000 + n // 200))
"""


def test_no_container_takes_all_connections(engine: Engine, networks: list[str]) -> None:
    make(engine, networks, "front")
    for name in ("greedy", "modest"):
        engine.ok("run", "-d", "--name", name, "--network", "front", IMAGE, "sleep", "1000")
    with socket.create_server((own_address(), 0)) as server:
        out = (
            "import socket; s = socket.socket(); s.settimeout(3)\n"
            f"print(s.connect_ex(('{own_address()}', {server.getsockname()[1]})))"
        )
        assert inside(engine, "greedy", out) == "0"
        inside(engine, "greedy", FLOOD)
        assert inside(engine, "greedy", out) != "0"
        assert inside(engine, "modest", out) == "0"


@pytest.mark.parametrize(
    "victim",
    ["rootless-net", "rootless-dns", "rootless-ports", "slirp4netns", "daemon", "both"],
)
def test_what_dies_is_made_again(fresh_engine: Engine, victim: str) -> None:
    engine = fresh_engine
    engine.ok("network", "create", "front")
    serve(engine, "web", "--network", "front", "-p", "8000")
    engine.ok("run", "-d", "--name", "box", "--network", "front", IMAGE, "sleep", "1000")
    before = place(engine, "web", "front")
    port = int(inspect(engine, "web")["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostPort"])
    if victim in ("rootless-net", "rootless-dns", "rootless-ports", "slirp4netns"):
        _kill(_named(victim, engine.root))
    else:
        engine.kill()
        if victim == "both":
            _kill(_named("rootless-net", engine.root))
        engine.start()
    fetch = ("exec", "box", *FETCH, "http://web:8000/page")
    until(lambda: engine.run(*fetch).stdout == "page\n")
    until(lambda: _page(port) == b"page\n")
    with socket.create_server(("0.0.0.0", 0)) as server:
        out = (
            "import socket; s = socket.socket(); s.settimeout(3)\n"
            f"print(s.connect_ex(('{own_address()}', {server.getsockname()[1]})))"
        )
        until(lambda: inside(engine, "box", out) == "0")
    after = place(engine, "web", "front")
    assert (after["IPAddress"], after["MacAddress"]) == (before["IPAddress"], before["MacAddress"])
    log = engine.log.read_text()
    if victim in ("rootless-net", "slirp4netns"):
        assert "container web lost its network" in log
        until(lambda: "container web has its network again" in engine.log.read_text())


def test_more_than_a_message_holds(engine: Engine, networks: list[str], api: Api) -> None:
    """Labels of megabytes, and names that together fill no packet."""
    config = {"Name": "big", "Labels": {"x": "y" * 1_000_000}}
    assert api("POST", "/networks/create", config)[0] == 201
    networks.append("big")
    aliases = [f"a{number:02}" + f".{'x' * 60}" * 3 for number in range(64)]
    others = [f"more{number}" for number in range(6)]
    for name in others:
        make(engine, networks, name)
    endpoints = {name: {"Aliases": aliases} for name in ("big", *others)}
    body = {
        "Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "big"},
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }  # fmt: skip
    status, made = api("POST", "/containers/create", body, name="full")
    assert status == 201, made
    assert api("POST", f"/containers/{made['Id']}/start")[0] == 204
    assert engine.ok("exec", "full", "nslookup", aliases[63]).count("Address:") > 1
    endpoints["big"] = {"Aliases": [*aliases, "onemore"]}
    refused, said = api("POST", "/containers/create", body)
    assert (refused, "at most 64 aliases" in said["message"]) == (400, True)


POLICY = """apiVersion: rootless.dev/v1alpha1
kind: Policy
metadata: {name: one-network}
extends: builtin:default
spec:
  network: {allowModes: [slirp4netns, none]}
"""


def test_a_policy_may_forbid_bridges(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.ok("network", "create", "front")
    engine.ok("run", "-d", "--name", "free", "--network", "front", IMAGE, "sleep", "1000")
    engine.ok("run", "-d", "--name", "plain", "--network", "slirp4netns", IMAGE, "sleep", "1000")
    (engine.root / "c/rootless").mkdir(exist_ok=True)
    (engine.root / "c/rootless/policy.yaml").write_text(POLICY)
    engine.stop()
    engine.start()
    for words in (
        ("run", "--rm", IMAGE, "true"),
        ("run", "--rm", "--network", "front", IMAGE, "true"),
        ("run", "--rm", "--network", "slirp4netns", "--network", "front", IMAGE, "true"),
        ("network", "connect", "front", "plain"),
        ("restart", "-t", "0", "free"),
    ):
        done = engine.run(*words)
        assert done.returncode != 0, words
        assert "network.mode" in done.stderr, done.stderr
    assert set(inspect(engine, "plain")["NetworkSettings"]["Networks"]) == {"slirp4netns"}


def test_an_idle_engine_keeps_no_network(fresh_engine: Engine) -> None:
    """Not for a network without containers; for the first container it is there."""
    engine = fresh_engine
    engine.ok("network", "create", "front")
    engine.stop()
    engine.start()
    engine.ok("run", "--rm", "--network", "none", IMAGE, "true")
    with pytest.raises(AssertionError, match="there is no rootless-net"):
        _named("rootless-net", engine.root)
    engine.ok("run", "--rm", IMAGE, "true")
    for name in ("rootless-net", "rootless-dns", "slirp4netns"):
        assert _named(name, engine.root)
    with pytest.raises(AssertionError, match="there is no rootless-ports"):
        _named("rootless-ports", engine.root)


def test_a_container_that_has_just_ended_is_renamed(engine: Engine) -> None:
    """While it is being taken off its network."""
    api = Api(engine)
    for number in range(6):
        ref = api.run("true", name=f"before{number}", HostConfig={"NetworkMode": "bridge"})
        api.ok("POST", f"/containers/{ref}/wait")
        api.ok("POST", f"/containers/{ref}/rename", name=f"after{number}")
        assert api.ok("GET", f"/containers/after{number}/json")["Id"] == ref
        api.remove(ref)
