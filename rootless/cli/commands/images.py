"""``rootless images``."""

from __future__ import annotations

import sys
import time
from typing import Any

from rootless.cli.command import BOOL, FORMAT_HELP, LIST, STRING, Command, Invocation
from rootless.cli.filters import parse_filters
from rootless.cli.formats import Listing
from rootless.cli.human import duration, local_time, size3, size4
from rootless.client.api import query

_NONE = "<none>"


def rows_of(images: list[dict[str, Any]], *, digests: bool) -> list[dict[str, Any]]:
    """One row per name of an image; nameless ones have ``<none>``."""
    rows = []
    for image in images:
        by_name = _digests_by_name(image)
        tags = [tag for tag in image.get("RepoTags") or () if tag != f"{_NONE}:{_NONE}"]
        named = set()
        for text in tags:
            name, _, tag = text.rpartition(":")
            named.add(name)
            rows.append(
                {
                    **image,
                    "Repo": name,
                    "Tag": tag,
                    "Digest": by_name.get(name, _NONE) if digests else _NONE,
                }
            )
        loose = [name for name in by_name if name not in named]
        if not tags and not loose:
            rows.append({**image, "Repo": _NONE, "Tag": _NONE, "Digest": _NONE})
        elif digests or not tags:
            rows += [
                {**image, "Repo": name, "Tag": _NONE, "Digest": by_name[name]} for name in loose
            ]
    return rows


def _digests_by_name(image: dict[str, Any]) -> dict[str, str]:
    out = {}
    for text in image.get("RepoDigests") or ():
        name, _, digest = text.partition("@")
        if name != _NONE:
            out[name] = digest
    return out


def listing(*, full: bool, digests: bool) -> Listing:
    """Columns and fields of ``images``."""
    headings = {
        "ID": "IMAGE ID",
        "Repository": "REPOSITORY",
        "Tag": "TAG",
        "Digest": "DIGEST",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "Size": "SIZE",
        "Containers": "CONTAINERS",
        "VirtualSize": "SIZE",
        "SharedSize": "SHARED SIZE",
        "UniqueSize": "UNIQUE SIZE",
    }
    fields = {
        "ID": lambda i: i["Id"] if full else i["Id"].removeprefix("sha256:")[:12],
        "Repository": lambda i: i["Repo"],
        "Tag": lambda i: i["Tag"],
        "Digest": lambda i: i["Digest"],
        "CreatedSince": lambda i: _since(int(i.get("Created", 0))),
        "CreatedAt": lambda i: local_time(int(i.get("Created", 0))),
        "Size": lambda i: size3(int(i.get("Size", 0))),
        "Containers": lambda i: _count(i.get("Containers", -1)),
        "VirtualSize": lambda i: size4(int(i.get("Size", 0))),
        "SharedSize": lambda i: _maybe_size(i.get("SharedSize", -1)),
        "UniqueSize": lambda i: (
            size4(int(i.get("Size", 0)) - i["SharedSize"])
            if i.get("SharedSize", -1) >= 0
            else "N/A"
        ),
    }
    middle = ("Digest",) if digests else ()
    return Listing(headings, fields, ("Repository", "Tag", *middle, "ID", "CreatedSince", "Size"))


def _since(created: int) -> str:
    return f"{duration(time.time() - created)} ago"


def _count(value: int) -> str:
    return "N/A" if value < 0 else str(value)


def _maybe_size(value: int) -> str:
    return "N/A" if value < 0 else size3(value)


def run(call: Invocation) -> int:
    """List images."""
    form = call["format"]
    digests = call["digests"] or ".Digest" in form
    filters = parse_filters(call["filter"]) or {}
    if call.args:
        filters["reference"] = [call.args[0]]
    images = call.client.get(
        "/images/json"
        + query(all=call["all"] or None, filters=filters or None, digests=digests or None)
    )
    images.sort(key=lambda image: -int(image.get("Created", 0)))
    shown = listing(full=call["no-trunc"], digests=digests)
    if call["quiet"] and form in ("", "table"):
        seen = dict.fromkeys(shown.fields["ID"](image) for image in images)
        sys.stdout.write("".join(f"{ident}\n" for ident in seen))
        return 0
    shown.print(rows_of(images, digests=digests), form)
    return 0


COMMAND = Command(
    run,
    usage="images [OPTIONS] [REPOSITORY[:TAG]]",
    summary="List images",
    description="""
Filters: before=IMAGE, dangling=true|false, label=NAME[=VALUE], reference=PATTERN
(with * and ?), since=IMAGE, until=TIME.
""",
    aliases="image ls, image list, images",
    flags=(
        ("all", "a", BOOL, False, "Show all images (default hides intermediate images)"),
        ("digests", "", BOOL, False, "Show digests"),
        ("filter", "f", LIST, None, "Show only what fits KEY=VALUE"),
        ("format", "", STRING, "", FORMAT_HELP),
        ("no-trunc", "", BOOL, False, "Don't truncate output"),
        ("quiet", "q", BOOL, False, "Only show image IDs"),
    ),
    max_args=1,
    examples="rootless images --digests\nrootless images -q --filter dangling=true",
)
