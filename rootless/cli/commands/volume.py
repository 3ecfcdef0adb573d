"""``rootless volume create|ls|rm``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, FORMAT_HELP, LIST, MAP, STRING, Command, Invocation
from rootless.cli.createspec import key_values, labels
from rootless.cli.each import each
from rootless.cli.filters import parse_filters
from rootless.cli.formats import Listing
from rootless.cli.human import size4
from rootless.client.api import query, quote


def _size(count: int | None) -> str:
    """Bytes as Docker shows them: -1B where they were not counted."""
    return "N/A" if count is None else size4(count)


LISTING = Listing(
    {
        "Driver": "DRIVER",
        "Name": "VOLUME NAME",
        "Mountpoint": "MOUNTPOINT",
        "Scope": "SCOPE",
        "Labels": "LABELS",
        "Links": "LINKS",
        "Size": "SIZE",
        "Availability": "AVAILABILITY",
        "Group": "GROUP",
        "Status": "STATUS",
    },
    {
        "Driver": lambda v: v.get("Driver", ""),
        "Name": lambda v: v["Name"],
        "Mountpoint": lambda v: v.get("Mountpoint", ""),
        "Scope": lambda v: v.get("Scope", ""),
        "Labels": lambda v: ",".join(
            f"{k}={w}" for k, w in sorted((v.get("Labels") or {}).items())
        ),
        "Links": lambda v: str((v.get("UsageData") or {}).get("RefCount", "N/A")),
        "Size": lambda v: _size((v.get("UsageData") or {}).get("Size")),
        # Docker has these for volumes of a cluster.
        **dict.fromkeys(("Availability", "Group", "Status"), lambda _: "N/A"),
    },
    ("Driver", "Name"),
    labels=lambda v: v.get("Labels") or {},
)


def _create(call: Invocation) -> int:
    body: dict[str, object] = {"Driver": call["driver"]}
    if call.args:
        body["Name"] = call.args[0]
    if call["label"]:
        body["Labels"] = labels([], call["label"])
    if call["opt"]:
        body["DriverOpts"] = key_values(call["opt"])
    sys.stdout.write(call.client.post("/volumes/create", body)["Name"] + "\n")
    return 0


def _ls(call: Invocation) -> int:
    answer = call.client.get("/volumes" + query(filters=parse_filters(call["filter"])))
    items = sorted(answer.get("Volumes") or [], key=lambda volume: str(volume["Name"]))
    LISTING.print(items, call["format"], quiet="Name" if call["quiet"] else None)
    return 0


def _rm(call: Invocation) -> int:
    tail = query(force=call["force"] or None)
    return each(call.args, lambda name: call.client.delete(f"/volumes/{quote(name)}{tail}"))


CREATE = Command(
    _create,
    usage="volume create [OPTIONS] [VOLUME]",
    summary="Create a volume",
    description="""
The local driver's options are those of mount(8): type=tmpfs,device=tmpfs,o=size=64m
for a tmpfs, type=none,device=/PATH,o=bind for a directory of the host.
""",
    flags=(
        ("driver", "d", STRING, "local", "Volume driver (only local)"),
        ("label", "", LIST, None, "Set metadata: NAME[=VALUE]"),
        ("opt", "o", MAP, None, "Option of the driver (type, device, o)"),
    ),
    max_args=1,
    examples="rootless volume create --label tier=db data",
)
LS = Command(
    _ls,
    usage="volume ls [OPTIONS]",
    summary="List volumes",
    examples="rootless volume ls -q --filter dangling=true",
    aliases="volume ls, volume list",
    flags=(
        (
            "filter",
            "f",
            LIST,
            None,
            "Show only what fits: dangling=true, driver=, label=, name=",
        ),
        ("format", "", STRING, "", FORMAT_HELP),
        ("quiet", "q", BOOL, False, "Only display volume names"),
    ),
)
RM = Command(
    _rm,
    usage="volume rm [OPTIONS] VOLUME [VOLUME...]",
    summary="Remove one or more volumes that no container uses",
    examples="rootless volume rm data",
    aliases="volume rm, volume remove",
    flags=(("force", "f", BOOL, False, "A volume that is not there is no failure"),),
    min_args=1,
    max_args=None,
)
