"""Where the addresses of an engine's own networks are taken from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AddressPool:
    """One of Docker's ``default-address-pools``: the block ``base`` in parts of ``size`` bits."""

    base: str
    size: int


@dataclass(frozen=True, slots=True)
class DefaultBridge:
    """What daemon.json says of the network ``bridge``; '' leaves the choice to the engine."""

    icc: bool = False
    """Whether its containers reach one another."""
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""

    def of(self, version: int) -> tuple[str, str, str]:
        """The bridge's own address, the containers' range and their gateway, of a family."""
        if version == 4:
            return self.bip, self.fixed_cidr, self.default_gateway
        return self.bip6, self.fixed_cidr_v6, self.default_gateway_v6
