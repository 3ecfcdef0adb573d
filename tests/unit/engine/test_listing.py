"""Container filters, prune filters, moments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rootless.engine.filters import match_labels, parse_moment, single_bool, until
from rootless.engine.listing import matches, prunable, select
from rootless.errors import InvalidInput, NotFound
from rootless.model.records import ContainerRecord, Health, NetworkState
from rootless.model.request import PortBinding
from rootless.network.predefined import network_id

from .samples import record

WEB = record("web", status="running", health=Health("healthy"))
DONE = record("done", status="exited", exit_code=3)
NEW = record("new")


def _names(filters: dict[str, list[str]], *, everything: bool = True, limit: int = 0) -> list[str]:
    def find(ref: str) -> ContainerRecord:
        for item in (WEB, DONE, NEW):
            if item.name == ref:
                return item
        raise NotFound(ref)

    def descendants(ref: str) -> frozenset[str]:
        return frozenset((WEB.spec.image.id,)) if ref == "busybox" else frozenset()

    found = select(
        [WEB, DONE, NEW],
        filters,
        all_states=everything,
        limit=limit,
        find=find,
        descendants=descendants,
    )
    return [item.name for item in found]


def test_newest_first_and_only_running_by_default() -> None:
    assert _names({}) == ["new", "done", "web"]
    assert _names({}, everything=False) == ["web"]
    assert _names({}, everything=False, limit=2) == ["new", "done"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"status": ["exited", "created"]}, ["new", "done"]),
        ({"exited": ["3"]}, ["done"]),
        ({"exited": ["0"]}, []),
        ({"name": ["^/?we"]}, ["web"]),
        ({"name": ["e"]}, ["new", "done", "web"]),
        ({"id": [WEB.id[:8]]}, ["web"]),
        ({"label": ["tier=front"]}, ["new", "done", "web"]),
        ({"label": ["tier=front", "other"]}, []),
        ({"ancestor": ["busybox"]}, ["new", "done", "web"]),
        ({"ancestor": ["alpine"]}, []),
        ({"health": ["healthy"]}, ["web"]),
        ({"health": ["none"]}, ["new", "done"]),
        ({"before": ["done"]}, ["web"]),
        ({"since": ["done"]}, ["new"]),
        ({"ancestor": ["alpine", "busybox"]}, ["new", "done", "web"]),
        ({"network": ["none"]}, ["new", "done", "web"]),
        ({"network": [network_id("none")[:12]]}, ["new", "done", "web"]),
        ({"network": ["host"]}, []),
        ({"is-task": ["true"]}, []),
        ({"isolation": ["default"]}, ["new", "done", "web"]),
    ],
)
def test_filters(filters: dict[str, list[str]], expected: list[str]) -> None:
    assert _names(filters, everything="status" not in filters) == expected


@pytest.mark.parametrize(
    "filters", [{"status": ["gone"]}, {"colour": ["x"]}, {"exited": ["x"]}, {"name": ["("]}]
)
def test_bad_filters_are_refused(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidInput, match="invalid filter"):
        _names(filters)


def test_published_ports() -> None:
    found = replace(WEB, network=NetworkState(ports=(PortBinding(80, "tcp", "127.0.0.1", 8080),)))
    assert matches(found, {"publish": ["80"]})
    assert matches(found, {"publish": ["70-90/tcp"]})
    assert matches(found, {"publish": ["8080"]})
    assert not matches(found, {"publish": ["80/udp"]})
    assert not matches(found, {"publish": ["81"]})
    assert matches(found, {"expose": ["80"]})
    assert not matches(found, {"expose": ["8080"]})


def test_prune_spares_running_newer_and_labelled() -> None:
    assert prunable(DONE, {}, until_ns=0)
    assert prunable(NEW, {}, until_ns=0)
    assert not prunable(WEB, {}, until_ns=0)
    assert not prunable(DONE, {}, until_ns=DONE.spec.created_ns - 1)
    assert not prunable(DONE, {"label!": ["tier"]}, until_ns=0)
    assert not prunable(DONE, {"label": ["absent"]}, until_ns=0)


def test_moments() -> None:
    now = 1_700_000_000 * 10**9
    assert parse_moment("10m", now_ns=now) == now - 600 * 10**9
    assert parse_moment("1700000000.5", now_ns=now) == now + 5 * 10**8
    assert parse_moment("2026-01-02T03:04:05+00:00", now_ns=now) == 1767323045 * 10**9
    with pytest.raises(InvalidInput, match="invalid time"):
        parse_moment("yesterday", now_ns=now)
    with pytest.raises(InvalidInput, match="more than one"):
        until({"until": ["1h", "2h"]}, now_ns=now)


def test_labels_and_booleans() -> None:
    assert match_labels({"a": "b"}, ["a", "a=b"])
    assert not match_labels({"a": "b"}, ["a=c"])
    assert single_bool({"dangling": ["1"]}, "dangling", default=False)
    for values in (["maybe"], ["true", "false"]):
        with pytest.raises(InvalidInput):
            single_bool({"dangling": values}, "dangling", default=False)
