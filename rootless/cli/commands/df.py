"""``rootless system df``."""

from __future__ import annotations

import sys
from typing import Any

from rootless.cli.command import BOOL, FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.commands import images, ps, volume
from rootless.cli.formats import Listing, print_one, table_text
from rootless.cli.human import size4

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
    usage = call.client.get("/system/df")
    if not call["verbose"]:
        _LISTING.print(summary(usage), call["format"])
    elif call["format"] not in ("", "table"):
        print_one(call["format"], _rows(usage))
    else:
        sys.stdout.write(_details(usage))
    return 0


def _rows(usage: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What a template of ``df -v`` sees: the rows of every table."""
    parts = (
        ("Images", images.listing(full=True, digests=False), _images_of(usage)),
        ("Containers", ps.listing(full=True, size=True), usage.get("Containers") or []),
        ("Volumes", volume.LISTING, usage.get("Volumes") or []),
    )
    rows = {
        name: [{field: make(item) for field, make in shown.fields.items()} for item in items]
        for name, shown, items in parts
    }
    return {**rows, "BuildCache": []}


def _details(usage: dict[str, Any]) -> str:
    text = "Images space usage:\n\n"
    text += _table(images.listing(full=False, digests=False), _IMAGE_COLUMNS, _images_of(usage))
    text += "\nContainers space usage:\n\n"
    containers = usage.get("Containers") or []
    text += _table(ps.listing(full=False, size=True), _CONTAINER_COLUMNS, containers)
    text += "\nLocal Volumes space usage:\n\n"
    return text + _table(volume.LISTING, ("Name", "Links", "Size"), usage.get("Volumes") or [])


def _images_of(usage: dict[str, Any]) -> list[dict[str, Any]]:
    return images.rows_of(usage.get("Images") or [], digests=False)


def _table(shown: Listing, names: tuple[str, ...], rows: list[Any]) -> str:
    head = [shown.headings[name] for name in names]
    return table_text([head, *([str(shown.fields[n](row)) for n in names] for row in rows)])


COMMAND = Command(
    run,
    usage="system df [OPTIONS]",
    summary="Show disk usage",
    description="""
ACTIVE counts images and volumes that a container uses, and containers that run;
RECLAIMABLE is what `rootless system prune` could free. Sizes are powers of 1000.
""",
    flags=(
        ("format", "", STRING, "", FORMAT_HELP),
        ("verbose", "v", BOOL, False, "Show detailed information on space usage"),
    ),
    examples="rootless system df -v",
)
