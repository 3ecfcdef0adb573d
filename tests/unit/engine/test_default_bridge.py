"""What the network called bridge is, by daemon.json and by what is free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.engine.default_bridge import asked, describe
from rootless.engine.events import EventBus
from rootless.engine.network_table import NetworkTable, is_predefined
from rootless.engine.registry import Registry
from rootless.engine.settings import EngineSettings
from rootless.engine.state import State
from rootless.errors import Denied, InvalidInput
from rootless.model.network import ICC, MTU, NetworkRecord, Subnet
from rootless.model.pools import AddressPool, DefaultBridge

SETTINGS = EngineSettings(Path("/d"), Path("/r"), ipv6=False)
OTHER = NetworkRecord("f" * 64, "front", 1, (Subnet("172.17.0.0/24", "172.17.0.1"),))


def made(
    settings: EngineSettings = SETTINGS,
    before: NetworkRecord | None = None,
    others: tuple[NetworkRecord, ...] = (),
    routes: tuple[str, ...] = (),
) -> NetworkRecord:
    return describe(settings, before, others, routes, created_ns=5)


def test_the_first_free_range_and_the_options() -> None:
    found = made()
    assert [s.subnet for s in found.subnets] == ["172.17.0.0/16"]
    assert (found.name, found.ipv6, dict(found.options)[ICC]) == ("bridge", False, "false")
    assert is_predefined(found)
    assert not is_predefined(OTHER)
    assert made(others=(OTHER,)).subnets[0].subnet == "172.18.0.0/16"
    assert made(routes=("172.16.0.0/12",)).subnets[0].subnet == "192.168.0.0/20"
    pools = (AddressPool("10.200.0.0/16", 24),)
    assert made(replace(SETTINGS, address_pools=pools)).subnets[0].subnet == "10.200.0.0/24"
    tuned = replace(SETTINGS, default_bridge=DefaultBridge(icc=True), mtu=1400, ipv6=True)
    assert dict(made(tuned).options)[ICC] == "true"
    assert dict(made(tuned).options)[MTU] == "1400"
    assert [":" in s.subnet for s in made(tuned).subnets] == [False, True]


def test_it_keeps_its_range_while_that_is_free() -> None:
    before = made(others=(OTHER,))
    assert made(before=before).subnets == before.subnets
    assert made(before=before, routes=("172.18.4.0/24",)).subnets[0].subnet == "172.17.0.0/16"
    bip = replace(SETTINGS, default_bridge=DefaultBridge(bip="10.9.0.5/24"))
    assert made(bip, before).subnets[0].gateway == "10.9.0.5"
    assert made(before=made(bip)).subnets[0].subnet == "172.17.0.0/16"
    with pytest.raises(Denied, match="Pool overlaps"):
        made(replace(SETTINGS, default_bridge=DefaultBridge(bip="172.17.0.9/30")), others=(OTHER,))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (DefaultBridge(), None),
        (DefaultBridge(bip="10.9.0.5/24"), Subnet("10.9.0.0/24", "10.9.0.5")),
        (
            DefaultBridge(bip="10.9.0.5/24", fixed_cidr="10.9.0.128/25"),
            Subnet("10.9.0.0/24", "10.9.0.5", "10.9.0.128/25"),
        ),
        (DefaultBridge(fixed_cidr="10.9.0.0/24"), Subnet("10.9.0.0/24", "10.9.0.1")),
        (
            DefaultBridge(bip="10.9.0.5/24", default_gateway="10.9.0.6"),
            Subnet("10.9.0.0/24", "10.9.0.6", "", (("bip", "10.9.0.5"),)),
        ),
    ],
)
def test_ranges_that_are_named(wanted: DefaultBridge, expected: Subnet | None) -> None:
    assert asked(wanted, 4) == expected


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (DefaultBridge(default_gateway="10.9.0.6"), "default-gateway needs bip"),
        (DefaultBridge(bip="10.9.0.0/24"), "is no address of a host"),
        (DefaultBridge(bip="10.9.0.5/24", fixed_cidr="10.8.0.0/24"), "fixed-cidr 10.8.0.0/24"),
        (DefaultBridge(bip="10.9.0.5/24", default_gateway="10.8.0.1"), "default-gateway 10.8.0.1"),
    ],
)
def test_ranges_that_cannot_be(wanted: DefaultBridge, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        asked(wanted, 4)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[NetworkTable]:
    state = State(tmp_path / "state.db")
    yield NetworkTable(state, Registry(state, EventBus()))
    state.close()


def test_the_table_follows_the_configuration(table: NetworkTable) -> None:
    table.settle_default(SETTINGS)
    first = table.find("bridge")
    table.settle_default(SETTINGS)
    assert table.find("bridge") is first
    bip = replace(SETTINGS, default_bridge=DefaultBridge(bip="10.9.0.5/24"))
    table.settle_default(bip)
    assert table.find("bridge").subnets[0].subnet == "10.9.0.0/24"
    assert [n.name for n in table] == ["bridge"]
    table.remove(table.find("bridge"))
    table.add(replace(OTHER, subnets=(Subnet("10.9.0.0/16", "10.9.0.1"),)))
    table.settle_default(bip)  # the daemon starts all the same
    assert [n.name for n in table] == ["front"]
    table.settle_default(SETTINGS)
    table.settle_default(replace(SETTINGS, bridge=False))
    assert [n.name for n in table] == ["front"]
