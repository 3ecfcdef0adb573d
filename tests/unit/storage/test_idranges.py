"""Id ranges: disjoint, inside the engine's ids, reused after they are free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Exhausted, InvalidInput
from rootless.model.spec import UsernsSpec
from rootless.storage import idranges
from rootless.storage.idranges import Range

WIDE = idranges.layout(1 + 65536 + (1 << 20))


@given(st.integers(2, 1 << 22))
def test_layout_stays_inside_the_engine_and_never_holds_the_user(count: int) -> None:
    plan = idranges.layout(count)
    for part in (plan.shared, plan.owners):
        assert part.size > 0
        assert part.start >= 1
        assert part.end <= count
    assert plan.auto.end <= count or plan.auto.size == 0
    assert not plan.auto.overlaps(plan.shared)
    assert not plan.auto.overlaps(plan.owners)
    if count >= 65537 + idranges.OWNERS:
        assert not plan.owners.overlaps(plan.shared)


def test_debians_default_keeps_nobody() -> None:
    plan = idranges.layout(65537)
    (only,) = idranges.shared_maps(plan)
    assert (only.inside, only.outside, only.size) == (0, 1, 65536)
    assert plan.auto.size == 0
    assert plan.owners.end <= 65535
    with pytest.raises(Exhausted, match="rootless setup"):
        idranges.allocate_auto(plan, (), 1024)


def test_no_subordinate_ids() -> None:
    with pytest.raises(Exhausted, match="rootless setup"):
        idranges.layout(1)


@pytest.mark.parametrize(
    ("highest", "size"), [(0, 1024), (1023, 1024), (1024, 1025), (65533, 65534), (65534, 1024)]
)
def test_width_follows_the_image(highest: int, size: int) -> None:
    assert idranges.auto_size(highest) == size


@pytest.mark.parametrize("size", [0, -1, 65537])
def test_impossible_sizes(size: int) -> None:
    with pytest.raises(InvalidInput, match="out of range"):
        idranges.allocate_auto(WIDE, (), size)


def _range(size: int, used: list[Range]) -> Range:
    maps = idranges.allocate_auto(WIDE, used, size)
    found = idranges.range_of(UsernsSpec("auto", maps, 0))
    assert found is not None
    return found


_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.integers(1, 65536)),
        st.tuples(st.just("free"), st.integers(0, 99)),
    ),
    max_size=60,
)


@given(_ACTIONS)
def test_ranges_are_disjoint_whatever_comes_and_goes(actions: list[tuple[str, int]]) -> None:
    used: list[Range] = []
    for action, number in actions:
        if action == "free" and used:
            used.pop(number % len(used))
        elif action == "new":
            try:
                made = _range(number, used)
            except Exhausted:
                # Then there really is no gap of that width.
                edges = sorted(used, key=lambda r: r.start)
                starts = [WIDE.auto.start, *(r.end for r in edges)]
                ends = [*(r.start for r in edges), WIDE.auto.end]
                gaps = [end - start for start, end in zip(starts, ends, strict=True)]
                assert max(gaps) < idranges.auto_width(number)
                continue
            assert made.start >= WIDE.auto.start
            assert made.end <= WIDE.auto.end
            assert not any(made.overlaps(other) for other in used)
            used.append(made)


def test_a_freed_range_is_used_again() -> None:
    first = _range(1024, [])
    second = _range(1024, [first])
    assert _range(1024, [second]) == first


def test_maps_hold_nobody_once() -> None:
    small = idranges.auto_maps(70000, 1024)
    assert [(m.inside, m.outside, m.size) for m in small] == [(0, 70000, 1024), (65534, 71024, 1)]
    assert len(idranges.auto_maps(70000, 65535)) == 1
    assert idranges.range_of(UsernsSpec("auto", small, 0)) == Range(70000, 1025)
    assert idranges.range_of(UsernsSpec("shared", idranges.shared_maps(WIDE), 0)) is None


@given(st.sets(st.integers(WIDE.owners.start, WIDE.owners.end - 1), max_size=50))
def test_owners_are_never_given_twice(used: set[int]) -> None:
    owner = idranges.allocate_owner(WIDE, used)
    assert owner not in used
    assert WIDE.owners.start <= owner < WIDE.owners.end
    assert owner != idranges.common_owner(WIDE)


def test_owners_run_out() -> None:
    every = set(range(WIDE.owners.start, WIDE.owners.end))
    with pytest.raises(Exhausted, match="owners"):
        idranges.allocate_owner(WIDE, every)
