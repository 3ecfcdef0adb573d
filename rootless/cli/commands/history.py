"""``rootless history``."""

from __future__ import annotations

import time
from typing import Any

from rootless.cli.command import BOOL, FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.commands.archive import platform_json
from rootless.cli.formats import Listing
from rootless.cli.human import duration, size3
from rootless.client.api import query, quote


def listing(*, full: bool, human: bool) -> Listing:
    """Columns and fields of ``history``."""

    def ident(item: dict[str, Any]) -> str:
        text = str(item.get("Id") or "<missing>")
        return text if full else text.removeprefix("sha256:")[:12]

    def created_by(item: dict[str, Any]) -> str:
        text = str(item.get("CreatedBy", "")).replace("\t", " ")
        return text if full or len(text) <= 45 else text[:44] + "…"

    def created(item: dict[str, Any]) -> str:
        seconds = int(item.get("Created", 0))
        if not human:
            return stamp(item)
        return f"{duration(time.time() - seconds)} ago" if seconds > 0 else "N/A"

    def stamp(item: dict[str, Any]) -> str:
        text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(int(item.get("Created", 0))))
        return f"{text[:-5]}Z" if text.endswith("+0000") else f"{text[:-2]}:{text[-2:]}"

    return Listing(
        {
            "ID": "IMAGE",
            "CreatedSince": "CREATED" if human else "CREATED AT",
            "CreatedAt": "CREATED AT",
            "CreatedBy": "CREATED BY",
            "Size": "SIZE",
            "Comment": "COMMENT",
        },
        {
            "ID": ident,
            "CreatedSince": created,
            "CreatedAt": stamp,
            "CreatedBy": created_by,
            "Size": lambda i: size3(int(i.get("Size", 0))) if human else str(i.get("Size", 0)),
            "Comment": lambda i: i.get("Comment", ""),
        },
        ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
    )


def run(call: Invocation) -> int:
    """List an image's layers and how they were made."""
    target = f"/images/{quote(call.args[0], '/:@')}/history"
    items = call.client.get(target + query(platform=platform_json(call["platform"])))
    shown = listing(full=call["no-trunc"], human=call["human"])
    shown.print(items, call["format"], quiet="ID" if call["quiet"] else None)
    return 0


COMMAND = Command(
    run,
    usage="history [OPTIONS] IMAGE",
    summary="Show the history of an image",
    aliases="image history, history",
    flags=(
        ("format", "", STRING, "", FORMAT_HELP),
        ("human", "H", BOOL, True, "Print sizes and dates in human readable format"),
        ("no-trunc", "", BOOL, False, "Don't truncate output"),
        ("platform", "", STRING, "", "Show history for the given platform (os/arch[/variant])"),
        ("quiet", "q", BOOL, False, "Only show image IDs"),
    ),
    min_args=1,
    max_args=1,
    examples="rootless history --no-trunc busybox",
)
