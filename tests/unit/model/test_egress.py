"""Egress lists: how they are written, what covers what, and the exact meet of two."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import InvalidInput
from rootless.model import egress
from rootless.model.egress import EgressItem


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("PyPI.org:443", "pypi.org:443"),
        ("*.Example.com.:443/tcp", "*.example.com:443"),
        ("bücher.de:80", "xn--bcher-kva.de:80"),
        ("pypi.org", "pypi.org"),
        ("*:443", "*:443"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.0/24:443/tcp", "203.0.113.0/24:443"),
        ("203.0.113.0/24:53/udp", "203.0.113.0/24:53/udp"),
        ("203.0.113.7:8000-8100", "203.0.113.7:8000-8100"),
        ("203.0.113.7/icmp", "203.0.113.7/icmp"),
        ("203.0.113.0/24/icmp", "203.0.113.0/24/icmp"),
        ("203.0.113.0/24/any", "203.0.113.0/24"),
        ("[2001:db8::]/32:443", "[2001:db8::]/32:443"),
        ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:db8::/32/udp", "2001:db8::/32/udp"),
    ],
)
def test_items(written: str, kept: str) -> None:
    assert str(egress.parse_item(written)) == kept
    assert egress.parse_item(kept) == egress.parse_item(written)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("203.0.113.1/24", "host bits"),
        ("203.0.113.300", "203.0.113.300"),
        ("203.0.113.7:0", "no ports"),
        ("203.0.113.7:9-8", "no ports"),
        ("203.0.113.7:65536", "no ports"),
        ("203.0.113.7:80/icmp", "ports belong to tcp and udp"),
        ("pypi.org:http", "neither an address nor a domain"),
        ("py*.org", "neither an address nor a domain"),
        ("*.*.org", "neither an address nor a domain"),
        ("http://pypi.org", "host bits|does not appear|DESTINATION"),
        ("-a.org", "neither"),
        ("a..org", "neither"),
        ("[pypi.org]:443", "DESTINATION"),
        ("[::1", "DESTINATION"),
        ("x" * 64 + ".org", "neither"),
        ("pypi.org\n:443", "neither"),
    ],
)
def test_what_is_no_item(written: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        egress.parse_item(written)


def test_lists() -> None:
    assert egress.parse("none") == ()
    assert egress.parse(" pypi.org:443, *.pypi.org:443;10.0.0.0/8 ") == (
        "pypi.org:443", "*.pypi.org:443", "10.0.0.0/8",
    )  # fmt: skip
    assert egress.parse("a.pypi.org:443;*.pypi.org;10.1.0.0/16:80;10.0.0.0/8") == (
        "*.pypi.org", "10.0.0.0/8",
    )  # fmt: skip
    for text in ((), ("a.org", "10.0.0.0/8:80")):
        assert egress.parse(egress.show(text)) == text
    with pytest.raises(InvalidInput, match="is empty"):
        egress.parse(" ; ")
    with pytest.raises(InvalidInput, match="none"):
        egress.parse("none;-")
    with pytest.raises(InvalidInput, match="at most 256"):
        egress.parse(";".join(f"10.0.0.{n % 256}:{n + 1}" for n in range(257)))


def test_names() -> None:
    assert egress.name_matches("a.b.org", "*.b.org")
    assert egress.name_matches("a.a.b.org", "*.b.org")
    assert egress.name_matches("*.b.org", "*.b.org")
    assert egress.name_matches("anything", "*")
    assert not egress.name_matches("b.org", "*.b.org")
    assert not egress.name_matches("xb.org", "*.b.org")
    assert not egress.name_matches("b.org.evil.com", "b.org")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("10.0.0.1", False), ("127.0.0.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False), ("203.0.113.1", False),
        ("2606:4700::1111", True), ("fd00::1", False), ("fe80::1", False), ("::1", False),
        ("::ffff:10.0.0.1", False), ("64:ff9b::a00:1", False), ("64:ff9b::808:808", True),
        ("2002:a00:1::1", False), ("ff0e::1", False), ("2001:0:1::1", False),
    ],
)  # fmt: skip
def test_whose_an_address_is(address: str, *, public: bool) -> None:
    assert egress.is_public(ipaddress.ip_address(address)) == public


_ports = st.tuples(st.integers(1, 4), st.integers(1, 4)).map(sorted)
_items = st.builds(
    lambda d, p, r: EgressItem(d, p) if p in ("icmp", "any") else EgressItem(d, p, *r),
    st.sampled_from(
        ["10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/32", "fd00::/127", "*", "*.a", "b.a", "*.b.a",
         "c.b.a", "d"]
    ),
    st.sampled_from(egress.PROTOCOLS),
    _ports,
).map(str)  # fmt: skip
_lists = st.lists(_items, max_size=5)
_POINTS = [
    EgressItem(where, protocol, port, port)
    for where in ("10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "fd00::1/128", "a", "b.a", "x.b.a",
                  "c.b.a", "d", "e")
    for protocol in ("tcp", "udp", "icmp", "any")
    for port in range(1, 6)
]  # fmt: skip


def allowed(items: tuple[str, ...] | list[str]) -> set[EgressItem]:
    """Every single connection of a small world that a list allows."""
    parsed = [egress.parse_item(item) for item in items]
    return {point for point in _POINTS if any(egress.covers(item, point) for item in parsed)}


@given(_lists, _lists)
def test_the_meet_is_exact(a: list[str], b: list[str]) -> None:
    both = egress.intersect(a, b)
    assert allowed(both) == allowed(a) & allowed(b)
    assert egress.intersect(b, a) == both
    assert not egress.beyond(both, a)
    assert not egress.beyond(both, b)


@given(_lists, _lists, _lists)
def test_the_meet_is_a_meet(a: list[str], b: list[str], c: list[str]) -> None:
    assert egress.intersect(egress.intersect(a, b), c) == egress.intersect(
        a, egress.intersect(b, c)
    )
    assert set(egress.intersect(a, a)) == set(egress.canonical(a))


@given(_lists, _lists)
def test_what_is_beyond_is_named(a: list[str], b: list[str]) -> None:
    if not egress.beyond(a, b):
        assert allowed(a) <= allowed(b)
    assert allowed(list(egress.canonical(a))) == allowed(a)
