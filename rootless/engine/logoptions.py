"""Options of the json-file log driver: of a container, and of every one by daemon.json."""

from __future__ import annotations

from collections.abc import Mapping

from rootless.errors import InvalidInput
from rootless.units import parse_size, whole_number

_KNOWN = frozenset(
    "max-size max-file compress labels labels-regex env env-regex tag mode max-buffer-size".split()
)


def check_log_options(options: Mapping[str, str]) -> None:
    """Refuse what the driver cannot keep. ``max-size`` is a size or -1, ``max-file`` a count."""
    for key in options:
        if key not in _KNOWN:
            raise InvalidInput(f"unknown log opt '{key}' for json-file log driver")
    if "max-size" in options and options["max-size"] != "-1":
        try:
            parse_size(options["max-size"])
        except InvalidInput as error:
            raise InvalidInput(f"log opt max-size: {error.message}", hint=error.hint) from None
    files = options.get("max-file", "1")
    count = whole_number(files) or 0
    if count < 1:
        raise InvalidInput(f"invalid max-file: {files!r} must be a number of at least 1")
    if count > 1 and "max-size" not in options:
        raise InvalidInput("max-file is meaningless without max-size")
