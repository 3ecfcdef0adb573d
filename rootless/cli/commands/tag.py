"""``rootless tag``."""

from __future__ import annotations

from rootless.cli.command import Command, Invocation
from rootless.cli.pulling import split_reference
from rootless.client.api import query, quote
from rootless.errors import InvalidInput


def run(call: Invocation) -> int:
    """Give an image one more name."""
    source, target = call.args
    if "@" in target:
        raise InvalidInput("refusing to create a tag with a digest reference")
    name, tag = split_reference(target)
    call.client.post(f"/images/{quote(source, '/:@')}/tag" + query(repo=name, tag=tag))
    return 0


COMMAND = Command(
    run,
    usage="tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    summary="Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    aliases="image tag, tag",
    min_args=2,
    max_args=2,
    examples="rootless tag app:1 registry.example.org/team/app:1",
)
