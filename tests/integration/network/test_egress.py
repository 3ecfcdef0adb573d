"""Egress lists: a container reaches what is on them, and is told no elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

_ROOT = Path(__file__).resolve().parents[3]
REFUSED = ("OSError", "PermissionError")
"""EHOSTUNREACH, EACCES: how the kernel says ICMP's administratively prohibited."""
RESET = "ConnectionRefusedError"
"""What connections over IPv6 get, whose errors come too late."""
NO_SUCH_NAME = ["3"]


@pytest.fixture(scope="module", params=["bridge", "own"])
def world(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """What happened to a container on a bridge, and to one with a slirp4netns of its own."""
    done = subprocess.run(
        [
            *"unshare --user --map-root-user --map-auto --net --mount".split(),
            *(sys.executable, "-m", "tests.integration.network.egress_world", request.param),
        ],
        check=False, capture_output=True, text=True, timeout=110, cwd=_ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, json.loads(done.stdout)


def test_it_reaches_what_is_on_all_lists(world: tuple[str, dict[str, Any]]) -> None:
    reached = world[1]["reached"]
    assert reached["www"] == ["8.8.8.8"]  # by way of an alias that is on no list
    assert reached["six"] == ["2606:4700::1"]
    for what in ("named", "six-named", "range", "udp", "ping"):
        assert reached[what] == "hello", what


def test_it_is_refused_everywhere_else(world: tuple[str, dict[str, Any]]) -> None:
    reached = world[1]["reached"]
    for what in (
        "before",  # an address is closed until its name was asked for
        *("named-other-port", "udp-other-port", "ping-other"),
        *("one-list-only", "unasked"),  # the latter stood in an answer to another question
        *("private-connect", "host-connect"),  # where allowed names led (rebinding)
        *("dns-udp", "dns-tcp"),  # other name servers
    ):
        assert reached[what] in REFUSED, what
    assert (reached["six-before"], reached["six-other"]) == (RESET, RESET)


def test_names_on_no_list_are_never_asked_for(world: tuple[str, dict[str, Any]]) -> None:
    reached = world[1]["reached"]
    for what in ("evil", "tunnel", "alias-itself"):
        assert reached[what] == NO_SUCH_NAME, what


def test_denials_are_told_with_destination_and_count(world: tuple[str, dict[str, Any]]) -> None:
    kind, found = world
    assert {row["container"] for row in found["denied"]} == {"box"}
    network = "ci" if kind == "bridge" else "slirp4netns"
    assert {row["network"] for row in found["denied"]} == {network}
    told = {
        (row["reason"], row["protocol"], row["destination"], row["port"])
        for row in found["denied"]
        if row["count"] > 0 and 0 < row["first"] <= row["last"]
    }
    assert told == {
        ("destination", "tcp", "8.8.8.8", 443),
        ("destination", "tcp", "8.8.8.8", 80),
        ("destination", "tcp", "9.9.9.9", 443),
        ("name", "dns", "evil.test", 0),
        ("name", "dns", "secret.evil.test", 0),
        ("name", "dns", "edge.cdn.test", 0),
        ("destination", "tcp", "10.9.9.8", 443),
        ("private", "dns", "private.allowed.test (fd99::9)", 0),
        ("destination", "tcp", "1.0.0.1", 443),
        ("destination", "tcp", "10.9.9.9", 9001),
        ("destination", "udp", "8.8.4.4", 5354),
        ("destination", "icmp", "8.8.8.8", 0),
        ("destination", "udp", "10.0.2.3", 53),
        ("destination", "tcp", "10.0.2.3", 53),
        ("destination", "tcp", "2606:4700::1", 443),
        ("destination", "tcp", "2606:4700::2", 443),
    }


def test_all_denials_are_counted_though_few_are_looked_at(
    world: tuple[str, dict[str, Any]],
) -> None:
    rows = world[1]["flood"]
    assert sum(row["count"] for row in rows) == 300
    assert {row["destination"] for row in rows} == {"9.9.9.9", ""}


def test_a_killed_resolver_is_followed_by_one_that_knows_the_lists(
    world: tuple[str, dict[str, Any]],
) -> None:
    assert world[1]["again"] == ["8.8.8.8"]
    assert world[1]["again-evil"] == NO_SUCH_NAME


def test_a_container_without_lists_is_not_restricted(world: tuple[str, dict[str, Any]]) -> None:
    assert world[1]["free"] == ["hello", "9.9.9.9"]
    assert {row["destination"] for row in world[1]["denied-later"]} <= {"evil.test"}


def test_nothing_is_left(world: tuple[str, dict[str, Any]]) -> None:
    assert world[1]["left"] == []
