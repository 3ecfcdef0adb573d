"""``rootless network denied``."""

from __future__ import annotations

from rootless.cli.command import FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.formats import Listing
from rootless.cli.human import NANO, api_time, local_time, parse_time
from rootless.client.api import query


def _time(text: str) -> str:
    return local_time(parse_time(text) // NANO)


LISTING = Listing(
    {
        "ContainerID": "CONTAINER ID",
        "Container": "CONTAINER",
        "Network": "NETWORK",
        "Target": "DESTINATION",
        "Reason": "REASON",
        "Count": "COUNT",
        "First": "FIRST",
        "Last": "LAST",
        "Protocol": "PROTOCOL",
        "Destination": "ADDRESS OR NAME",
        "Port": "PORT",
    },
    {
        "ContainerID": lambda d: d["ContainerID"][:12],
        "Container": lambda d: d["Container"] or d["ContainerID"][:12],
        "Network": lambda d: d["Network"],
        "Target": lambda d: d["Target"] or "(others)",
        "Reason": lambda d: d["Reason"],
        "Count": lambda d: str(d["Count"]),
        "First": lambda d: _time(d["First"]),
        "Last": lambda d: _time(d["Last"]),
        "Protocol": lambda d: d["Protocol"],
        "Destination": lambda d: d["Destination"],
        "Port": lambda d: str(d["Port"]),
    },
    ("Container", "Network", "Target", "Reason", "Count", "Last"),
)


def _denied(call: Invocation) -> int:
    since = api_time(call["since"]) if call["since"] else None
    target = query(network=call["network"], container=call["container"], since=since)
    LISTING.print(call.client.get("/rootless/denied" + target), call["format"])
    return 0


DENIED = Command(
    _denied,
    usage="network denied [OPTIONS]",
    summary="Show where containers were not let by egress lists",
    description="""
Reasons: destination, no list has that address and port; name, no list has the name, which
was not even asked for; private, a name on the lists led to an address that is not public,
which it did not open. What there is too much of to tell apart is counted as (others). Kept
while the daemon runs, 512 rows for each container; the daemon's log and `rootless events`
(egress_denied) tell of the first of each.
""",
    flags=(
        ("container", "", STRING, "", "Only of this container: name or id"),
        ("format", "", STRING, "", FORMAT_HELP),
        ("network", "", STRING, "", "Only on this network"),
        ("since", "", STRING, "", "Only what was denied since this time, or for so long (10m)"),
    ),
    examples="""
rootless network denied --container build --since 10m
rootless network denied --format '{{.Container}} {{.Target}} {{.Count}}'
""",
)
