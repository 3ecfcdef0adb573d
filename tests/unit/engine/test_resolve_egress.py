"""Which egress list a container has, and which it cannot have."""

from __future__ import annotations

import pytest

from rootless.engine.resolve_egress import list_of, resolve_egress
from rootless.errors import InvalidInput
from rootless.model.network import Attachment
from rootless.model.request import EndpointRequest
from rootless.model.spec import NetworkSpec

OPEN = Attachment("a" * 64, "open")
LISTED = Attachment("b" * 64, "listed", network_egress=())
INNER = Attachment("c" * 64, "inner", outward=False)
SLIRP = NetworkSpec("slirp4netns")


def own(text: str) -> list[EndpointRequest]:
    return [EndpointRequest("slirp4netns", driver_opts=(("egress", text),))]


def test_a_list_of_its_own() -> None:
    assert resolve_egress(SLIRP, own("B.c:443; b.c:443"), None).egress == ("b.c:443",)
    assert resolve_egress(SLIRP, own("none"), ("x",)).egress == ()
    assert resolve_egress(SLIRP, [], None).egress is None


@pytest.mark.parametrize(
    ("network", "filled"),
    [
        (SLIRP, True),
        (NetworkSpec("bridge", attachments=(LISTED, OPEN)), True),
        (NetworkSpec("bridge", attachments=(LISTED, INNER)), False),
        (NetworkSpec("none"), False),
        # Those cannot have one: a list that does not hold would be a lie.
        (NetworkSpec("host"), False),
        (NetworkSpec("container:" + "a" * 64), False),
    ],
)
def test_the_policys_default_fills_ways_out_without_a_list(
    network: NetworkSpec, filled: bool
) -> None:
    assert resolve_egress(network, [], ("b.c",)).egress == (("b.c",) if filled else None)


@pytest.mark.parametrize("mode", ["none", "host", "container:" + "a" * 64])
def test_modes_that_take_none(mode: str) -> None:
    with pytest.raises(InvalidInput, match="takes no egress list"):
        resolve_egress(NetworkSpec(mode), own("none"), None)


def test_a_slip_is_not_taken_for_an_option_without_meaning() -> None:
    assert list_of([("com.example", "x")]) is None
    for key in ("Egress", "egres", "egresss"):
        with pytest.raises(InvalidInput, match="unknown network option"):
            list_of([(key, "none")])
