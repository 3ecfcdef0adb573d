"""``rootless rmi``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, LIST, Command, Invocation
from rootless.cli.commands.archive import platform_json
from rootless.client.api import query, quote
from rootless.client.http import ApiError


def run(call: Invocation) -> int:
    """Untag images and delete those without a name left."""
    platforms = [platform_json(text) for text in call["platform"]]
    tail = query(
        force=call["force"] or None,
        noprune=call["no-prune"] or None,
        platforms=platforms or None,
    )
    status = 0
    for name in call.args:
        try:
            answer = call.client.delete(f"/images/{quote(name, '/:@')}{tail}")
        except ApiError as error:
            sys.stdout.flush()
            hint = f"hint: {error.hint}\n" if error.hint else ""
            sys.stderr.write(f"rootless: {error.message}\n{hint}")
            if not (error.status == 404 and call["force"]):
                status = 1
            continue
        for item in answer or ():
            for verb in ("Untagged", "Deleted"):
                if item.get(verb):
                    sys.stdout.write(f"{verb}: {item[verb]}\n")
    return status


COMMAND = Command(
    run,
    usage="rmi [OPTIONS] IMAGE [IMAGE...]",
    summary="Remove one or more images",
    description="""
A name is taken away; the image goes with its last one. An image that a container
uses stays, with -f only that of a running one.
""",
    aliases="image rm, image remove, rmi",
    flags=(
        ("force", "f", BOOL, False, "Remove all names of an ID, and images of stopped containers"),
        ("no-prune", "", BOOL, False, "Do not delete untagged parents"),
        ("platform", "", LIST, None, "Remove only the given platform variant (os/arch[/variant])"),
    ),
    min_args=1,
    max_args=None,
    examples="rootless rmi busybox\nrootless rmi $(rootless images -q --filter dangling=true)",
)
