"""The ``prune`` of containers, images, networks, volumes, and of the whole system."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, LIST, Command, Invocation
from rootless.cli.confirm import confirm
from rootless.cli.filters import parse_filters
from rootless.cli.flags import UsageError
from rootless.cli.human import size4
from rootless.client.api import query
from rootless.client.http import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _prune(call: Invocation, noun: str, filters: dict[str, list[str]] | None) -> dict[str, Any]:
    answer: dict[str, Any] = call.client.post(f"/{noun}/prune" + query(filters=filters)) or {}
    return answer


def _report(title: str, lines: list[str]) -> None:
    if lines:
        sys.stdout.write("\n".join([title, *lines, ""]) + "\n")


def _total(count: int) -> None:
    sys.stdout.write(f"Total reclaimed space: {size4(count)}\n")


def _agreed(call: Invocation, text: str) -> bool:
    return bool(call["force"]) or confirm(text)


def _containers(call: Invocation) -> int:
    if not _agreed(call, "This will remove all stopped containers."):
        return 1
    answer = _prune(call, "containers", parse_filters(call["filter"]))
    _report("Deleted Containers:", answer.get("ContainersDeleted") or [])
    _total(answer.get("SpaceReclaimed", 0))
    return 0


def _image_lines(answer: dict[str, Any]) -> list[str]:
    lines = []
    for item in answer.get("ImagesDeleted") or ():
        if item.get("Untagged"):
            lines.append(f"untagged: {item['Untagged']}")
        if item.get("Deleted"):
            lines.append(f"deleted: {item['Deleted']}")
    return lines


def _images(call: Invocation) -> int:
    what = "all images without at least one container associated to them"
    if not _agreed(call, f"This will remove {what if call['all'] else 'all dangling images'}."):
        return 1
    filters = parse_filters(call["filter"]) or {}
    filters["dangling"] = ["false" if call["all"] else "true"]
    answer = _prune(call, "images", filters)
    _report("Deleted Images:", _image_lines(answer))
    _total(answer.get("SpaceReclaimed", 0))
    return 0


def _volumes(call: Invocation) -> int:
    kind = "" if call["all"] else "anonymous "
    text = f"This will remove {kind}local volumes not used by at least one container."
    if not _agreed(call, text):
        return 1
    filters = parse_filters(call["filter"]) or {}
    if call["all"]:
        filters["all"] = ["true"]
    answer = _prune(call, "volumes", filters or None)
    _report("Deleted Volumes:", answer.get("VolumesDeleted") or [])
    _total(answer.get("SpaceReclaimed", 0))
    return 0


def _networks(call: Invocation) -> int:
    text = "This will remove all custom networks not used by at least one container."
    if not _agreed(call, text):
        return 1
    answer = _prune(call, "networks", parse_filters(call["filter"]))
    _report("Deleted Networks:", answer.get("NetworksDeleted") or [])
    return 0


def _system(call: Invocation) -> int:
    filters = parse_filters(call["filter"]) or {}
    if call["volumes"] and "until" in filters:  # volumes have no such filter: say so before
        raise UsageError('the "until" filter is not supported with "--volumes"', status=1)
    images = "all images without a container" if call["all"] else "all dangling images"
    volumes = ", all anonymous volumes not used by a container" if call["volumes"] else ""
    if not _agreed(
        call,
        f"This will remove all stopped containers, all networks not used by a container{volumes}, "
        f"and {images}.",
    ):
        return 1
    total = 0
    answer = _prune(call, "containers", filters or None)
    total += answer.get("SpaceReclaimed", 0)
    _report("Deleted Containers:", answer.get("ContainersDeleted") or [])
    try:
        answer = _prune(call, "networks", filters or None)
        _report("Deleted Networks:", answer.get("NetworksDeleted") or [])
    except ApiError as error:
        if error.status not in (404, 501):
            raise
    if call["volumes"]:
        answer = _prune(call, "volumes", filters or None)
        total += answer.get("SpaceReclaimed", 0)
        _report("Deleted Volumes:", answer.get("VolumesDeleted") or [])
    answer = _prune(call, "images", {**filters, "dangling": ["false" if call["all"] else "true"]})
    total += answer.get("SpaceReclaimed", 0)
    _report("Deleted Images:", _image_lines(answer))
    _total(total)
    return 0


_FORCE = ("force", "f", BOOL, False, "Do not prompt for confirmation")
_FILTER = (
    "filter",
    "",
    LIST,
    None,
    "Only what fits: until=24h, label=NAME[=VALUE], label!=NAME",
)

CONTAINER = Command(
    _containers,
    usage="container prune [OPTIONS]",
    summary="Remove all stopped containers",
    examples="rootless container prune -f --filter until=24h",
    flags=(_FILTER, _FORCE),
)
IMAGE = Command(
    _images,
    usage="image prune [OPTIONS]",
    summary="Remove unused images",
    description="Dangling images have no name and no container; with -a, all without a container.",
    examples="rootless image prune -a --filter until=240h",
    flags=(
        ("all", "a", BOOL, False, "Remove all unused images, not just dangling ones"),
        _FILTER,
        _FORCE,
    ),
)
NETWORK = Command(
    _networks,
    usage="network prune [OPTIONS]",
    summary="Remove all unused networks",
    description="Networks that no running container is on.",
    examples="rootless network prune -f --filter until=24h",
    flags=(_FILTER, _FORCE),
)
VOLUME = Command(
    _volumes,
    usage="volume prune [OPTIONS]",
    summary="Remove unused local volumes",
    description="Volumes that no container uses: anonymous ones, with -a those with a name, too.",
    examples="rootless volume prune -f",
    flags=(
        ("all", "a", BOOL, False, "Remove all unused volumes, not just anonymous ones"),
        _FILTER,
        _FORCE,
    ),
)
SYSTEM = Command(
    _system,
    usage="system prune [OPTIONS]",
    summary="Remove unused data",
    description="""
Stopped containers and dangling images; with -a all images without a container, with
--volumes anonymous volumes that no container uses. Without -f it asks first.
""",
    examples="rootless system prune -af --volumes",
    flags=(
        ("all", "a", BOOL, False, "Remove all unused images not just dangling ones"),
        _FILTER,
        _FORCE,
        ("volumes", "", BOOL, False, "Prune anonymous volumes"),
    ),
)
