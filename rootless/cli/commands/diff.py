"""``rootless diff``."""

from __future__ import annotations

import sys

from rootless.cli.command import STRING, Command, Invocation
from rootless.cli.formats import Listing
from rootless.client.api import quote

_KINDS = {0: "C", 1: "A", 2: "D"}
_LISTING = Listing(
    {"Type": "CHANGE TYPE", "Path": "PATH"},
    {"Type": lambda c: _KINDS.get(c["Kind"], "?"), "Path": lambda c: c["Path"]},
    ("Type", "Path"),
)


def run(call: Invocation) -> int:
    """List changed, added and deleted paths."""
    changes = call.client.get(f"/containers/{quote(call.args[0])}/changes") or []
    if call["format"]:
        _LISTING.print(changes, call["format"])
    else:
        sys.stdout.write("".join(f"{_KINDS.get(c['Kind'], '?')} {c['Path']}\n" for c in changes))
    return 0


COMMAND = Command(
    run,
    usage="diff [OPTIONS] CONTAINER",
    summary="Inspect changes to files or directories on a container's filesystem",
    description="A: added, C: changed, D: deleted.",
    aliases="container diff, diff",
    flags=(("format", "", STRING, "", "Format output using 'table', 'json' or a Go TEMPLATE"),),
    min_args=1,
    max_args=1,
    examples="rootless diff web",
)
