"""The one map from exceptions to answers.

A :class:`RootlessError` carries its status; its text is for the user. Anything
else is a defect of the engine: logged with its traceback, answered without.
"""

from __future__ import annotations

import logging

from rootless.errors import Denied, RootlessError
from rootless.model.decision import Finding, merged

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
            # What cannot be had now (503, 507) is an answer, not a failure of the engine.
            level = logging.ERROR if error.http_status == 500 else logging.INFO
            log.log(level, "%s: %s", during, error)
        return error.http_status, str(error)
    log.error("%s: unexpected %s", during, type(error).__name__, exc_info=error)
    return 500, "internal error: the daemon's log has the details"


def _denied(error: Denied) -> str:
    """The message with every finding, so that one look tells all that must change."""
    findings = error.context.get("findings")
    if not isinstance(findings, list | tuple):
        return str(error)
    told = str(error)
    rest = [str(found) for found in merged(map(_finding, findings)) if str(found) not in told]
    return "; ".join([told, *rest])


def _finding(found: object) -> Finding:
    """A finding; the context may hold it as a mapping, ready for JSON."""
    return found if isinstance(found, Finding) else Finding(**dict(found))  # type: ignore[call-overload]
