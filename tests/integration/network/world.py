"""A whole small host of its own: run by tests under ``unshare --user --net --mount``.

It has IPv6 on loopback's 2001:db8::1, a resolver address of the test's choice,
and one container. Prints a JSON object of what the container could reach.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from rootless.network import helper, slirp
from tests.integration.network.conftest import CONNECT, WAIT_IPV6, Refused, Sandbox, open_sandbox


def reach(sandbox: Sandbox, listen: str, target: str) -> bool:
    """True when a service at ``listen`` answers the container at ``target``."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.create_server((listen, 0), family=family) as server:
        port = server.getsockname()[1]
        source = CONNECT.format(family=int(family), address=target, port=port)
        sandbox.send(source)
        ready, _, _ = select.select([server, sandbox], [], [], 60)
        if server in ready:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"answer")
        try:
            return bool(sandbox.receive() == "answer")
        except Refused:
            return False


def resolve(sandbox: Sandbox, resolver: str) -> bool:
    """True when a datagram to slirp4netns' forwarder arrives at the host's resolver."""
    family, target = (
        (socket.AF_INET6, "fd00::3") if ":" in resolver else (socket.AF_INET, "10.0.2.3")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((resolver, 53))
        source = CONNECT.format(
            family=f"{int(family)}, {int(socket.SOCK_DGRAM)}", address=target, port=53
        )
        sandbox.send(source.replace("s.shutdown(socket.SHUT_WR)", ""))
        ready, _, _ = select.select([server, sandbox], [], [], 60)
        if server in ready:
            question, client = server.recvfrom(100)
            server.sendto(question.upper(), client)
        try:
            return bool(sandbox.receive() == "OUT")
        except Refused:
            return False


async def main(resolver: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "-6", "addr", "add", "2001:db8::1/128", "dev", "lo"], check=True)
    subprocess.run(["ip", "addr", "add", "192.0.2.1/32", "dev", "lo"], check=True)
    with tempfile.TemporaryDirectory() as scratch:
        conf = Path(scratch, "resolv.conf")
        conf.write_text(f"nameserver {resolver}\n")
        subprocess.run(["mount", "--bind", str(conf), "/etc/resolv.conf"], check=True)
        sandbox = open_sandbox(nested=False)
        process = await slirp.start(
            netns_fd=sandbox.netns_fd,
            userns_fd=sandbox.userns_fd,
            exit_fd=sandbox.exit_fd,
            directory=f"{scratch}/slirp/c",
        )
        try:
            found = {"ipv6": sandbox.run(WAIT_IPV6)}
            cases = {
                "outside4": ("192.0.2.1", "192.0.2.1"),
                "outside6": ("2001:db8::1", "2001:db8::1"),
                "resolver-other-port": (resolver, "fd00::3" if ":" in resolver else "10.0.2.3"),
                "gateway4": ("127.0.0.1", "10.0.2.2"),
                "gateway6": ("::1", "fd00::2"),
            }
            for name, (listen, target) in cases.items():
                found[name] = reach(sandbox, listen, target)
            found["resolver"] = resolve(sandbox, resolver)
        finally:
            await helper.stop(process)
            sandbox.close()
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
