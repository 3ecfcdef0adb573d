"""Numbers as others write them: a wrong one is a wrong value, never a crash."""

from __future__ import annotations

import pytest

from rootless.api.dto.ports import HostPort, to_bindings
from rootless.api.dto.times import parse_query_time
from rootless.cli.createspec import parse_rate, parse_restart
from rootless.engine.filters import parse_moment
from rootless.engine.listing import _exited
from rootless.errors import InvalidInput, RootlessError
from rootless.images.platform import Platform, preference
from rootless.policy.rules.user import is_root
from rootless.units import MAX_NUMBER, go_duration, parse_duration, parse_size, whole_number
from tests.unit.engine.samples import record

LONG = "9" * 5000
"""More digits than int() reads (sys.set_int_max_str_digits)."""


@pytest.mark.parametrize("text", ["", "²", "٣", "-1", "+1", "1_0", " 1", "0x1", LONG, str(1 << 63)])
def test_what_is_no_number(text: str) -> None:
    assert whole_number(text) is None


def test_numbers() -> None:
    assert [whole_number(t) for t in ("0", "007", str(MAX_NUMBER))] == [0, 7, MAX_NUMBER]


@pytest.mark.parametrize("text", ["²", "٣k", LONG, f"{LONG}k", "9" * 19 + "p", f"0.{LONG}"])
def test_no_size(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["²s", "٣s", f"{LONG}s", "9" * 19 + "h", "9999999h"])
def test_no_duration(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["²", LONG])
def test_wrong_numbers_of_a_request(text: str) -> None:
    for read in (
        lambda: parse_query_time("until", text),
        lambda: parse_moment(text, now_ns=0),
        lambda: to_bindings({"80/tcp": (HostPort("", text),)}),
        lambda: _exited(record("a"), (text,)),
        lambda: parse_restart(f"on-failure:{text}"),
        lambda: parse_rate(f"/dev/null:{text}", size=False),
    ):
        with pytest.raises(RootlessError):
            read()


def test_a_platform_does_not_cost_what_its_number_says() -> None:
    assert len(preference(Platform("linux", "amd64", "v" + "9" * 9))) < 20
    assert len(preference(Platform("linux", "arm", f"v{LONG}"))) < 20
    assert preference(Platform("linux", "amd64", "v²"))


def test_zero_is_root_however_long_it_is() -> None:
    assert all(map(is_root, ("", ":5", "0", "root", "00", "0" * 5000, "0:5")))
    assert not any(map(is_root, ("1", "²", LONG, "alice", "10")))


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0ns"), (1500, "1.5µs"), (50 * 10**6, "50ms"), (30 * 10**9, "30s"),
        (1_500_000_000, "1.5s"), (90 * 10**9, "1m30s"), (3600 * 10**9, "1h0m0s"),
    ],
)  # fmt: skip
def test_durations_as_go_prints_them(ns: int, text: str) -> None:
    assert go_duration(ns) == text
