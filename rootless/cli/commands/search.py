"""``rootless search``."""

from __future__ import annotations

from rootless.cli.command import BOOL, FORMAT_HELP, INT, LIST, STRING, Command, Invocation
from rootless.cli.filters import parse_filters
from rootless.cli.formats import Listing
from rootless.client.api import query
from rootless.client.dockerconfig import auth_header

_DESCRIPTION_WIDTH = 45


def listing(*, full: bool) -> Listing:
    """Columns and fields."""
    return Listing(
        {
            "Name": "NAME",
            "Description": "DESCRIPTION",
            "StarCount": "STARS",
            "IsOfficial": "OFFICIAL",
            "IsAutomated": "AUTOMATED",
        },
        {
            "Name": lambda r: r["name"],
            "Description": lambda r: _description(r.get("description") or "", full=full),
            "StarCount": lambda r: r.get("star_count", 0),
            "IsOfficial": lambda r: "[OK]" if r.get("is_official") else "",
            "IsAutomated": lambda r: "[OK]" if r.get("is_automated") else "",
        },
        ("Name", "Description", "StarCount", "IsOfficial"),
    )


def _description(text: str, *, full: bool) -> str:
    line = text.replace("\n", " ").replace("\r", " ")
    if full or len(line) <= _DESCRIPTION_WIDTH:
        return line
    return line[: _DESCRIPTION_WIDTH - 1] + "…"


def run(call: Invocation) -> int:
    """Ask the daemon, which asks the registry's index."""
    term = call.args[0]
    target = "/images/search" + query(
        term=term, limit=call["limit"] or None, filters=parse_filters(call["filter"])
    )
    rows = call.client.request("GET", target, headers=auth_header(term))
    listing(full=call["no-trunc"]).print(rows, call["format"])
    return 0


COMMAND = Command(
    run,
    usage="search [OPTIONS] TERM",
    summary="Search Docker Hub for images",
    description="""
HOST[:PORT]/TERM asks the index of another registry; most have none. Filters:
is-official=true|false, stars=NUMBER (at least).
""",
    flags=(
        ("filter", "f", LIST, None, "Show only what fits KEY=VALUE"),
        ("format", "", STRING, "", FORMAT_HELP),
        ("limit", "", INT, 0, "Max number of search results (25 by default)"),
        ("no-trunc", "", BOOL, False, "Do not truncate the output"),
    ),
    min_args=1,
    max_args=1,
    examples="rootless search --filter is-official=true --filter stars=100 postgres",
)
