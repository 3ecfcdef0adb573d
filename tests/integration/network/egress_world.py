"""A holder and its resolver, real ones, between a container and a world of the test's own.

Run by tests as root of a user namespace with the engine's id map. Where
slirp4netns would be there is a pair of interfaces to a namespace that plays the
Internet: public addresses, a name server, something that answers on every port.
The container is on a bridge, or has a way out of its own. Prints a JSON object
of what it could reach, what was told of the rest, and what was left behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from rootless.linux import process
from rootless.model.network import Endpoint, NetworkRecord, Subnet
from rootless.network.dns import message
from rootless.network.holder import main as holder
from rootless.network.holder_client import Hello, HolderClient

PUBLIC = ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "10.9.9.8", "10.9.9.9")
PUBLIC6 = ("2606:4700::1", "2606:4700::2")
RESOLVER = "10.0.2.3"
IP_RECVERR = 11
"""ip(7)."""
ZONE: dict[tuple[str, int], list[tuple[str, int, str]]] = {
    ("www.allowed.test", 1): [
        ("www.allowed.test", 5, "edge.cdn.test"), ("unasked.test", 1, "9.9.9.9"),
        ("edge.cdn.test", 1, "8.8.8.8"),
    ],
    ("six.allowed.test", 28): [("six.allowed.test", 28, "2606:4700::1")],
    ("private.allowed.test", 1): [("private.allowed.test", 1, "10.9.9.8")],
    ("private.allowed.test", 28): [("private.allowed.test", 28, "fd99::9")],
    ("host.allowed.test", 1): [("host.allowed.test", 1, "1.0.0.1")],
    ("evil.test", 1): [("evil.test", 1, "9.9.9.9")],
}  # fmt: skip
LISTS = [
    ["*.allowed.test:443", "10.9.9.9:9000", "8.8.4.4:5353/udp", "1.1.1.1/icmp"],
    ["*:443", "0.0.0.0/0:9000-9001", "8.8.4.4/udp", "1.1.1.1", "9.9.9.9"],
]
"""Of the network and of the container: 9.9.9.9, port 80 and 9001 are on one of them only."""
NETWORK = NetworkRecord(
    "ab" * 32, "ci", 1, (Subnet("10.77.0.0/24", "10.77.0.1"), Subnet("fd77::/64", "fd77::1")),
    ipv6=True,
)  # fmt: skip


def sh(*words: str, fds: tuple[int, ...] = ()) -> None:
    subprocess.run(words, check=True, pass_fds=fds)


@contextmanager
def inside(netns_fd: int) -> Iterator[None]:
    """Be in a network namespace; sockets made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        process.setns(netns_fd, process.CLONE_NEWNET, "a namespace of the test")
        yield
    finally:
        process.setns(home, process.CLONE_NEWNET, "home")
        os.close(home)


def new_netns() -> int:
    """A network namespace with loopback up: its descriptor."""
    made, told = os.pipe()
    child = os.fork()
    if not child:
        process.unshare(process.CLONE_NEWNET, "a namespace of the test")
        os.write(told, b"1")
        signal.pause()
    os.read(made, 1)
    found = os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(made)
    os.close(told)
    with inside(found):
        sh("ip", "link", "set", "lo", "up")
    return found


def lead(netns_fd: int, world_fd: int, number: int) -> None:
    """From a namespace's tap0 to the world, with slirp4netns' addresses."""
    with inside(netns_fd):
        sh("ip", "link", "add", "tap0", "type", "veth", "peer", "name", f"w{number}")
        there = f"/proc/{os.getpid()}/fd/{world_fd}"
        sh("ip", "link", "set", f"w{number}", "netns", there)
        sh("ip", "link", "set", "tap0", "up")
        sh("ip", "addr", "add", f"10.0.{number}.100/24", "dev", "tap0")
        sh("ip", "addr", "add", f"fd0{number}::100/64", "dev", "tap0", "nodad")
    with inside(world_fd):
        sh("ip", "link", "set", f"w{number}", "up")
        sh("ip", "addr", "add", f"10.0.{number}.2/24", "dev", f"w{number}")
        sh("ip", "addr", "add", f"fd0{number}::2/64", "dev", f"w{number}", "nodad")
    with inside(netns_fd):
        sh("ip", "route", "add", "default", "via", f"10.0.{number}.2")
        sh("ip", "-6", "route", "add", "default", "via", f"fd0{number}::2")


def play_world(world_fd: int) -> int:
    """Start what answers there; its process id."""
    with inside(world_fd):
        for address in (*PUBLIC, RESOLVER):
            sh("ip", "addr", "add", f"{address}/32", "dev", "lo")
        for address in PUBLIC6:
            sh("ip", "addr", "add", f"{address}/128", "dev", "lo", "nodad")
        streams = []
        for port in (53, 80, 443, 9000, 9001):
            kind = {"family": socket.AF_INET6, "dualstack_ipv6": True, "backlog": 1024}
            streams.append(socket.create_server(("::", port), **kind))  # type: ignore[arg-type]  # keywords of any field
        datagrams = []
        for address in (*PUBLIC, RESOLVER):
            for port in (53, 5353, 5354):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind((address, port))
                datagrams.append(sock)
    child = os.fork()
    if child:
        for one in (*streams, *datagrams):
            one.close()
        return child
    while True:
        ready, _, _ = select.select([*streams, *datagrams], [], [])
        for sock in ready:
            if sock in streams:
                connection, _ = sock.accept()
                connection.sendall(b"hello")
                connection.close()
            else:
                data, where = sock.recvfrom(4096)
                named = sock.getsockname() == (RESOLVER, 53)
                sock.sendto(answer(data) if named else data, where)


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"


def answer(data: bytes) -> bytes:
    asked = message.parse(data)
    found = []
    for owner, kind, text in ZONE.get((asked.name, asked.type), []):
        family = socket.AF_INET6 if kind == message.AAAA else socket.AF_INET
        content = encoded(text) if kind == 5 else socket.inet_pton(family, text)
        head = struct.pack("!HHIH", kind, 1, 86400, len(content))
        found.append(encoded(owner) + head + content)
    return message.compose(asked, 0, found)


class Inside:
    """What a container does."""

    def __init__(self, netns_fd: int) -> None:
        self._netns_fd = netns_fd

    def connect(self, address: str, port: int) -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with inside(self._netns_fd), socket.socket(family) as sock:
            sock.settimeout(20)
            try:
                sock.connect((address, port))
                return sock.recv(10).decode()
            except OSError as error:
                return type(error).__name__

    def datagram(self, address: str, port: int, data: bytes = b"hello") -> str:
        with inside(self._netns_fd), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            try:
                sock.connect((address, port))
                sock.send(data)
                return sock.recv(4096).decode("latin-1")
            except OSError as error:
                return type(error).__name__

    def ping(self, address: str) -> str:
        echo = struct.pack("!BBHHH5s", 8, 0, 0, 0, 1, b"hello")
        with inside(self._netns_fd):
            with open("/proc/sys/net/ipv4/ping_group_range", "w", encoding="ascii") as file:
                file.write("0 0")
            kind = socket.SOCK_DGRAM
            with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as sock:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                sock.settimeout(20)
                try:
                    sock.connect((address, 0))
                    sock.send(echo)
                    return sock.recv(100)[8:].decode()
                except OSError as error:
                    return type(error).__name__

    def resolve(self, name: str, kind: int = message.A) -> list[str]:
        """The addresses in the resolver's answer, or its code."""
        data = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0)
        data += encoded(name) + struct.pack("!2H", kind, 1)
        got = self.datagram("127.0.0.11", 53, data).encode("latin-1")
        if len(got) < 12 or got[3] & 15:
            return [str(got[3] & 15) if len(got) > 3 else got.decode()]
        size, family = (4, socket.AF_INET) if kind == message.A else (16, socket.AF_INET6)
        count = struct.unpack_from("!H", got, 6)[0]
        return [socket.inet_ntop(family, got[-size:])] if count else []


async def start_holder() -> tuple[HolderClient, Hello]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(b"\0rootless-test-holder-%d" % os.getpid())
    listener.listen(4)
    ready, write = os.pipe()
    numbers = (listener.fileno(), write)
    subprocess.run(holder.command(*numbers, owner=1), check=True, pass_fds=numbers)
    os.close(write)
    assert os.read(ready, 4096) == holder.READY
    os.close(ready)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(listener.getsockname())
    listener.close()
    client = HolderClient(sock)
    return client, (await client.hello())[0]


def endpoint(number: int, egress: Any) -> Endpoint:
    return Endpoint(
        NETWORK.id, NETWORK.name, f"{number:02x}" * 32, "eth0", f"02:00:00:00:00:{number:02x}",
        f"10.77.0.{number}", 24, "10.77.0.1", f"fd77::{number}", 64, "fd77::1", (f"box{number}",),
        egress=egress, default_ipv4=True, default_ipv6=True,
    )  # fmt: skip


def probe(box: Inside) -> dict[str, Any]:
    found: dict[str, Any] = {"before": box.connect("8.8.8.8", 443)}
    found["www"] = box.resolve("www.allowed.test")
    found["named"] = box.connect("8.8.8.8", 443)
    found["named-other-port"] = box.connect("8.8.8.8", 80)
    found["unasked"] = box.connect("9.9.9.9", 443)
    found["evil"] = box.resolve("evil.test")
    found["tunnel"] = box.resolve("secret.evil.test", 16)
    found["alias-itself"] = box.resolve("edge.cdn.test")
    found["private"] = box.resolve("private.allowed.test")
    found["private-connect"] = box.connect("10.9.9.8", 443)
    found["private-six"] = box.resolve("private.allowed.test", message.AAAA)
    found["host"] = box.resolve("host.allowed.test")
    found["host-connect"] = box.connect("1.0.0.1", 443)
    found["range"] = box.connect("10.9.9.9", 9000)
    found["one-list-only"] = box.connect("10.9.9.9", 9001)
    found["udp"] = box.datagram("8.8.4.4", 5353)
    found["udp-other-port"] = box.datagram("8.8.4.4", 5354)
    found["ping"] = box.ping("1.1.1.1")
    found["ping-other"] = box.ping("8.8.8.8")
    asked = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + encoded("evil.test") + b"\0\1\0\1"
    found["dns-udp"] = box.datagram(RESOLVER, 53, asked)
    found["dns-tcp"] = box.connect(RESOLVER, 53)
    found["six-before"] = box.connect("2606:4700::1", 443)
    found["six"] = box.resolve("six.allowed.test", message.AAAA)
    found["six-named"] = box.connect("2606:4700::1", 443)
    found["six-other"] = box.connect("2606:4700::2", 443)
    return found


def flood(box: Inside, count: int) -> None:
    for _ in range(count):
        box.connect("9.9.9.9", 80)


async def denied(client: HolderClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.ask(op="denied"))["denied"]
    return rows


def kill_resolver(parent: int) -> None:
    """kill -9, and wait until there is another."""

    def running() -> set[str]:
        out = subprocess.run(
            ["ps", "-o", "pid=,comm=", "--ppid", str(parent)], check=False, capture_output=True,
            text=True,
        ).stdout  # fmt: skip
        return {line.split()[0] for line in out.splitlines() if "rootless-dns" in line}

    before = running()
    for pid in before:
        os.kill(int(pid), signal.SIGKILL)
    while not running() - before:
        time.sleep(0.05)


async def main(kind: str) -> None:
    with ExitStack() as stack:
        client, hello = await start_holder()
        world, box_fd, other_fd = new_netns(), new_netns(), new_netns()
        lead(hello.netns_fd, world, 2)
        own = kind == "own"
        if own:
            lead(box_fd, world, 3)
        pid = play_world(world)
        stack.callback(os.waitpid, pid, 0)
        stack.callback(os.kill, pid, signal.SIGKILL)
        exit_read, exit_write = os.pipe()
        attach = {"op": "attach", "servers": [RESOLVER]}
        networks = [asdict(NETWORK)]
        await client.ask(
            (box_fd, exit_read), container="box", own=LISTS if own else None, networks=[],
            endpoints=[], host=["1.0.0.1"] if own else [], **attach,
        )  # fmt: skip
        if not own:
            await client.ask(
                op="connect", container="box", network=networks[0], targets=[],
                endpoint=asdict(endpoint(9, LISTS)), host=["1.0.0.1"],
            )  # fmt: skip
        await client.ask(
            (other_fd, exit_read), container="other", own=None, networks=networks,
            endpoints=[asdict(endpoint(7, ()))], host=[], **attach,
        )  # fmt: skip
        box, other = Inside(box_fd), Inside(other_fd)
        found: dict[str, Any] = {"reached": await asyncio.to_thread(probe, box)}
        found["denied"] = await denied(client)
        await asyncio.to_thread(flood, box, 300)
        found["flood"] = await denied(client)
        kill_resolver(hello.pid)
        found["again"] = await asyncio.to_thread(box.resolve, "www.allowed.test")
        found["again-evil"] = await asyncio.to_thread(box.resolve, "evil.test")
        found["free"] = [other.connect("9.9.9.9", 80), *other.resolve("evil.test")]
        with inside(other_fd), socket.create_server(("10.77.0.7", 443)) as server:
            server.settimeout(20)
            if not own:
                with inside(box_fd):
                    neighbour = socket.create_connection(("10.77.0.7", 443), timeout=20)
                server.accept()[0].close()
                neighbour.close()
        found["denied-later"] = await denied(client)
        for name in ("box", "other"):
            await client.ask(op="detach", container=name)
        await client.ask(op="remove-network", network=NETWORK.id)
        # Ports linger until the holder has had no request for a while.
        await asyncio.sleep(holder.LINGER * 2)
        while left := (await client.ask(op="left"))["left"]:
            await asyncio.sleep(holder.LINGER * 2)
        found["left"] = left
        client.close()
        for fd in (exit_read, exit_write):
            os.close(fd)
        hello.close()
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
