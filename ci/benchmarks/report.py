"""Results as a table and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measure import Series


@dataclass(frozen=True)
class Goal:
    """``subject`` over ``against`` (medians) is at most ``limit``.

    With ``against`` '' the limit is for the subject's own median.
    """

    subject: str
    against: str
    limit: float


@dataclass(frozen=True)
class Line:
    """One contender of one benchmark.

    ``ratios`` have the keys against, ratio (of medians), ratio_of_minima, limit
    and met, which the medians decide.
    """

    benchmark: str
    contender: str
    unit: str
    median: float | None
    minimum: float | None
    rounds: int
    failure: str
    ratios: tuple[dict[str, Any], ...]


def lines(
    benchmark: str,
    unit: str,
    found: Mapping[str, Series],
    goals: Sequence[Goal],
    scale: float = 1.0,
) -> list[Line]:
    """Rows for the table; a goal whose other side failed has no verdict."""
    made = []
    for name, series in found.items():
        ratios = []
        for goal in goals:
            if goal.subject != name:
                continue
            ratio, least = None, None
            other = found[goal.against] if goal.against else None
            if series.values and (other is None or other.values):
                ratio = series.median / other.median if other else series.median * scale
                least = series.minimum / other.minimum if other else series.minimum * scale
            ratios.append(
                {
                    "against": goal.against,
                    "ratio": ratio,
                    "ratio_of_minima": least,
                    "limit": goal.limit,
                    "met": None if ratio is None else ratio <= goal.limit,
                }
            )
        values = bool(series.values)
        made.append(
            Line(
                benchmark,
                name,
                unit,
                series.median * scale if values else None,
                series.minimum * scale if values else None,
                len(series.values),
                "" if values else series.failure,
                tuple(ratios),
            )
        )
    return made


def _goal(ratio: Mapping[str, Any]) -> str:
    verdict = {True: "met", False: "MISSED", None: "no verdict"}[ratio["met"]]
    value = "?" if ratio["ratio"] is None else f"{ratio['ratio']:.3g}"
    against = f" x {ratio['against']}" if ratio["against"] else ""
    least = "" if ratio["ratio"] is None else f"minima {ratio['ratio_of_minima']:.3g}, "
    return f"{value}{against} ({least}goal {ratio['limit']:.3g}) {verdict}"


def table(rows: Sequence[Line]) -> str:
    """The rows as text."""
    text = [f"{'benchmark':<12} {'contender':<20} {'median':>10} {'min':>10} {'n':>3}  goals"]
    for row in rows:
        if row.median is None or row.minimum is None:
            text.append(
                f"{row.benchmark:<12} {row.contender:<20} {'-':>10} {'-':>10}   0  {row.failure}"
            )
            continue
        text.append(
            f"{row.benchmark:<12} {row.contender:<20} {row.median:>7.1f} {row.unit:<2}"
            f" {row.minimum:>7.1f} {row.unit:<2} {row.rounds:>3}  "
            + "; ".join(_goal(ratio) for ratio in row.ratios)
        )
    return "\n".join(text)


def document(rows: Sequence[Line], timeline: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """The JSON form."""
    return {
        "machine": {
            "kernel": platform.release(),
            "arch": platform.machine(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
        },
        "results": [asdict(row) for row in rows],
        "startup_timeline_us": [{"step": name, "us": value} for name, value in timeline],
    }
