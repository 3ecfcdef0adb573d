"""``rootless system df``."""

from __future__ import annotations

import sys
from typing import Any

from rootless.cli.command import BOOL, FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.commands import images, ps, volume
from rootless.cli.flags import UsageError
from rootless.cli.formats import Listing, table_text
from rootless.cli.human import size3, size4

_LISTING = Listing(
    {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    {
        "Type": lambda r: r[0],
        "TotalCount": lambda r: str(r[1]),
        "Active": lambda r: str(r[2]),
        "Size": lambda r: size4(r[3]),
        "Reclaimable": lambda r: _reclaimable(r[4], r[3], percent=r[0] != "Build Cache"),
    },
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
)


_IMAGE_COLUMNS = tuple(
    "Repository Tag ID CreatedSince Size SharedSize UniqueSize Containers".split()
)
_CONTAINER_COLUMNS = tuple("ID Image Command LocalVolumes Size RunningFor Status Names".split())


def _reclaimable(free: int, total: int, *, percent: bool) -> str:
    if total > 0 and percent:
        return f"{size4(free)} ({free * 100 // total}%)"
    return size4(free)


def summary(usage: dict[str, Any]) -> list[tuple[str, int, int, int, int]]:
    """(kind, how many, how many in use, bytes, bytes that a prune could free)."""
    found = usage.get("Images") or []
    total = int(usage.get("LayersSize") or 0)
    used = 0
    for image in found:
        if image.get("Containers", 0) > 0 and image.get("Size", -1) >= 0:
            used += image["Size"] - max(image.get("SharedSize", 0), 0)
    containers = usage.get("Containers") or []
    running = [c for c in containers if c.get("State") in ("running", "paused", "restarting")]
    size = sum(int(c.get("SizeRw") or 0) for c in containers)
    volumes = usage.get("Volumes") or []
    data = [(v.get("UsageData") or {}) for v in volumes]
    cache = usage.get("BuildCache") or []
    return [
        (
            "Images",
            len(found),
            sum(1 for image in found if image.get("Containers", 0) > 0),
            total,
            max(0, total - used),
        ),
        (
            "Containers",
            len(containers),
            len(running),
            size,
            size - sum(int(c.get("SizeRw") or 0) for c in running),
        ),
        (
            "Local Volumes",
            len(volumes),
            sum(1 for d in data if d.get("RefCount", 0) > 0),
            sum(max(0, d.get("Size", 0)) for d in data),
            sum(max(0, d.get("Size", 0)) for d in data if d.get("RefCount", 0) == 0),
        ),
        ("Build Cache", len(cache), 0, sum(int(c.get("Size", 0)) for c in cache), 0),
    ]


def run(call: Invocation) -> int:
    """Show what images, containers and volumes take."""
    if call["verbose"] and call["format"]:
        raise UsageError("--verbose and --format cannot be combined", status=1)
    usage = call.client.get("/system/df")
    if not call["verbose"]:
        _LISTING.print(summary(usage), call["format"])
        return 0
    rows = images.rows_of(usage.get("Images") or [], digests=False)
    shown = images.listing(full=False, digests=False)
    text = "Images space usage:\n\n" + _table(shown, _IMAGE_COLUMNS, rows)
    shown = ps.listing(full=False, size=True)
    text += "\nContainers space usage:\n\n" + _table(
        shown, _CONTAINER_COLUMNS, usage.get("Containers") or []
    )
    shown = volume.LISTING
    rows = [
        {**item, "UsageData": _readable(item.get("UsageData"))}
        for item in usage.get("Volumes") or []
    ]
    text += "\nLocal Volumes space usage:\n\n" + _table(shown, ("Name", "Links", "Size"), rows)
    sys.stdout.write(text)
    return 0


def _readable(data: dict[str, Any] | None) -> dict[str, Any]:
    if not data:
        return {}
    return {**data, "Size": size3(max(0, int(data.get("Size", 0))))}


def _table(shown: Listing, names: tuple[str, ...], rows: list[Any]) -> str:
    head = [shown.headings[name] for name in names]
    return table_text([head, *([str(shown.fields[n](row)) for n in names] for row in rows)])


COMMAND = Command(
    run,
    usage="system df [OPTIONS]",
    summary="Show disk usage",
    flags=(
        ("format", "", STRING, "", FORMAT_HELP),
        ("verbose", "v", BOOL, False, "Show detailed information on space usage"),
    ),
    examples="rootless system df -v",
)
