"""The daemon's own log on standard error: one line an event, tracebacks only there."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}
_NAMES = {logging.WARNING: "warning", logging.CRITICAL: "fatal"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with Docker's keys: ``time`` (RFC 3339), ``level``, ``msg``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record; a traceback is in ``error``."""
        body = {
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "logger": record.name,
            "msg": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info:
            body["error"] = self.formatException(record.exc_info)
        return json.dumps(body)


def set_up(level: str, form: str = "text", *, debug: bool) -> None:
    """Send everything of at least ``level`` to standard error; again at each reload."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(handlers=[handler], force=True)
    wanted = logging.DEBUG if debug else _LEVELS[level]
    logging.getLogger().setLevel(wanted)
    # asyncio's debug lines and sh's command lines would fill the log (and may hold secrets).
    for noisy in ("asyncio", "sh", "aiohttp"):
        logging.getLogger(noisy).setLevel(max(wanted, logging.WARNING))
