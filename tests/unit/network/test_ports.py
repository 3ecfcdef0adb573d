"""Which host port a binding gets, with a host that the test makes up."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Conflict, Exhausted, HostUnsupported, InvalidInput, RootlessError
from rootless.model.request import PortBinding
from rootless.network.ports import PortTable, PublishedPort, overlaps


def table(
    taken: dict[int, int] | None = None, ephemeral: tuple[int, int] = (40000, 40003)
) -> PortTable:
    busy = taken or {}
    return PortTable(ephemeral=ephemeral, probe=lambda _proto, _ip, port: busy.get(port, 0))


def test_fixed_automatic_and_range() -> None:
    made = table({8000: errno.EADDRINUSE}).reserve(
        "c",
        (
            PortBinding(80, "tcp"),
            PortBinding(81, "tcp", "", 40000),
            PortBinding(82, "tcp", "0.0.0.0", 8000, 8002),
        ),
    )
    assert set(made) == {
        PublishedPort(81, "tcp", "127.0.0.1", 40000),
        PublishedPort(82, "tcp", "0.0.0.0", 8001),
        PublishedPort(80, "tcp", "127.0.0.1", 40001),
    }


def test_protocols_do_not_collide_and_addresses_do() -> None:
    ports = table()
    ports.reserve("a", (PortBinding(53, "tcp", "", 5353), PortBinding(53, "udp", "", 5353)))
    ports.reserve("b", (PortBinding(53, "tcp", "127.0.0.2", 5353),))
    with pytest.raises(Conflict, match=r"Bind for 0\.0\.0\.0:5353 failed: port is already alloc"):
        ports.reserve("c", (PortBinding(53, "tcp", "0.0.0.0", 5353),))
    ports.release("a")
    with pytest.raises(Conflict):
        ports.reserve("c", (PortBinding(53, "tcp", "0.0.0.0", 5353),))
    ports.release("b")
    ports.reserve("c", (PortBinding(53, "tcp", "0.0.0.0", 5353),))


def test_all_or_none() -> None:
    ports = table({81: errno.EADDRINUSE})
    with pytest.raises(Conflict):
        ports.reserve("c", (PortBinding(1, "tcp", "", 8080), PortBinding(2, "tcp", "", 81)))
    assert ports.of("c") == ()
    ports.reserve("d", (PortBinding(1, "tcp", "", 8080),))


def test_automatic_ports_end() -> None:
    ports = table()
    for number in range(4):
        ports.reserve(f"c{number}", (PortBinding(80, "tcp"),))
    with pytest.raises(Exhausted, match="40000-40003"):
        ports.reserve("c4", (PortBinding(80, "tcp"),))
    ports.release("c2")
    assert ports.reserve("c5", (PortBinding(80, "tcp"),))[0].host_port == 40002


def test_a_freed_automatic_port_is_not_the_next_one() -> None:
    ports = table()
    first = ports.reserve("a", (PortBinding(80, "tcp"),))
    ports.release("a")
    assert ports.reserve("b", (PortBinding(80, "tcp"),)) != first


def test_the_same_binding_twice_is_one() -> None:
    assert len(table().reserve("c", (PortBinding(80, "tcp", "", 8080),) * 2)) == 1


@pytest.mark.parametrize(
    ("binding", "kind", "words"),
    [
        (PortBinding(80, "sctp", "", 80), HostUnsupported, "tcp and udp only"),
        (PortBinding(80, "tcp", "::ffff:127.0.0.1", 80), InvalidInput, "write 127.0.0.1"),
        (PortBinding(80, "tcp", "::1", 3), HostUnsupported, "[::1]:3/tcp: this host has no IPv6"),
        (PortBinding(80, "tcp", "example.org"), InvalidInput, "not an IP address"),
        (PortBinding(80, "tcp", "", 1), HostUnsupported, "ip_unprivileged_port_start=1"),
        (PortBinding(80, "tcp", "", 1, 2), HostUnsupported, "need a privilege"),
        (PortBinding(80, "tcp", "203.0.113.9", 7), InvalidInput, "cannot assign requested address"),
        (PortBinding(80, "tcp", "", 9), Conflict, "127.0.0.1:9/tcp: address already in use"),
        (PortBinding(80, "tcp", "", 9, 9), Exhausted, "range 9-9"),
    ],
)
def test_refusals(binding: PortBinding, kind: type[RootlessError], words: str) -> None:
    host = {
        1: errno.EACCES,
        2: errno.EACCES,
        3: errno.EAFNOSUPPORT,
        7: errno.EADDRNOTAVAIL,
        9: errno.EADDRINUSE,
    }
    with pytest.raises(kind) as caught:
        table(host).reserve("c", (binding,))
    assert words in str(caught.value)
    assert caught.value.hint


bindings = st.builds(
    PortBinding,
    container_port=st.integers(1, 65535),
    protocol=st.sampled_from(["tcp", "udp"]),
    host_ip=st.sampled_from(["", "0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1"]),
    host_port=st.sampled_from([0, 0, 8000, 8001]),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(bindings, max_size=4)), max_size=12))
def test_nothing_is_ever_given_twice(steps: list[tuple[str, list[PortBinding]]]) -> None:
    ports = table(ephemeral=(40000, 40010))
    for container, wanted in steps:
        ports.release(container)
        try:
            got = ports.reserve(container, wanted)
        except (Conflict, Exhausted):
            got = ()
        assert ports.of(container) == got
        every = [p for c in "abc" for p in ports.of(c)]
        for index, one in enumerate(every):
            for other in every[index + 1 :]:
                assert (one.protocol, one.host_port) != (
                    other.protocol,
                    other.host_port,
                ) or not overlaps(one.host_ip, other.host_ip)
    for container in "abc":
        ports.release(container)
    assert not ports._owners


def test_adopted_ports_are_taken() -> None:
    ports = table()
    ports.adopt("a", (PublishedPort(80, "tcp", "127.0.0.1", 8080, 3),))
    ports.adopt("a", (PublishedPort(80, "tcp", "127.0.0.1", 8080, 3),))
    assert ports.of("a")[0].forward_id == 3
    with pytest.raises(Conflict):
        ports.reserve("b", (PortBinding(80, "tcp", "", 8080),))
