"""Sets of 64-bit values as comparisons can name them.

A set is a list of disjoint *cubes*: a cube is a mask and the value under it, which is
exactly SCMP_CMP_MASKED_EQ. Cubes are closed under everything that merging needs, while
comparisons such as NE are not.
"""

from __future__ import annotations

from collections.abc import Iterable

FULL = (1 << 64) - 1
Cube = tuple[int, int]
"""Mask and value; a value has no bits outside of its mask."""
EVERYTHING: Cube = (0, 0)
MAX_CUBES = 4096


class TooComplex(Exception):
    """The merged profile would need more rules than any filter can hold."""


def meet(a: Cube, b: Cube) -> Cube | None:
    """The values in both cubes; None when there are none."""
    common = a[0] & b[0]
    if a[1] & common != b[1] & common:
        return None
    return a[0] | b[0], a[1] | b[1]


def subtract(a: Cube, b: Cube) -> list[Cube]:
    """The values of ``a`` that are not in ``b``, as disjoint cubes."""
    if meet(a, b) is None:
        return [a]
    left, rest = [], a
    for bit in range(63, -1, -1):
        flag = 1 << bit
        if b[0] & flag and not rest[0] & flag:
            left.append((rest[0] | flag, rest[1] | (~b[1] & flag)))
            rest = (rest[0] | flag, rest[1] | (b[1] & flag))
    return left


def intersect(a: Iterable[Cube], b: Iterable[Cube]) -> list[Cube]:
    """The values in both sets."""
    others = list(b)
    found = [cube for x in a for y in others if (cube := meet(x, y)) is not None]
    return _bounded(found)


def difference(a: Iterable[Cube], b: Iterable[Cube]) -> list[Cube]:
    """The values of ``a`` that are not in ``b``."""
    left = list(a)
    for cube in b:
        left = _bounded([part for x in left for part in subtract(x, cube)])
    return left


def _bounded(cubes: list[Cube]) -> list[Cube]:
    if len(cubes) > MAX_CUBES:
        raise TooComplex
    return cubes


def interval(low: int, high: int) -> list[Cube]:
    """The values from ``low`` to ``high``, both included, in aligned blocks."""
    cubes = []
    while low <= high:
        size = low & -low if low else 1 << 64
        while size > high - low + 1:
            size >>= 1
        cubes.append((FULL & ~(size - 1), low))
        low += size
    return cubes


def comparison(op: str, value: int, second: int) -> list[Cube]:
    """The values for which an OCI comparison holds."""
    match op:
        case "SCMP_CMP_EQ":
            return [(FULL, value)]
        case "SCMP_CMP_NE":
            return subtract(EVERYTHING, (FULL, value))
        case "SCMP_CMP_LT":
            return interval(0, value - 1)
        case "SCMP_CMP_LE":
            return interval(0, value)
        case "SCMP_CMP_GT":
            return interval(value + 1, FULL)
        case "SCMP_CMP_GE":
            return interval(value, FULL)
    return [(value, second & value)]


def compact(cubes: Iterable[Cube]) -> list[Cube]:
    """The same values in fewer cubes: two that differ in one bit are one without it."""
    found = set(cubes)
    shrinking = True
    while shrinking:
        shrinking = False
        for bit in range(64):
            flag = 1 << bit
            for mask, value in list(found):
                if mask & flag and value & flag and (mask, value & ~flag) in found:
                    found -= {(mask, value), (mask, value & ~flag)}
                    found.add((mask & ~flag, value & ~flag))
                    shrinking = True
    return sorted(found)


def describe(cubes: list[Cube]) -> list[dict[str, int | str]]:
    """Comparisons, each of its own rule, that name exactly these values and none twice.

    A set that is all but one value, or everything on one side of a value, is one
    comparison; the rest is one for each cube.
    """
    count = sum(1 << (64 - mask.bit_count()) for mask, _ in cubes)
    if count == FULL:
        [(_, value)] = difference([EVERYTHING], cubes)
        return [{"op": "SCMP_CMP_NE", "value": value}]
    edges = _edges(cubes)
    if len(edges) <= _MAX_EDGES and not any(
        low not in (0, high) and high != FULL for low, high in edges
    ):
        return [_side(low, high) for low, high in edges]
    return [
        {"op": "SCMP_CMP_EQ", "value": value}
        if mask == FULL
        else {"op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
        for mask, value in cubes
    ]


_MAX_EDGES = 64


def _side(low: int, high: int) -> dict[str, int | str]:
    if low == high:
        return {"op": "SCMP_CMP_EQ", "value": low}
    if low == 0:
        return {"op": "SCMP_CMP_LE", "value": high}
    return {"op": "SCMP_CMP_GE", "value": low}


def _edges(cubes: list[Cube]) -> list[tuple[int, int]]:
    """The set as intervals, when all cubes are aligned blocks; else one that fits nothing."""
    blocks = []
    for mask, value in cubes:
        low = FULL & ~mask
        if low & (low + 1):
            return [(1, 2)]
        blocks.append((value, value + low))
    joined: list[tuple[int, int]] = []
    for low, high in sorted(blocks):
        if joined and joined[-1][1] + 1 == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined
