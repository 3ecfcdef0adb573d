"""NetworkSettings as docker inspect shows them."""

from __future__ import annotations

import pytest

from rootless.network.addresses import ipv6_for, mac_for
from rootless.network.ports import PublishedPort
from rootless.network.settings import network_settings, port_map

PORTS = (
    PublishedPort(80, "tcp", "127.0.0.1", 8080),
    PublishedPort(80, "tcp", "0.0.0.0", 8081),
    PublishedPort(53, "udp", "127.0.0.1", 5353),
)


def test_port_map() -> None:
    assert port_map(PORTS, ("443/tcp", "80/tcp")) == {
        "443/tcp": None,
        "80/tcp": [
            {"HostIp": "127.0.0.1", "HostPort": "8080"},
            {"HostIp": "0.0.0.0", "HostPort": "8081"},
        ],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
    }


def test_a_running_container() -> None:
    mac = mac_for("c" * 64)
    found = network_settings(
        "slirp4netns", container_id="c" * 64, running=True, ports=PORTS, mac=mac
    )
    assert (found["IPAddress"], found["Gateway"], found["IPPrefixLen"]) == (
        "10.0.2.100",
        "10.0.2.2",
        24,
    )
    assert found["GlobalIPv6Address"] == ipv6_for(mac)
    assert found["Networks"]["slirp4netns"]["IPAddress"] == "10.0.2.100"
    assert found["Networks"]["slirp4netns"]["MacAddress"] == mac
    assert set(found["Ports"]) == {"80/tcp", "53/udp"}


@pytest.mark.parametrize("mode", ["none", "host", "slirp4netns"])
def test_a_stopped_container_or_no_network(mode: str) -> None:
    found = network_settings(mode, running=mode != "slirp4netns", ports=PORTS, exposed=("1/tcp",))
    assert found["IPAddress"] == ""
    assert found["Ports"] == {}
    assert set(found["Networks"]) == {mode}


def test_a_shared_network() -> None:
    assert network_settings("container:x", running=True)["Networks"] == {}


def test_mac_addresses_are_local_unicast_and_stable() -> None:
    assert mac_for("a") == mac_for("a") != mac_for("b")
    assert int(mac_for("a")[:2], 16) & 3 == 2


def test_eui64() -> None:
    # The example of RFC 4291, appendix A: 34-56-78-9A-BC-DE becomes 36-56-78-FF-FE-9A-BC-DE.
    assert ipv6_for("34:56:78:9a:bc:de") == "fd00::3656:78ff:fe9a:bcde"
