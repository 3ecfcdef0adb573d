"""Which names there are, and who sees them. Pure but for the order of answers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rootless.network.dns.message import reverse_name


@dataclass(frozen=True, slots=True)
class Entry:
    """An endpoint: its network, the network's name, its own names and addresses."""

    network: str
    domain: str
    names: tuple[str, ...]
    addresses: tuple[str, ...]


class Zone:
    """The endpoints of all networks."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._names: dict[tuple[str, str], dict[str, Entry]] = {}
        """(network, name in lower case) → endpoint id → entry."""
        self._reverse: dict[tuple[str, str], str] = {}
        """(network, reverse name) → name."""

    def put(self, endpoint_id: str, entry: Entry) -> None:
        """Add or replace an endpoint."""
        self.drop(endpoint_id)
        self._entries[endpoint_id] = entry
        for name in self._all_names(entry):
            self._names.setdefault((entry.network, name), {})[endpoint_id] = entry
        if entry.names:
            for address in entry.addresses:
                told = f"{entry.names[0]}.{entry.domain}"
                self._reverse[entry.network, reverse_name(address)] = told

    def drop(self, endpoint_id: str) -> None:
        """Forget an endpoint; an unknown one is fine."""
        entry = self._entries.pop(endpoint_id, None)
        if entry is None:
            return
        for name in self._all_names(entry):
            found = self._names[entry.network, name]
            del found[endpoint_id]
            if not found:
                del self._names[entry.network, name]
        for address in entry.addresses:
            self._reverse.pop((entry.network, reverse_name(address)), None)

    @staticmethod
    def _all_names(entry: Entry) -> Iterable[str]:
        names = {name.lower() for name in entry.names}
        return names | {f"{name}.{entry.domain.lower()}" for name in names}

    def addresses(self, networks: Sequence[str], name: str) -> list[str] | None:
        """Addresses of ``name`` on any of the networks, in random order; None when nobody has it.

        The first network that knows the name answers for all, as in Docker.
        """
        for network in networks:
            found = self._names.get((network, name))
            if found:
                every = [address for entry in found.values() for address in entry.addresses]
                random.shuffle(every)
                return every
        return None

    def pointer(self, networks: Sequence[str], name: str) -> str | None:
        """The name behind a reverse name."""
        for network in networks:
            found = self._reverse.get((network, name))
            if found is not None:
                return found
        return None
