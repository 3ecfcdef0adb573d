"""Which addresses containers get, and through which network they leave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.engine.events import EventBus
from rootless.engine.network_table import NetworkTable, names_of, renamed
from rootless.engine.registry import Registry
from rootless.engine.state import State
from rootless.engine.unit import Unit
from rootless.errors import Conflict, Denied, InvalidInput, NotFound
from rootless.model.network import Attachment, NetworkRecord, Subnet

from .samples import record

FRONT = NetworkRecord("f" * 64, "front", 1, (Subnet("10.1.0.0/24", "10.1.0.1"),))
BACK = NetworkRecord(
    "b" * 64, "back", 2, (Subnet("10.2.0.0/24", "10.2.0.1"), Subnet("fd00::/64", "fd00::1")),
    ipv6=True,
)  # fmt: skip
INNER = NetworkRecord("a" * 64, "inner", 3, (Subnet("10.3.0.0/24", "10.3.0.1"),), internal=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    state = State(tmp_path / "state.db")
    yield Registry(state, EventBus())
    state.close()


@pytest.fixture
def table(registry: Registry) -> NetworkTable:
    made = NetworkTable(registry._state, registry)
    for network in (FRONT, BACK, INNER):
        made.add(network)
    return made


def unit(registry: Registry, name: str, *attachments: Attachment, mode: str = "bridge") -> Unit:
    made = record(name)
    network = replace(made.spec.network, mode=mode, attachments=attachments)
    return registry.add(replace(made, spec=replace(made.spec, network=network)))


def on(network: NetworkRecord, **asked: object) -> Attachment:
    return Attachment(network.id, network.name, **asked)  # type: ignore[arg-type]  # keywords of any field


def test_networks_are_found_and_outlive_the_table(table: NetworkTable, registry: Registry) -> None:
    for ref in ("front", FRONT.id, "fff"):
        assert table.find(ref) == FRONT
    with pytest.raises(NotFound, match="network nix not found"):
        table.find("nix")
    with pytest.raises(Conflict, match="already exists"):
        table.add(replace(FRONT, id="9" * 64))
    table.remove(BACK)
    table.add(replace(BACK, id="f0" * 32))
    with pytest.raises(InvalidInput, match="ambiguous"):
        table.find("f")
    again = NetworkTable(registry._state, registry)
    again.load()
    assert {network.name for network in again} == {"front", "back", "inner"}


def test_every_container_has_an_address_of_its_own(table: NetworkTable, registry: Registry) -> None:
    seen = set()
    for number in range(20):
        one = unit(registry, f"web{number}", on(FRONT))
        plan = table.allocate(one, one.record.spec, ())
        assert plan is not None
        seen.add(plan.endpoints[0].ipv4_address)
    assert len(seen) == 20
    assert "10.1.0.1" not in seen
    two = unit(registry, "web-a", on(FRONT, ipv4_address="10.1.0.2"))
    with pytest.raises(Denied, match="Address already in use"):
        table.allocate(two, two.record.spec, ())
    assert two.endpoints == ()
    assert len(table.users(FRONT.id)) == 20


def test_the_way_out(table: NetworkTable, registry: Registry) -> None:
    one = unit(registry, "web", on(INNER), on(FRONT), on(BACK, aliases=("db",)))
    plan = table.allocate(one, one.record.spec, ("10.0.2.3",))
    assert plan is not None
    inner, front, back = plan.endpoints
    assert [e.interface for e in plan.endpoints] == ["eth0", "eth1", "eth2"]
    # The first by name of those that lead out, unless one has a priority.
    assert (inner.default_ipv4, front.default_ipv4, back.default_ipv4) == (False, False, True)
    assert (inner.ipv4_gateway, back.default_ipv6, back.ipv6_address) == ("", True, "fd00::2")
    assert back.names[:2] == ("web", "db")
    spec = replace(
        one.record.spec,
        network=replace(one.record.spec.network, attachments=(on(FRONT, gateway_priority=1),)),
    )
    assert [e.network for e in table.with_defaults(spec, plan.endpoints) if e.default_ipv4] == [
        "front"
    ]
    # Who has a slirp4netns of his own leaves through that.
    own = unit(registry, "own", on(FRONT), mode="slirp4netns")
    plan = table.allocate(own, own.record.spec, ())
    assert plan is not None
    assert not plan.endpoints[0].default_ipv4


def test_one_more_and_other_names(table: NetworkTable, registry: Registry) -> None:
    one = unit(registry, "web", on(FRONT))
    table.allocate(one, one.record.spec, ())
    more = table.one_more(one, one.record.spec, on(BACK))
    assert (more.interface, more.network) == ("eth1", "back")
    spec = replace(one.record.spec, name="shop")
    assert renamed(one, spec)[0].names == names_of(spec, FRONT.id, ())
    plain = unit(registry, "plain", mode="none")
    assert table.allocate(plain, plain.record.spec, ()) is None
    table.remove(FRONT)
    assert table.plan_of(one, ()) is None
    with pytest.raises(NotFound, match="not found"):
        table.allocate(one, one.record.spec, ())
