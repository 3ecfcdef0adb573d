"""Flags that were not given and have a default in ``~/.docker/config.json``."""

from __future__ import annotations

from rootless.client import clientconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FORMATS = {
    "container ls": "psFormat",
    "container stats": "statsFormat",
    "image ls": "imagesFormat",
    "images": "imagesFormat",
    "network ls": "networksFormat",
    "ps": "psFormat",
    "stats": "statsFormat",
    "volume ls": "volumesFormat",
}


def fill(path: str, values: dict[str, Any]) -> None:
    """``detachKeys`` and the lists' formats; ``--quiet`` asks for no format."""
    if values.get("detach-keys") == "":
        values["detach-keys"] = clientconfig.text("detachKeys")
    key = _FORMATS.get(path)
    if key and values["format"] == "" and not values.get("quiet"):
        values["format"] = clientconfig.text(key)
