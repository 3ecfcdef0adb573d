"""The rules of bridges: nft(8) itself takes them, and takes them back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace

from rootless.model.network import ICC, Endpoint, NetworkRecord, Subnet
from rootless.network.holder import egress_rules, rules
from rootless.network.holder.main import endpoint_of, network_of

NETWORK = NetworkRecord(
    "ab" * 32, "front", 1, (Subnet("10.1.0.0/16", "10.1.0.1"), Subnet("fd00:1::/64", "fd00:1::1")),
    ipv6=True, labels=(("a", "b"),),
)  # fmt: skip
ENDPOINT = Endpoint(
    NETWORK.id, "front", "cd" * 32, "eth0", "02:00:00:00:00:09", "10.1.0.2", 16, "10.1.0.1",
    "fd00:1::2", 64, "fd00:1::1", ("web",), (("shop", "web"),),
    (("tcp", 80, 90), ("udp", 53, 53)), default_ipv4=True,
)  # fmt: skip


def test_records_survive_json() -> None:
    assert network_of(_json(asdict(NETWORK))) == NETWORK
    assert endpoint_of(_json(asdict(ENDPOINT))) == ENDPOINT
    assert endpoint_of(_json(asdict(LISTED))) == LISTED


def _json(value: dict[str, object]) -> dict[str, object]:
    import json

    found: dict[str, object] = json.loads(json.dumps(value))
    return found


def test_names_fit_into_an_interface() -> None:
    assert len(rules.bridge_name(NETWORK.id)) == 15
    assert len(rules.port_name(ENDPOINT.id)) < 16
    assert rules.link_local("02:00:00:00:00:09") == "fe80::ff:fe00:9"


def test_internal_and_apart() -> None:
    open_, closed = rules.of_network(NETWORK, add=True), replace(NETWORK, internal=True)
    assert "outward" in open_
    assert "outward" not in rules.of_network(closed, add=True)
    apart = replace(NETWORK, options=((ICC, "false"),))
    assert ("same" in open_, "same" in rules.of_network(apart, add=True)) == (True, False)


LISTED = replace(
    ENDPOINT, id="ef" * 32,
    egress=(
        ("pypi.org:443", "*.pypi.org:443", "a.org", "b.org/icmp", "10.0.0.0/8:53/udp", "10.2.3.4",
         "[2001:db8::]/32:1-2", "2001:db8::1/icmp", "192.0.2.1/tcp"),
        (),
    ),
)  # fmt: skip


def test_a_way_with_lists_leads_to_its_chain() -> None:
    text = rules.of_endpoint(LISTED, add=True)
    chain = rules.chain_name(LISTED.id)
    assert f"10.1.0.2 : goto {chain}" in text
    assert f"fd00:1::2 : goto {chain}" in text
    assert ": accept" not in text
    assert ": goto" not in rules.of_endpoint(ENDPOINT, add=True)


OTHER = replace(
    ENDPOINT, id="12" * 32, ipv4_address="10.1.0.3", ipv6_address="fd00:1::3", exposed=()
)
LINKS = rules.of_links([(OTHER, ENDPOINT), (ENDPOINT, OTHER)])


def test_links_lead_to_exposed_ports_in_one_direction() -> None:
    assert set(LINKS) == {
        ("links4", "10.1.0.3 . 10.1.0.2 . tcp . 80-90"),
        ("links4", "10.1.0.3 . 10.1.0.2 . udp . 53-53"),
        ("links6", "fd00:1::3 . fd00:1::2 . tcp . 80-90"),
        ("links6", "fd00:1::3 . fd00:1::2 . udp . 53-53"),
    }
    assert rules.changed_links(LINKS, LINKS) == ""


def test_the_kernel_takes_them_and_takes_them_back() -> None:
    lists = egress_rules.lists_of("own", LISTED.egress)
    name = lists[0].names[0].sets[0]
    script = "\n".join(
        (
            rules.BASE,
            rules.of_network(NETWORK, add=True),
            rules.of_endpoint(ENDPOINT, add=True),
            rules.of_endpoint(ENDPOINT, add=False),
            rules.of_endpoint(LISTED, add=True),
            rules.of_endpoint(LISTED, add=False),
            rules.changed_links(frozenset(), LINKS),
            rules.changed_links(LINKS, frozenset(list(LINKS)[1:])),
            rules.changed_links(frozenset(list(LINKS)[1:]), frozenset()),
            egress_rules.of_private(lists).replace(rules.TABLE, "inet other"),
            egress_rules.of_private(lists).replace(rules.TABLE, "inet other"),
            *[egress_rules.opening("inet other", name, "192.0.2.7", 9) for _ in range(2)],
            rules.of_network(NETWORK, add=False),
        )
    )
    source = (
        "import sys\nfrom rootless.errors import RootlessError\n"
        "from rootless.linux import nftables\n"
        "nftables.run(sys.stdin.read())\n"
        f"for family, kind, name in {rules.ELEMENTS}:\n"
        "    assert 'elements' not in nftables.run(f'list {kind} {family} rootless {name}'), name\n"
        "listed = nftables.run('list table inet rootless')\n"
        "assert listed.count('chain ') == 5 and listed.count('counter e') == 0, listed\n"
        "listed = nftables.run('list table inet other')\n"
        "assert '192.0.2.7 timeout 9s' in listed and listed.count('chain ') == 6, listed\n"
        "try:\n    nftables.run('add rule inet rootless nowhere accept')\n"
        "except RootlessError as error:\n    print(error.message)"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", source],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nftables refused a change" in done.stdout


def test_the_resolver_is_led_to_also_where_rules_were() -> None:
    source = (
        "from rootless.linux import nftables\nfrom rootless.network.holder import translation\n"
        "made = [translation.lead(1000 + n, 2000 + n) for n in range(2)]\n"
        "print(nftables.run('list ruleset'))"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rules_of_table = [line.strip() for line in done.stdout.splitlines() if "dnat" in line]
    assert rules_of_table == [
        "ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:1001",
        "ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:2001",
    ]
    assert "type nat hook output priority" in done.stdout
