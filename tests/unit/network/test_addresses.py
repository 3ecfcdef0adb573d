"""Addresses derived from a container's id."""

from __future__ import annotations

from rootless.network.addresses import ipv6_for, mac_for


def test_mac_addresses_are_local_unicast_and_stable() -> None:
    assert mac_for("a") == mac_for("a") != mac_for("b")
    assert int(mac_for("a")[:2], 16) & 3 == 2


def test_eui64() -> None:
    # The example of RFC 4291, appendix A: 34-56-78-9A-BC-DE becomes 36-56-78-FF-FE-9A-BC-DE.
    assert ipv6_for("34:56:78:9a:bc:de") == "fd00::3656:78ff:fe9a:bcde"
