"""``rootless top``."""

from __future__ import annotations

import sys

from rootless.cli.command import Command, Invocation
from rootless.cli.formats import table_text
from rootless.client.api import query, quote


def run(call: Invocation) -> int:
    """Show a container's processes; what follows the name goes to ps."""
    options = " ".join(call.args[1:])
    target = f"/containers/{quote(call.args[0])}/top" + query(ps_args=options or None)
    answer = call.client.get(target)
    sys.stdout.write(
        table_text([answer.get("Titles") or [], *(answer.get("Processes") or [])], minimum=20)
    )
    return 0


COMMAND = Command(
    run,
    usage="top CONTAINER [ps OPTIONS]",
    summary="Display the running processes of a container",
    description="What follows the name goes to ps(1) of the host; -ef by default.",
    aliases="container top, top",
    min_args=1,
    max_args=None,
    interspersed=False,
    examples="rootless top web\nrootless top web -o pid,args",
)
