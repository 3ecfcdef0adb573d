"""The one map from exceptions to answers.

A :class:`RootlessError` carries its status; its text is for the user. Anything
else is a defect of the engine: logged with its traceback, answered without.
"""

from __future__ import annotations

import errno
import logging
import os

from rootless.errors import Denied, Exhausted, RootlessError, Unavailable, no_space
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
    if isinstance(error, OSError):
        error = _of_the_host(error) or error
    if isinstance(error, RootlessError):
        if error.http_status >= 500:
            # What cannot be had now is an answer, not a failure of the engine.
            expected = error.http_status != 500 or isinstance(error, Exhausted)
            level = logging.INFO if expected else logging.ERROR
            log.log(level, "%s: %s", during, error)
        return error.http_status, str(error)
    log.error("%s: unexpected %s", during, type(error).__name__, exc_info=error)
    return 500, "internal error: the daemon's log has the details"


def _of_the_host(error: OSError) -> RootlessError | None:
    """What the host is out of, when that is all there is to say."""
    where = f"'{os.fsdecode(error.filename)}'" if error.filename else "the data root"
    if error.errno == errno.EROFS:
        return Exhausted(
            f"{where}: read-only file system",
            hint="mount it writable; dmesg tells what happened to it",
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(
            "too many open files", hint="raise the daemon's limit (ulimit -n), or close connections"
        )
    return no_space(where, error)


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
    return found if isinstance(found, Finding) else Finding(**dict(found))  # type: ignore[call-overload]  # a finding's own fields
