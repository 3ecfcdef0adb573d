"""``rootless events``."""

from __future__ import annotations

import sys
import time

from rootless.cli.command import INSPECT_FORMAT_HELP, LIST, STRING, Command, Invocation
from rootless.cli.filters import parse_filters
from rootless.cli.formats import one_text
from rootless.cli.human import NANO, api_time
from rootless.client.api import query

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def event_line(event: dict[str, Any]) -> str:
    """``2026-11-25T03:09:48.123456789Z container start ID (image=…, name=…)``."""
    nano = int(event.get("timeNano") or int(event.get("time", 0)) * NANO)
    moment = time.localtime(nano // NANO)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{nano % NANO:09d}{zone}"
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{k}={v}" for k, v in sorted((actor.get("Attributes") or {}).items()))
    line = f"{stamp} {event.get('Type')} {event.get('Action')} {actor.get('ID')}"
    return f"{line} ({attributes})" if attributes else line


def run(call: Invocation) -> int:
    """Print events as they come, until interrupted or --until."""
    target = "/events" + query(
        since=api_time(call["since"]) if call["since"] else None,
        until=api_time(call["until"]) if call["until"] else None,
        filters=parse_filters(call["filter"]),
    )
    for event in call.client.open("GET", target).documents():
        text = one_text(call["format"], event) if call["format"] else event_line(event)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return 0


COMMAND = Command(
    run,
    usage="events [OPTIONS]",
    summary="Get real time events from the daemon",
    description="""
One line an event; runs until interrupted, or until --until. Times are RFC 3339
(2026-01-02T15:04:05Z), Unix seconds, or a duration before now (10m). Filters:
container, daemon, event, image, label, network, type, volume, each KEY=VALUE;
several values of one key mean any of them. The last 256 events are kept.
""",
    aliases="system events, events",
    flags=(
        ("filter", "f", LIST, None, "Show only what fits KEY=VALUE"),
        ("format", "", STRING, "", INSPECT_FORMAT_HELP),
        ("since", "", STRING, "", "Begin with the events since this time"),
        ("until", "", STRING, "", "End at this time; in the past: do not wait"),
    ),
    examples="""
rootless events --filter type=container --since 10m
rootless events --since 1h --until 0s --format '{{.Action}} {{.Actor.Attributes.name}}'
""",
)
