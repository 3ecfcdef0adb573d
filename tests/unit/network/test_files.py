"""resolv.conf, hosts and hostname as texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import InvalidInput
from rootless.model.spec import NetworkSpec
from rootless.network import files


def spec(mode: str = "slirp4netns", **more: object) -> NetworkSpec:
    return NetworkSpec(mode=mode, **more)  # type: ignore[arg-type]  # keywords of any field


HOST = "# made by hand\nnameserver 9.9.9.9\nsearch corp.example\noptions edns0 trust-ad\n"


@pytest.mark.parametrize(
    ("given", "host", "expected"),
    [
        (spec(), HOST, "nameserver 10.0.2.3\nsearch corp.example\noptions edns0 trust-ad\n"),
        (spec(), "nameserver 127.0.0.53\n", "nameserver 10.0.2.3\n"),
        (spec(), "nameserver ::1\n", "nameserver fd00::3\n"),
        (spec(), "nameserver 1.1.1.1\nnameserver 2606::1\n",
         "nameserver 10.0.2.3\nnameserver fd00::3\n"),
        (spec(ipv6=False), "nameserver ::1\n", "nameserver 10.0.2.3\n"),
        (spec(), "", "nameserver 10.0.2.3\n"),
        (spec(dns=("8.8.8.8", "fd00::9")), HOST,
         "nameserver 8.8.8.8\nnameserver fd00::9\nsearch corp.example\noptions edns0 trust-ad\n"),
        (spec(dns_search=(".",)), HOST, "nameserver 10.0.2.3\noptions edns0 trust-ad\n"),
        (spec(dns_search=("a.b", "c.d"), dns_options=("ndots:2",)), HOST,
         "nameserver 10.0.2.3\nsearch a.b c.d\noptions ndots:2\n"),
        (spec("host"), "nameserver 127.0.0.53\n", "nameserver 127.0.0.53\n"),
        (spec("none"), HOST, "search corp.example\noptions edns0 trust-ad\n"),
        (spec("none", dns=("1.1.1.1",)), "", "nameserver 1.1.1.1\n"),
    ],
)  # fmt: skip
def test_resolv_conf(given: NetworkSpec, host: str, expected: str) -> None:
    assert files.render_resolv_conf(given, host) == expected


def test_the_last_search_or_domain_line_counts() -> None:
    text = (
        "search a b\ndomain c\n; nameserver 1.1.1.1\nnameserver nonsense\nnameserver fe80::1%eth0\n"
    )
    assert files.parse_resolv_conf(text) == files.Resolver(("fe80::1%eth0",), ("c",), ())


@pytest.mark.parametrize(
    "bad",
    [
        spec(dns=("example.org",)),
        spec(dns=("1.1.1.1\nnameserver 6.6.6.6",)),
        spec(dns_search=("a\nnameserver 6.6.6.6",)),
        spec(dns_search=("",)),
        spec(dns_options=("a b",)),
    ],
)
def test_no_word_can_add_a_line(bad: NetworkSpec) -> None:
    with pytest.raises(InvalidInput):
        files.render_resolv_conf(bad, "")


@given(st.text())
def test_any_host_file_renders_to_lines_a_resolver_reads(text: str) -> None:
    rendered = files.render_resolv_conf(spec("host"), text)
    for line in rendered.splitlines():
        assert line.split()[0] in ("nameserver", "search", "options")


def test_hosts() -> None:
    text = files.render_hosts(
        spec(extra_hosts=("db:10.1.2.3", "six=[2001:db8::1]", "seven:2001:db8::2")),
        hostname="web",
        domainname="example.org",
        aliases=("c0ffee",),
    )
    lines = text.splitlines()
    assert lines[0] == "127.0.0.1\tlocalhost"
    assert "::1\tlocalhost ip6-localhost ip6-loopback" in lines
    assert lines[-4:] == [
        "10.1.2.3\tdb",
        "2001:db8::1\tsix",
        "2001:db8::2\tseven",
        "10.0.2.100\tweb.example.org web c0ffee",
    ]


def test_hosts_without_a_network_of_its_own() -> None:
    text = files.render_hosts(spec("none", ipv6=False), hostname="web")
    assert text == "127.0.0.1\tlocalhost\n127.0.1.1\tweb\n"


def test_host_gateway_only_when_it_has_an_address() -> None:
    with pytest.raises(InvalidInput, match="host-gateway has no address"):
        files.parse_extra_host("h:host-gateway", None)
    assert files.parse_extra_host("h:host-gateway", "192.0.2.1").address == "192.0.2.1"


@pytest.mark.parametrize(
    "bad", ["", "name", "name:", ":1.2.3.4", "na me:1.2.3.4", "n:1.2.3", "a\nb:1.1.1.1"]
)
def test_bad_extra_hosts(bad: str) -> None:
    with pytest.raises(InvalidInput):
        files.parse_extra_host(bad, None)


@pytest.mark.parametrize("good", ["a", "a-b", "a.b.c", "0f", "under_score", "x" * 63])
def test_good_hostnames(good: str) -> None:
    assert files.check_hostname(good) == good


@pytest.mark.parametrize("bad", ["", "-a", "a-", "a..b", ".a", "a b", "a\n", "x" * 64, "é"])
def test_bad_hostnames(bad: str) -> None:
    with pytest.raises(InvalidInput):
        files.check_hostname(bad)
