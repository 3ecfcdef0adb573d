"""The one map from exceptions to answers.

A :class:`RootlessError` carries its status; its text is for the user. Anything
else is a defect of the engine: logged with its traceback, answered without.
"""

from __future__ import annotations

import logging

from rootless.errors import Denied, RootlessError
from rootless.model.decision import Finding

log = logging.getLogger("rootless.api")


class HttpError(Exception):
    """An answer that has no engine error behind it, such as an unknown path."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def status_and_message(error: BaseException, *, during: str) -> tuple[int, str]:
    """Status and message of the answer to ``error``; ``during`` names the request in the log."""
    if isinstance(error, HttpError):
        return error.status, error.message
    if isinstance(error, Denied):
        return error.http_status, _denied(error)
    if isinstance(error, RootlessError):
        if error.http_status >= 500:
            log.error("%s: %s", during, error)
        return error.http_status, str(error)
    log.error("%s: unexpected %s", during, type(error).__name__, exc_info=error)
    return 500, "internal error: the daemon's log has the details"


def _denied(error: Denied) -> str:
    """The message with every finding, so that one look tells all that must change."""
    findings = error.context.get("findings")
    if not isinstance(findings, list | tuple):
        return str(error)
    missing = [text for text in map(_finding, findings) if text not in str(error)]
    return "\n  ".join([str(error), *missing])


def _finding(found: object) -> str:
    """A finding as text; the context may hold it as a mapping, ready for JSON."""
    if isinstance(found, dict):
        return str(Finding(**found))
    return str(found)
