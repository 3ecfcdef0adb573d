"""Pulling one image with progress, for ``pull``, ``run`` and ``create``."""

from __future__ import annotations

from rootless.cli.progress import Progress
from rootless.client.api import Client, query
from rootless.client.dockerconfig import auth_header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def split_reference(image: str) -> tuple[str, str]:
    """``name`` and ``tag`` (or digest) as the create endpoint wants them; latest by default."""
    name, mark, digest = image.partition("@")
    if mark:
        return name, digest
    head, colon, tag = image.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return image, "latest"


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
    progress = Progress(_Nowhere() if quiet else out)  # type: ignore[arg-type]
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
