"""Pulling one image with progress, for ``pull``, ``run`` and ``create``."""

from __future__ import annotations

from rootless.cli.progress import Progress
from rootless.client.api import Client, query
from rootless.client.dockerconfig import auth_header
from rootless.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def split_reference(image: str) -> tuple[str, str]:
    """``name`` and ``tag`` (or digest) as the create endpoint wants them; latest by default."""
    name, mark, digest = image.partition("@")
    if mark:
        return name, digest
    name, tag = split_target(image)
    return name, tag or "latest"


def split_target(reference: str) -> tuple[str, str]:
    """``name`` and ``tag`` of a name to be given; '' for what is not there.

    The API joins what it gets by parts, so a colon too many would vanish here.
    """
    head, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return reference, ""
    if not head or ":" in head.rpartition("/")[2] or not _is_tag(tag):
        raise InvalidInput(
            f"invalid reference format: {reference!r}",
            hint="write [HOST[:PORT]/]NAME[:TAG|@DIGEST]",
        )
    return head, tag


def _is_tag(text: str) -> bool:
    """The distribution grammar: a letter, digit or underscore, then also dots and dashes."""
    plain = text.replace("_", "a").replace(".", "-")
    return plain[:1].isalnum() and plain.isascii() and plain.replace("-", "a").isalnum()


def pull_image(
    client: Client,
    image: str,
    *,
    platform: str = "",
    quiet: bool = False,
    out: TextIO,
    all_tags: bool = False,
) -> None:
    """Pull; raises when the registry or the daemon says no."""
    name, tag = split_reference(image)
    target = "/images/create" + query(
        fromImage=name, tag=None if all_tags else tag, platform=platform or None
    )
    response = client.open("POST", target, headers=auth_header(image))
    progress = Progress(_Nowhere() if quiet else out)  # type: ignore[arg-type]  # write() is all that it calls
    progress.show(response.documents())
    client.give_back(response)


class _Nowhere:
    """A text stream that keeps nothing."""

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return
