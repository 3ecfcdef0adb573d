"""``rootless ps``."""

from __future__ import annotations

import sys
from typing import Any

from rootless.cli.command import BOOL, FORMAT_HELP, INT, LIST, STRING, Command, Invocation
from rootless.cli.filters import parse_filters
from rootless.cli.formats import Listing
from rootless.cli.human import duration, local_time, size3
from rootless.client.api import query
from rootless.templates.functions import quoted

_WIDE = 20
"""Docker cuts a command at 20 characters."""


def ports_text(ports: list[dict[str, Any]]) -> str:
    """``443-444/tcp, 127.0.0.1:80-81->80-81/tcp, 127.0.0.1:8080->90/tcp``, as Docker writes it.

    Ports that follow each other are one range, unless the host's number is another;
    those come last, one by one.
    """
    rows = [
        (
            int(port.get("PrivatePort") or 0),
            str(port.get("IP") or ""),
            int(port.get("PublicPort") or 0),
            str(port.get("Type") or "tcp"),
        )
        for port in ports
    ]
    current: dict[tuple[str, str], tuple[int, int]] = {}
    done, moved = [], []
    for private, ip, public, kind in sorted(rows):
        if ip and public != private:
            moved.append(f"{_host(ip)}:{public}->{private}/{kind}")
            continue
        first, last = current.get((ip, kind), (private, private))
        if private > last + 1:
            done.append(_port_range(ip, kind, first, last))
            first = private
        current[ip, kind] = first, private
    done += [_port_range(ip, kind, *span) for (ip, kind), span in current.items()]
    return ", ".join(done + moved)


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _port_range(ip: str, kind: str, first: int, last: int) -> str:
    inside = f"{first}-{last}" if last > first else str(first)
    return f"{_host(ip)}:{inside}->{inside}/{kind}" if ip else f"{inside}/{kind}"


def _ellipsis(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _created(item: dict[str, Any]) -> str:
    import time

    return duration(time.time() - int(item.get("Created", 0))) + " ago"


def _names(item: dict[str, Any], *, full: bool) -> str:
    names = [name.removeprefix("/") for name in item.get("Names") or ()]
    if not full:  # links' names have a slash inside
        names = [name for name in names if "/" not in name] or names
    return ",".join(names)


def _size(item: dict[str, Any]) -> str:
    used = size3(int(item.get("SizeRw") or 0))
    root = int(item.get("SizeRootFs") or 0)
    return f"{used} (virtual {size3(root)})" if root else used


def _image(item: dict[str, Any], *, full: bool) -> str:
    image = str(item.get("Image", ""))
    if not full and image.startswith("sha256:"):
        return image[7:19]
    return image or "<no image>"


def listing(*, full: bool, size: bool) -> Listing:
    """Columns and fields of ``ps``."""
    headings = {
        "ID": "CONTAINER ID",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Size": "SIZE",
        "Names": "NAMES",
        "Labels": "LABELS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Mounts": "MOUNTS",
        "Networks": "NETWORKS",
        "Platform": "PLATFORM",
    }
    fields = {
        "ID": lambda c: c["Id"] if full else c["Id"][:12],
        "Image": lambda c: _image(c, full=full),
        "Command": lambda c: quoted(
            c.get("Command", "") if full else _ellipsis(c.get("Command", ""), _WIDE)
        ),
        "CreatedAt": lambda c: local_time(int(c.get("Created", 0))),
        "RunningFor": _created,
        "Ports": lambda c: ports_text(c.get("Ports") or []),
        "State": lambda c: c.get("State", ""),
        "Status": lambda c: c.get("Status", ""),
        "Size": _size,
        "Names": lambda c: _names(c, full=full),
        "Labels": lambda c: ",".join(
            f"{k}={v}" for k, v in sorted((c.get("Labels") or {}).items())
        ),
        "LocalVolumes": lambda c: str(
            sum(1 for m in c.get("Mounts") or () if m.get("Driver") == "local")
        ),
        "Mounts": lambda c: ",".join(_mount_name(m, full=full) for m in c.get("Mounts") or ()),
        "Networks": lambda c: ",".join((c.get("NetworkSettings") or {}).get("Networks") or {}),
        "Platform": lambda c: c.get("Platform"),
    }
    default = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
    columns = (*default, "Size") if size else default
    return Listing(headings, fields, columns, labels=lambda c: c.get("Labels") or {})


def _mount_name(mount: dict[str, Any], *, full: bool) -> str:
    name = mount.get("Name") or mount.get("Source") or ""
    return name if full else _ellipsis(name, 15)


def run(call: Invocation) -> int:
    """List containers."""
    form = call["format"]
    if call["quiet"] and form:
        # Docker 28: scripts that give both get the ids.
        sys.stderr.write(
            "WARNING: Ignoring custom format, because both --format and --quiet are set.\n"
        )
        form = ""
    # Docker's client finds both by rendering the template once.
    size = call["size"] or ".Size" in form or "json ." in form
    last = 1 if call["latest"] else call["last"]
    target = "/containers/json" + query(
        all=True if call["all"] or last > 0 else None,
        limit=last if last > 0 else None,
        size=size or None,
        filters=parse_filters(call["filter"]),
    )
    items = call.client.get(target)
    items.sort(key=lambda item: -int(item.get("Created", 0)))
    listing(full=call["no-trunc"], size=call["size"]).print(
        items, form, quiet="ID" if call["quiet"] else None
    )
    return 0


COMMAND = Command(
    run,
    usage="ps [OPTIONS]",
    summary="List containers",
    description="""
Filters: ancestor=IMAGE, before=CONTAINER, exited=CODE, expose=PORT, health=STATE,
id=ID, label=NAME[=VALUE], name=REGEX, network=NAME, publish=PORT, since=CONTAINER,
status=created|restarting|running|removing|paused|exited|dead, volume=NAME|TARGET.
Several values of one key mean any of them, several keys mean all of them.
""",
    aliases="container ls, container list, container ps, ps",
    flags=(
        ("all", "a", BOOL, False, "Show all containers (default shows just running)"),
        ("filter", "f", LIST, None, "Show only what fits KEY=VALUE"),
        ("format", "", STRING, "", FORMAT_HELP),
        ("last", "n", INT, -1, "Show n last created containers (includes all states)"),
        ("latest", "l", BOOL, False, "Show the latest created container (includes all states)"),
        ("no-trunc", "", BOOL, False, "Don't truncate output"),
        ("quiet", "q", BOOL, False, "Only display container IDs"),
        ("size", "s", BOOL, False, "Display total file sizes"),
    ),
    examples="""
rootless ps -a --filter status=exited
rootless ps --format 'table {{.Names}}\\t{{.Status}}\\t{{.Ports}}'
rootless ps --format '{{.Names}} {{.Label "tier"}}'
""",
)
