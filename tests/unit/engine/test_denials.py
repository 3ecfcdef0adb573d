"""Denials in the daemon's memory: added up, bounded, shown to who may see them."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rootless.engine import denials
from rootless.engine.core import Core
from rootless.engine.denials import Denials
from rootless.engine.events import EventBus
from rootless.errors import NotFound
from rootless.policy.matching import Subject
from tests.unit.policy.cases import IDENTITY


def row(container: str, port: int, count: int = 1, at: int = 1) -> dict[str, Any]:
    return {
        "container": container, "network": "front", "reason": "destination", "protocol": "tcp",
        "destination": "192.0.2.7", "port": port, "count": count, "first": at, "last": at,
    }  # fmt: skip


class Fake:
    """What of the core denials use; every container is gone, the owner of ``x…`` hidden."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.events = EventBus()
        self.network = SimpleNamespace(bridges=self)
        self.networks = SimpleNamespace(listed={"a" * 64: ("job", "uid:1"), "x" * 64: ("x", "no")})
        self.registry = self
        self.policy = self
        self.stopping = False

    async def take_denied(self) -> list[dict[str, Any]]:
        found, self.rows = self.rows, []
        return found

    def find(self, ref: str, seen: object = None) -> None:
        raise NotFound(f"No such container: {ref}")

    def sees(self, identity: object, subject: Subject) -> bool:
        return "no" not in (subject.owners or ())

    def lists(self, identity: object, verb: str, subject: Subject) -> bool:
        assert verb == "network.denied"
        return self.sees(identity, subject)


@pytest.fixture
def fake() -> Fake:
    return Fake()


async def listed(found: Denials, **asked: Any) -> list[tuple[str, int, int]]:
    asked = {"network": "", "container": "", "since_ns": 0, **asked}
    return [(r.name, r.port, r.count) for r in await found.list(IDENTITY, **asked)]


async def test_they_add_up_and_are_told_once(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    found = Denials(cast("Core", fake))
    fake.rows = [row("a" * 64, 443, 2), row("x" * 64, 80), row("a" * 64, 22)]
    with caplog.at_level(logging.WARNING):
        assert await listed(found) == [("job", 443, 2), ("job", 22, 1)]
        fake.rows = [row("a" * 64, 443, 3, at=5)]
        assert await listed(found) == [("job", 22, 1), ("job", 443, 5)]
    assert len([r for r in caplog.records if "192.0.2.7:443/tcp" in r.message]) == 1
    assert await listed(found, since_ns=2) == [("job", 443, 5)]
    assert await listed(found, network="back") == []
    assert await listed(found, container="job") == await listed(found, container="aaa")
    for hidden in ("x", "nobody"):
        with pytest.raises(NotFound, match=f"No such container: {hidden}"):
            await listed(found, container=hidden)


async def test_memory_is_bounded(fake: Fake) -> None:
    found = Denials(cast("Core", fake))
    fake.rows = [row("a" * 64, port) for port in range(1, denials.MOST_EACH + 11)]
    rows = await listed(found)
    assert len(rows) == denials.MOST_EACH
    assert rows[0] == ("job", 11, 1)
    fake.rows = [row(f"{n:064}", 1) for n in range(denials.MOST)]
    assert len(await listed(found)) == denials.MOST
