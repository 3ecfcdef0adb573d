"""``rootless logs``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, STRING, Command, Invocation
from rootless.cli.flags import UsageError
from rootless.cli.human import api_time
from rootless.client.api import query, quote
from rootless.client.stream import Demux, OutputClosed, Raw, copy_body


def run(call: Invocation) -> int:
    """Print a container's log, and what is added to it with -f."""
    tail = call["tail"]
    if tail != "all" and not (
        tail.removeprefix("-").isascii() and tail.removeprefix("-").isdigit()
    ):
        raise UsageError(
            f'invalid argument "{tail}" for "-n, --tail" flag: not a number of lines',
            hint="write a number, or all",
        )
    client = call.client
    info = client.get(f"/containers/{quote(call.args[0])}/json")
    target = f"/containers/{info['Id']}/logs" + query(
        stdout=True,
        stderr=True,
        follow=call["follow"] or None,
        timestamps=call["timestamps"] or None,
        details=call["details"] or None,
        tail=tail,
        since=api_time(call["since"]) if call["since"] else None,
        until=api_time(call["until"]) if call["until"] else None,
    )
    response = client.open("GET", target)
    sys.stdout.flush()
    try:
        copy_body(response.chunks(), Raw() if info["Config"]["Tty"] else Demux())
    except OutputClosed:
        raise BrokenPipeError from None
    return 0


COMMAND = Command(
    run,
    usage="logs [OPTIONS] CONTAINER",
    summary="Fetch the logs of a container",
    description="""
Standard output and error of the container go to those of this command. Times are
RFC 3339 (2026-01-02T15:04:05Z), Unix seconds, or a duration before now (10m).
""",
    aliases="container logs, logs",
    flags=(
        ("details", "", BOOL, False, "Show the labels and variables that log options name"),
        ("follow", "f", BOOL, False, "Follow log output"),
        (
            "since",
            "",
            STRING,
            "",
            "Show logs since this time",
        ),
        ("tail", "n", STRING, "all", "Number of lines to show from the end of the logs"),
        ("timestamps", "t", BOOL, False, "Show timestamps"),
        (
            "until",
            "",
            STRING,
            "",
            "Show logs before this time",
        ),
    ),
    min_args=1,
    max_args=1,
    examples="rootless logs -f --tail 20 web\nrootless logs --since 10m -t web",
)
