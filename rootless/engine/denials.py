"""What egress lists denied: fetched from the network holder, kept for a while, told once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace

from rootless.engine.core import Core
from rootless.engine.ownership import seen_unit
from rootless.errors import NotFound, Unavailable
from rootless.ids import SHORT_LENGTH
from rootless.model.identity import Identity
from rootless.model.network import Denial
from rootless.policy.matching import Subject

_log = logging.getLogger(__name__)

MOST, MOST_EACH = 4096, 512
"""Rows kept, of all containers and of one; beyond that the longest unseen goes."""
PAUSE = 0.2
"""Seconds between two questions to the holder: what comes meanwhile is asked for together."""

_Key = tuple[str, str, str, str, str, int]


class Denials:
    """All denials of this daemon's life, and those of the time before that nobody had fetched."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rows: dict[_Key, Denial] = {}
        """The longest unseen first."""
        self._fetching: asyncio.Task[object] | None = None
        self._more = False
        core.network.bridges.on_denied = self._told

    async def list(
        self, identity: Identity, *, network: str, container: str, since_ns: int
    ) -> Sequence[Denial]:
        """Rows that the caller sees, last seen since a time, latest last; '' for all.

        A network by its name; a container by its name or the beginning of its id, one that is
        gone too. NotFound for a container that is not there and has no rows.
        """
        await self._fetch()
        found = [row for row in self._rows.values() if self._seen(identity, row)]
        if container:
            try:
                wanted = seen_unit(self._core, identity, "network.denied", container).id
                found = [row for row in found if row.container == wanted]
            except NotFound:
                found = [
                    r for r in found if r.name == container or r.container.startswith(container)
                ]
                if not found:
                    raise
        if network:
            found = [row for row in found if row.network == network]
        return sorted((row for row in found if row.last_ns >= since_ns), key=lambda r: r.last_ns)

    def _seen(self, identity: Identity, row: Denial) -> bool:
        subject = Subject(name=row.name, owners=frozenset({row.owner}), networks=(row.network,))
        return self._core.policy.lists(identity, "network.denied", subject)

    def _told(self) -> None:
        self._more = True
        if self._fetching is None and not self._core.stopping:
            self._fetching = self._core.background(self._follow(), "fetching what was denied")

    async def _follow(self) -> None:
        try:
            while self._more:
                self._more = False
                await self._fetch()
                await asyncio.sleep(PAUSE)
        finally:
            self._fetching = None

    async def _fetch(self) -> None:
        found = []
        with contextlib.suppress(Unavailable):  # what it had is lost with it
            found = await self._core.network.bridges.take_denied()
        for value in found:
            name, owner = self._whose(value["container"])
            self._add(
                Denial(
                    container=value["container"],
                    name=name,
                    network=value["network"],
                    reason=value["reason"],
                    protocol=value["protocol"],
                    destination=value["destination"],
                    port=value["port"],
                    count=value["count"],
                    first_ns=value["first"],
                    last_ns=value["last"],
                    owner=owner,
                )
            )

    def _whose(self, container_id: str) -> tuple[str, str]:
        with contextlib.suppress(NotFound):
            record = self._core.registry.find(container_id).record
            return record.name, record.identity.key
        return self._core.networks.listed.get(container_id, ("", ""))

    def _add(self, row: Denial) -> None:
        key = (row.container, row.network, row.reason, row.protocol, row.destination, row.port)
        before = self._rows.pop(key, None)
        if before is not None:
            row = replace(row, first_ns=before.first_ns, count=before.count + row.count)
        self._rows[key] = row
        if before is None:
            self._tell(row)
            self._make_room(row.container)

    def _make_room(self, container: str) -> None:
        mine = [key for key in self._rows if key[0] == container]
        if len(mine) > MOST_EACH:
            del self._rows[mine[0]]
        elif len(self._rows) > MOST:
            del self._rows[next(iter(self._rows))]

    def _tell(self, row: Denial) -> None:
        """In the log and as an event, once for each row: a loop in a container fills no disk."""
        target = row.target or "other destinations"
        called = row.name or row.container[:SHORT_LENGTH]
        _log.warning("container %s: egress to %s denied on network %s", called, target, row.network)
        attributes = {"network": row.network, "reason": row.reason, "destination": target}
        with contextlib.suppress(NotFound):
            unit = self._core.registry.find(row.container)
            self._core.registry.publish(unit, "egress_denied", **attributes)
            return
        self._core.events.publish(
            "container", "egress_denied", row.container, attributes, owners=[row.owner]
        )
