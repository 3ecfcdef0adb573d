"""Links on the default bridge, whose containers do not reach one another otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.engine.test_bridges import (
    FETCH,
    IMAGE,
    _kill,
    _named,
    inside,
    inspect,
    place,
)
from tests.support.api import until
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
SERVERS = (
    "mkdir -p /tmp/w; echo page > /tmp/w/page; httpd -p 9000 -h /tmp/w; "
    "exec httpd -f -p 8000 -h /tmp/w"
)
"""Two, of which the first is the one that is exposed."""
CONNECT = """
import socket
s = socket.socket(socket.AF_INET6 if ':' in '{address}' else socket.AF_INET)
s.settimeout(3)
print(s.connect_ex(('{address}', {port})))
"""
AROUND = """
import subprocess
subprocess.run(['ip', {way}], check=True)
"""
BY_GATEWAY = "'route', 'add', '{address}', 'via', '{gateway}'"
BY_HARDWARE = "'neigh', 'replace', '{address}', 'lladdr', '{mac}', 'dev', 'eth0'"


@pytest.fixture
def linked(engine: Engine) -> Iterator[Engine]:
    """``app`` has a link to ``db``, ``stranger`` has none."""
    _start_all(engine)
    yield engine
    engine.ok("rm", "--force", "app", "db", "stranger")


def _start_all(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "db", "--expose", "8000", "-e", "SECRET=shared", IMAGE,
              "sh", "-c", SERVERS)  # fmt: skip
    until(lambda: engine.run("exec", "db", *FETCH, "http://127.0.0.1:8000/page").stdout)
    engine.ok("run", "-d", "--name", "stranger", IMAGE, "sleep", "1000")
    engine.ok("run", "-d", "--name", "app", "--link", "db:shop", "-e", "SHOP_NAME=mine", IMAGE,
              "sleep", "1000")  # fmt: skip


def _addresses(engine: Engine, name: str) -> list[tuple[str, str]]:
    """(address, gateway) of each family."""
    found = place(engine, name, "bridge")
    pairs = [
        (found["IPAddress"], found["Gateway"]),
        (found["GlobalIPv6Address"], found["IPv6Gateway"]),
    ]
    return [pair for pair in pairs if pair[0]]


def _reaches(engine: Engine, name: str, address: str, port: int) -> bool:
    return inside(engine, name, CONNECT.format(address=address, port=port)) == "0"


def test_a_link_opens_exposed_ports_and_nothing_else(linked: Engine) -> None:
    assert linked.ok("exec", "app", *FETCH, "http://shop:8000/page") == "page"
    assert linked.run("exec", "stranger", "nslookup", "shop").returncode != 0
    places, mac = _addresses(linked, "db"), place(linked, "db", "bridge")["MacAddress"]
    assert len(places) == 2
    for address, gateway in places:
        assert _reaches(linked, "app", address, 8000), address
        assert not _reaches(linked, "app", address, 9000), address
        assert not _reaches(linked, "stranger", address, 8000), address
        # Neither does it help to know where it is, or to send it by way of the gateway.
        for way in (BY_HARDWARE, BY_GATEWAY):
            made = way.format(address=address, gateway=gateway, mac=mac)
            inside(linked, "stranger", AROUND.format(way=made))
            assert not _reaches(linked, "stranger", address, 8000), (address, way)
        assert _reaches(linked, "db", address, 9000), address
    # It leads from the one to the other, not back.
    linked.ok("exec", "-d", "app", "httpd", "-f", "-p", "8000", "-h", "/tmp")
    for address, _ in _addresses(linked, "app"):
        until(lambda at=address: _reaches(linked, "app", at, 8000))
        assert not _reaches(linked, "db", address, 8000), address


def test_it_gives_the_variables_that_docker_gives(linked: Engine) -> None:
    address = place(linked, "db", "bridge")["IPAddress"]
    expected = {
        f"SHOP_PORT=tcp://{address}:8000",
        f"SHOP_PORT_8000_TCP=tcp://{address}:8000",
        f"SHOP_PORT_8000_TCP_ADDR={address}",
        "SHOP_PORT_8000_TCP_PORT=8000",
        "SHOP_PORT_8000_TCP_PROTO=tcp",
        "SHOP_ENV_SECRET=shared",
        "SHOP_NAME=mine",  # its own
    }
    found = linked.ok("exec", "app", "cat", "/proc/1/environ").split("\0")
    assert {text for text in found if text.startswith("SHOP_")} == expected
    assert expected <= set(linked.ok("exec", "app", "env").splitlines())
    assert "SHOP_PORT" not in linked.ok("exec", "stranger", "env")


def test_links_end_with_either_container(linked: Engine) -> None:
    before = place(linked, "db", "bridge")["IPAddress"]
    linked.ok("restart", "-t", "0", "db")
    after = place(linked, "db", "bridge")["IPAddress"]
    assert after != before
    until(lambda: linked.run("exec", "app", *FETCH, "http://shop:8000/page").stdout == "page\n")
    linked.ok("stop", "-t", "0", "db", "app")
    done = linked.run("start", "app")
    assert done.returncode != 0
    assert "Cannot link to a non running container: /db AS /app/shop" in done.stderr
    linked.ok("start", "db", "app")
    until(lambda: linked.run("exec", "app", *FETCH, "http://shop:8000/page").stdout == "page\n")
    # Who has the address next has nothing of the link.
    source = place(linked, "app", "bridge")["IPAddress"]
    linked.ok("network", "disconnect", "bridge", "app")
    taken = place(linked, "stranger", "bridge")
    target = place(linked, "db", "bridge")["IPAddress"]
    assert source not in (taken["IPAddress"], target)
    linked.ok("network", "connect", "bridge", "app")
    assert not _reaches(linked, "app", target, 8000)
    linked.ok("network", "disconnect", "bridge", "app")
    linked.ok("network", "connect", "--link", "db:again", "bridge", "app")
    assert linked.ok("exec", "app", *FETCH, "http://again:8000/page") == "page"


@pytest.mark.parametrize("victim", ["holder", "daemon", "both"])
def test_links_outlive_everything(fresh_engine: Engine, victim: str) -> None:
    engine = fresh_engine
    _start_all(engine)
    if victim != "daemon":
        _kill(_named("rootless-net", engine.root))
    if victim != "holder":
        engine.kill()
        engine.start()
    until(lambda: engine.run("exec", "app", *FETCH, "http://shop:8000/page").stdout == "page\n")
    for address, _ in _addresses(engine, "db"):
        until(lambda at=address: _reaches(engine, "app", at, 8000))
        assert not _reaches(engine, "stranger", address, 8000)
    assert inspect(engine, "app")["HostConfig"]["Links"] == ["/db:/app/shop"]


def test_they_are_in_the_hosts_file(linked: Engine) -> None:
    """With every name of the other container, and where that is now."""
    (db,) = linked.ok("ps", "-q", "--filter", "name=db").split()

    def told() -> list[str]:
        hosts = linked.ok("exec", "app", "cat", "/etc/hosts").splitlines()
        return [line for line in hosts if "shop" in line]

    def expected() -> list[str]:
        return [f"{address}\tshop {db} db" for address, _ in _addresses(linked, "db")]

    assert told() == expected() != []
    linked.ok("stop", "-t", "0", "db")
    linked.ok("run", "-d", "--name", "first", IMAGE, "sleep", "1000")
    try:
        linked.ok("start", "db")
        assert told() == expected() != []
        assert "shop" not in linked.ok("exec", "stranger", "cat", "/etc/hosts")
    finally:
        linked.ok("rm", "--force", "first")
