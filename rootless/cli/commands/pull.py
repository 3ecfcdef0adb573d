"""``rootless pull``."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, STRING, Command, Invocation
from rootless.cli.flags import UsageError
from rootless.cli.pulling import pull_image, split_reference
from rootless.cli.trust import TRUST_FLAG, refuse_trust


def run(call: Invocation) -> int:
    """Pull one image, or all tags of a repository."""
    refuse_trust(call)
    image = call.args[0]
    tagged = "@" in image or ":" in image.rpartition("/")[2]
    if call["all-tags"] and tagged:
        raise UsageError("tag can't be used with --all-tags/-a")
    if not call["quiet"] and not tagged and not call["all-tags"]:
        sys.stdout.write("Using default tag: latest\n")
    pull_image(
        call.client,
        image,
        platform=call["platform"],
        quiet=call["quiet"],
        out=sys.stdout,
        all_tags=call["all-tags"],
    )
    if call["all-tags"]:
        sys.stdout.write(f"{canonical(image)}\n")
        return 0
    name, tag = split_reference(image)
    mark = "@" if ":" in tag else ":"
    sys.stdout.write(f"{canonical(name)}{mark}{tag}\n")
    return 0


def canonical(name: str) -> str:
    """The full name: docker.io/library/ for official images."""
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    if "." in first or ":" in first or first == "localhost":
        return name
    return f"docker.io/{name}"


COMMAND = Command(
    run,
    usage="pull [OPTIONS] NAME[:TAG|@DIGEST]",
    summary="Download an image from a registry",
    description="Digests are verified while the layers stream in; an interrupted pull resumes.",
    aliases="image pull, pull",
    flags=(
        ("all-tags", "a", BOOL, False, "Download all tagged images in the repository"),
        TRUST_FLAG,
        ("platform", "", STRING, "", "Set platform if the image has several"),
        ("quiet", "q", BOOL, False, "Suppress verbose output"),
    ),
    min_args=1,
    max_args=1,
    examples="rootless pull debian:bookworm\nrootless pull --platform linux/arm64 alpine",
)
