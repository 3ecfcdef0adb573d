"""Egress lists in the resolver: what answers say, who is refused, who waits for the holder."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.model import egress
from rootless.network.dns import answers, message, permits
from rootless.network.dns.message import AAAA, A, Malformed, Question
from rootless.network.dns.permits import Permits

CNAME = answers.CNAME


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(p)]) + p.encode() for p in name.split(".") if p) + b"\0"


def question(name: str, kind: int = A) -> Question:
    data = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + encoded(name) + struct.pack("!2H", kind, 1)
    return message.parse(data)


def answer(asked: Question, *records: tuple[str | bytes, int, int, bytes]) -> bytes:
    """A response with records of (owner, type, ttl, data)."""
    made = struct.pack("!6H", 7, 0x8180, 1, len(records), 0, 0) + asked.raw
    for owner, kind, ttl, data in records:
        name = owner if isinstance(owner, bytes) else encoded(owner)
        made += name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data
    return made


def test_aliases_are_followed_in_any_order() -> None:
    asked = question("www.a.org")
    data = answer(
        asked,
        ("c.net", A, 500, bytes((8, 8, 8, 8))),
        ("b.net", CNAME, 70, encoded("C.net")),
        (b"\xc0\x0c", CNAME, 900, encoded("b.net")),
        ("c.net", AAAA, 30, bytes(15) + b"\1"),
        ("other.org", A, 500, bytes((9, 9, 9, 9))),
        ("c.net", A, 500, b"\1\2\3"),
    )
    assert dict(answers.leads_to(data, asked)) == {"8.8.8.8": 70, "::1": 30}


def test_what_is_believed_longer_than_it_is_open_is_shortened() -> None:
    asked = question("a.org")
    data = answer(asked, ("a.org", A, 1 << 20, bytes(4)), ("a.org", A, 5, bytes(4)))
    assert [one.ttl for one in answers.records(answers.shortened(data, asked), asked)] == [3600, 5]
    optional = answer(asked, (b"\0", answers.OPT, 0x8000_8000, b""))
    assert answers.shortened(optional, asked) == optional


def test_endless_names_are_no_names() -> None:
    asked = question("a.org")
    loop = answer(asked)[:6] + struct.pack("!3H", 1, 0, 0) + asked.raw
    with pytest.raises(Malformed):
        answers.leads_to(loop + struct.pack("!H", 0xC000 | len(loop)), asked)
    circle = answer(asked, ("a.org", CNAME, 1, encoded("b.org")), ("b.org", CNAME, 1, b"\xc0\x0c"))
    assert answers.leads_to(circle, asked) == []


@given(st.binary(max_size=300), st.integers(0, 4))
def test_any_answer_is_read_or_malformed(data: bytes, count: int) -> None:
    asked = question("a.org")
    whole = struct.pack("!6H", 7, 0x8180, 1, count, 0, 0) + asked.raw + data
    with contextlib.suppress(Malformed):
        answers.leads_to(whole, asked)
        assert len(answers.shortened(whole, asked)) == len(whole)


def test_a_dot_in_a_label_separates_nothing() -> None:
    data = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + b"\x06x.pypi\3org\0\0\1\0\1"
    assert not permits.allowed([[["*.pypi.org"]]], message.parse(data).name)
    assert permits.allowed([[["*.pypi.org"]]], question("x.pypi.org").name)


@given(
    st.sampled_from(["a.b.org", "b.org", "xb.org", "org", "", "*", "*.b.org"]),
    st.sampled_from(["*.b.org", "b.org", "*", "*.org"]),
)
def test_names_match_as_in_lists(name: str, pattern: str) -> None:
    assert permits.allowed([[[pattern]]], name) == egress.name_matches(name, pattern)


def test_every_list_of_one_way() -> None:
    assert permits.allowed([[["a"], ["b"]], [["a", "b"]]], "a")
    assert not permits.allowed([[["a"], ["b"]]], "a")
    assert not permits.allowed([[[]]], "a")
    assert not permits.allowed([], "a")


class Holder:
    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.full = False

    def __call__(self, said: dict[str, Any]) -> bool:
        if not self.full:
            self.heard.append(said)
        return not self.full


def test_an_answer_waits_for_the_holder() -> None:
    holder, replies = Holder(), list[bytes]()
    made, asked = Permits(holder), question("a.org")
    data = answer(asked, ("a.org", A, 9, bytes((8, 8, 8, 8))))
    for _ in range(3):
        made.pass_on("box", asked, replies.append, data)
    assert holder.heard[0] == {
        "open": 1, "client": "box", "name": "a.org", "addresses": [("8.8.8.8", 9)]
    }  # fmt: skip
    assert not replies
    made.opened(1, done=True)
    made.opened(1, done=True)
    assert replies == [data]
    made.opened(2, done=False)
    assert replies[-1][3] & 15 == message.FAILURE
    assert made.timeout(0) is not None
    made.expire(1e12)
    assert len(replies) == 3
    assert made.timeout(0) is None
    made.pass_on("box", asked, replies.append, data)
    made.drop("box")
    made.opened(4, done=True)
    assert len(replies) == 3
    holder.full = True
    made.pass_on("box", asked, replies.append, data)
    assert replies[-1][3] & 15 == message.FAILURE
    made.pass_on("box", asked, replies.append, data[:-1])
    assert replies[-1][3] & 15 == message.FAILURE
    nothing = answer(asked)
    made.pass_on("box", asked, replies.append, nothing)
    assert replies[-1] == nothing


def test_a_flood_of_refused_names_is_counted() -> None:
    holder, replies = Holder(), list[bytes]()
    made = Permits(holder)
    for _ in range(1000):
        made.refuse("box", question("evil.com"), replies.append)
    assert {reply[3] & 15 for reply in replies} == {message.NO_NAME}
    assert 100 <= len(holder.heard) < 900
    due = made.timeout(0)
    assert due is not None
    made.expire(1e12)
    assert sum(one["count"] for one in holder.heard) == 1000
    assert holder.heard[-1]["name"] == permits.OTHERS
    assert made.timeout(0) is None
