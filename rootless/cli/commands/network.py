"""``rootless network ls``."""

from __future__ import annotations

from rootless.cli.command import BOOL, FORMAT_HELP, LIST, STRING, Command, Invocation
from rootless.cli.filters import parse_filters
from rootless.cli.formats import Listing
from rootless.cli.human import NANO, local_time, parse_time
from rootless.client.api import query


def listing(*, full: bool) -> Listing:
    """Columns and fields of ``network ls``."""
    return Listing(
        {
            "ID": "NETWORK ID",
            "Name": "NAME",
            "Driver": "DRIVER",
            "Scope": "SCOPE",
            "IPv4": "IPV4",
            "IPv6": "IPV6",
            "Internal": "INTERNAL",
            "Labels": "LABELS",
            "CreatedAt": "CREATED AT",
        },
        {
            "ID": lambda n: n["Id"] if full else n["Id"][:12],
            "Name": lambda n: n["Name"],
            "Driver": lambda n: n.get("Driver", ""),
            "Scope": lambda n: n.get("Scope", ""),
            "IPv4": lambda n: "true" if n.get("EnableIPv4", True) else "false",
            "IPv6": lambda n: "true" if n.get("EnableIPv6") else "false",
            "Internal": lambda n: "true" if n.get("Internal") else "false",
            "Labels": lambda n: ",".join(f"{k}={v}" for k, v in (n.get("Labels") or {}).items()),
            "CreatedAt": lambda n: _created(str(n.get("Created", ""))),
        },
        ("ID", "Name", "Driver", "Scope"),
        labels=lambda n: n.get("Labels") or {},
    )


def _created(text: str) -> str:
    """Go's Time.String; what is not there is Go's zero time."""
    moment = parse_time(text)
    return local_time(moment // NANO) if moment else "0001-01-01 00:00:00 +0000 UTC"


def _ls(call: Invocation) -> int:
    items = call.client.get("/networks" + query(filters=parse_filters(call["filter"])))
    items.sort(key=lambda network: network["Name"])
    shown = listing(full=call["no-trunc"])
    shown.print(items, call["format"], quiet="ID" if call["quiet"] else None)
    return 0


LS = Command(
    _ls,
    usage="network ls [OPTIONS]",
    summary="List networks",
    description="""
Built in are bridge (the default), slirp4netns, none and host; others are made with
`rootless network create`. Filters: dangling=true|false, driver=NAME, id=ID, label=NAME[=VALUE],
name=NAME, scope=local, type=builtin|custom.
""",
    aliases="network ls, network list",
    flags=(
        ("filter", "f", LIST, None, "Show only what fits KEY=VALUE"),
        ("format", "", STRING, "", FORMAT_HELP),
        ("no-trunc", "", BOOL, False, "Do not truncate the output"),
        ("quiet", "q", BOOL, False, "Only display network IDs"),
    ),
    examples="rootless network ls --filter driver=slirp4netns",
)
