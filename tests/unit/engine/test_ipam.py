"""Ranges and addresses of networks."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.engine import ipam
from rootless.errors import Denied, Exhausted, InvalidInput
from rootless.model.network import NetworkRecord, Subnet
from rootless.model.request import SubnetRequest


def network(*subnets: Subnet) -> NetworkRecord:
    return NetworkRecord("a" * 64, "net", 1, subnets)


def test_what_is_asked_for_gets_a_gateway_and_one_spelling() -> None:
    found = ipam.check(
        [SubnetRequest("10.1.0.0/16"), SubnetRequest("FD00:0::/64", gateway="fd00::00ff")],
        ipv6=True,
    )
    assert [(s.subnet, s.gateway) for s in found] == [
        ("10.1.0.0/16", "10.1.0.1"),
        ("fd00::/64", "fd00::ff"),
    ]
    assert ipam.check([SubnetRequest()], ipv6=False) == ()
    assert ipam.check([SubnetRequest("fd00::/64")], ipv6=False) == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (SubnetRequest("10.1.0.0"), "invalid CIDR block notation"),
        (SubnetRequest("10.1.0.1/16"), "it should be 10.1.0.0/16"),
        (SubnetRequest("nonsense/16"), "invalid CIDR block notation"),
        (SubnetRequest("10.1.0.0/31"), "no place"),
        (SubnetRequest("10.1.0.0/16", "10.0.0.0/8"), "bigger than its parent subnet"),
        (SubnetRequest("10.1.0.0/16", "10.2.0.0/24"), "doesn't contain ip-range"),
        (SubnetRequest("10.1.0.0/16", "fd00::/64"), "parent subnet is an IPv4 block"),
        (SubnetRequest("10.1.0.0/16", "10.1.0.1/24"), "it should be 10.1.0.0/24"),
        (SubnetRequest("10.1.0.0/16", gateway="10.2.0.1"), "doesn't contain this address"),
        (SubnetRequest("10.1.0.0/16", gateway="x"), "invalid gateway x: invalid address"),
        (SubnetRequest("10.1.0.0/16", reserved=(("p", "fd00::1"),)), "invalid auxiliary address p"),
        (SubnetRequest(gateway="10.1.0.1"), "invalid subnet"),
    ],
)
def test_faults_are_named(asked: SubnetRequest, said: str) -> None:
    with pytest.raises(InvalidInput, match="invalid network config") as caught:
        ipam.check([asked], ipv6=True)
    assert said in caught.value.message


def test_two_ranges_of_a_family_are_too_many() -> None:
    with pytest.raises(InvalidInput, match="multiple subnets"):
        ipam.check([SubnetRequest("10.1.0.0/16"), SubnetRequest("10.2.0.0/16")], ipv6=False)


def test_ranges_do_not_overlap() -> None:
    there = network(Subnet("10.1.0.0/16", "10.1.0.1"))
    ipam.check_overlap([Subnet("10.2.0.0/16")], [there])
    for text in ("10.1.128.0/17", "10.0.0.0/8", "10.0.2.0/30", "fd00::/60"):
        with pytest.raises(Denied, match="Pool overlaps"):
            ipam.check_overlap([Subnet(text)], [there])


def test_a_free_range_is_chosen() -> None:
    taken = ["172.18.0.0/16", "172.20.5.0/24"]
    assert ipam.choose(ipam.DEFAULT_POOLS, taken, version=4).subnet == "172.19.0.0/16"
    taken.append("172.16.0.0/12")
    assert ipam.choose(ipam.DEFAULT_POOLS, taken, version=4).subnet == "192.168.0.0/20"
    taken.append("192.168.0.0/17")
    assert ipam.choose(ipam.DEFAULT_POOLS, taken, version=4).subnet == "192.168.128.0/20"
    taken.append("192.168.0.0/16")
    with pytest.raises(InvalidInput, match="could not find an available"):
        ipam.choose(ipam.DEFAULT_POOLS, taken, version=4)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_a_chosen_range_is_free_and_of_its_pool(seconds: list[int]) -> None:
    taken = [f"10.{second}.0.0/16" for second in seconds]
    found = ipaddress.ip_network(ipam.choose([("10.0.0.0/8", 20)], taken, version=4).subnet)
    assert found.prefixlen == 20
    assert found.subnet_of(ipaddress.ip_network("10.0.0.0/8"))  # type: ignore[arg-type]  # both are IPv4
    assert not any(found.overlaps(ipaddress.ip_network(t)) for t in taken)


def test_addresses_are_given_one_after_the_other_and_again_at_the_end() -> None:
    small = Subnet("10.1.0.0/29", "10.1.0.1", reserved=(("printer", "10.1.0.4"),))
    net, taken, last = network(small), set(), ""
    for expected in ("10.1.0.2", "10.1.0.3", "10.1.0.5", "10.1.0.6"):
        last = ipam.pick(net, small, taken, last)
        assert last == expected
        taken.add(last)
    with pytest.raises(Exhausted, match="no available IPv4 addresses"):
        ipam.pick(net, small, taken, last)
    taken.remove("10.1.0.3")
    assert ipam.pick(net, small, taken, last) == "10.1.0.3"


def test_addresses_asked_for() -> None:
    net = network(
        Subnet("10.1.0.0/16", "10.1.0.1"), Subnet("fd00:1::/64", "fd00:1::1", asked=False)
    )
    assert ipam.check_static(net, "10.1.2.3", 4) == "10.1.2.3"
    for text, version, said in (
        ("10.2.0.1", 4, "no configured subnet"),
        ("fd00:1::5", 4, "invalid IPv4 address"),
        ("0.0.0.0", 4, "invalid IPv4 address"),
        ("fd00:1::5", 6, "user configured subnets"),
    ):
        with pytest.raises(InvalidInput, match=said):
            ipam.check_static(net, text, version)


def test_routes_of_the_host() -> None:
    text = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n"
        "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\n"
        "eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n"
    )
    assert ipam.host_routes(text) == ("192.168.2.0/24",)
