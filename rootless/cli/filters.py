"""``--filter key=value`` as the API's map of lists."""

from __future__ import annotations

from rootless.cli.flags import UsageError


def parse_filters(items: list[str]) -> dict[str, list[str]] | None:
    """``{"status": ["exited"]}``; None when there is none."""
    out: dict[str, list[str]] = {}
    for item in items:
        key, mark, value = item.partition("=")
        if not mark:
            raise UsageError(
                f"invalid argument {item!r} for --filter: bad format", hint="write KEY=VALUE"
            )
        out.setdefault(key.strip().lower(), []).append(value.strip())
    return out or None
