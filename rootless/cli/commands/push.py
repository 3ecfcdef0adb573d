"""``rootless push``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, STRING, Command, Invocation
from rootless.cli.commands.archive import platform_json
from rootless.cli.commands.pull import canonical
from rootless.cli.flags import UsageError
from rootless.cli.progress import Progress
from rootless.cli.pulling import split_reference
from rootless.cli.trust import TRUST_FLAG, refuse_trust
from rootless.client.api import query, quote
from rootless.client.dockerconfig import credentials, encode_auth, registry_of


def run(call: Invocation) -> int:
    """Push one tag, or all of a repository."""
    refuse_trust(call)
    image = call.args[0]
    name, tag = split_reference(image)
    if "@" in image:
        raise UsageError("cannot push a digest reference")
    tagged = image != name
    if call["all-tags"] and tagged:
        raise UsageError("tag can't be used with --all-tags/-a")
    # The API wants the header even when there are no credentials.
    auth = encode_auth(credentials(registry_of(image)) or {})
    target = f"/images/{quote(name, '/:')}/push" + query(
        tag=None if call["all-tags"] else tag, platform=platform_json(call["platform"])
    )
    if not call["quiet"] and not tagged and not call["all-tags"]:
        sys.stdout.write("Using default tag: latest\n")
    response = call.client.open("POST", target, headers=(("X-Registry-Auth", auth),))
    if call["quiet"]:
        for message in response.documents():
            if isinstance(message, dict) and ("error" in message or "errorDetail" in message):
                Progress(sys.stderr).show([message])
        sys.stdout.write(f"{canonical(name)}:{tag}\n")
    else:
        Progress(sys.stdout).show(response.documents())
    return 0


COMMAND = Command(
    run,
    usage="push [OPTIONS] NAME[:TAG]",
    summary="Upload an image to a registry",
    aliases="image push, push",
    flags=(
        ("all-tags", "a", BOOL, False, "Push all tags of an image to the repository"),
        TRUST_FLAG,
        ("platform", "", STRING, "", "Only the given platform (os/arch[/variant])"),
        ("quiet", "q", BOOL, False, "Suppress verbose output"),
    ),
    min_args=1,
    max_args=1,
    examples="rootless push registry.example.org/team/app:1.2",
)
