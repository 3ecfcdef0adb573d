"""Messages made ahead: filled in they are what pyroute2 would have made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.network.holder import ahead, templates

ALL = templates.make_all()


def test_every_field_has_its_place() -> None:
    assert ALL["pair"].slots["mtu"].offsets == (56, 144)
    with pytest.raises(KeyError):
        ALL["up"].fill({})


@given(
    index=st.integers(1, 2**31 - 1),
    prefix=st.integers(1, 32),
    address=st.ip_addresses(v=4).map(str),
    other=st.ip_addresses(v=4).map(str),
)
def test_an_address(index: int, prefix: int, address: str, other: str) -> None:
    values = {"index": index, "prefix": prefix, "address": address, "broadcast": other}
    assert ALL["address ipv4"].fill(values) == templates._address(values)


@given(
    name=st.from_regex(r"[a-z0-9]{1,15}", fullmatch=True),
    mac=st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")),
    numbers=st.tuples(*[st.integers(1, 2**31 - 1)] * 3),
)
def test_a_pair(name: str, mac: str, numbers: tuple[int, int, int]) -> None:
    mtu, bridge, netns = numbers
    values = {
        "name": "v" * 14, "mtu": mtu, "bridge": bridge, "peer": name, "mac": mac, "netns": netns
    }  # fmt: skip
    made = ALL["pair"].fill(values)
    # A shorter name is padded; pyroute2 makes the message shorter instead.
    assert made == templates._pair(
        {**values, "name": "v" * 14 + "\0", "peer": name.ljust(15, "\0")}
    )


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="too long"):
        templates.pack("name", "x" * 16)


def test_the_child_gives_the_same() -> None:
    found = ahead.begin()()
    assert found.messages == ALL
    assert found.own_calls
    assert found.small_calls
