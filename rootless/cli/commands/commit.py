"""``rootless commit``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, LIST, STRING, Command, Invocation
from rootless.cli.pulling import split_target
from rootless.client.api import query


def run(call: Invocation) -> int:
    """Make an image of a container; prints its id."""
    reference = call.args[1] if len(call.args) > 1 else ""
    name, tag = split_target(reference)
    target = "/commit" + query(
        container=call.args[0],
        repo=name or None,
        tag=tag or None,
        comment=call["message"] or None,
        author=call["author"] or None,
        pause=call["pause"],
        changes=call["change"] or None,
    )
    answer = call.client.post(target, {})
    sys.stdout.write(f"{answer['Id']}\n")
    return 0


COMMAND = Command(
    run,
    usage="commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    summary="Create a new image from a container's changes",
    description="""
What the container changed becomes one more layer on its image; volumes are not part
of it. Instructions of --change: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR.
""",
    aliases="container commit, commit",
    flags=(
        ("author", "a", STRING, "", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
        ("change", "c", LIST, None, "Apply a Dockerfile instruction to the image ('ENV A=b')"),
        ("message", "m", STRING, "", "Commit message"),
        ("pause", "p", BOOL, True, "Pause it meanwhile, where its cgroup can be frozen"),
    ),
    min_args=1,
    max_args=2,
    examples="rootless commit -c 'CMD [\"/app\"]' build app:1",
)
