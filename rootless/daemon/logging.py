"""The daemon's own log on standard error: one line an event, tracebacks only there."""

from __future__ import annotations

import logging
import sys

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


def set_up(level: str, *, debug: bool) -> None:
    """Send everything of at least ``level`` to standard error; again at each reload."""
    logging.basicConfig(
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    wanted = logging.DEBUG if debug else _LEVELS[level]
    logging.getLogger().setLevel(wanted)
    # asyncio's debug lines and sh's command lines would fill the log (and may hold secrets).
    for noisy in ("asyncio", "sh", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(wanted, logging.WARNING))
