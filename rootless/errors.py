"""Every error the engine raises on purpose.

::

    RootlessError                 code       Docker API status
    ├── InvalidInput              invalid    400   the request itself is wrong
    ├── Unauthorized              auth       401   a registry or the daemon wants credentials
    ├── Denied                    denied     403   the policy says no; carries findings
    ├── NotFound                  not-found  404
    ├── Conflict                  conflict   409   name taken, wrong state, in use
    ├── NotModified               unchanged  304   already in the wanted state
    ├── HostUnsupported           host       400   the host lacks what was asked for
    ├── NotReadable               unread     501   the log goes where nobody can read it back
    ├── Unavailable               unavail    503   a helper or peer cannot be reached now
    ├── Exhausted                 exhausted  500   ids, space, or a quota ran out
    ├── StartFailed               start      400   the container's process could not be started
    └── SyscallError              syscall    500   call, object and errno

A message names the object, the cause and, in the hint, the fix.
"""

from __future__ import annotations

import errno as _errno

TYPE_CHECKING = False  # a name type checkers know; importing typing costs the CLI 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar


class RootlessError(Exception):
    """An error whose text is meant for the user.

    ``message`` is one line without a trailing full stop; ``hint`` is the next
    step, often a command; ``context`` holds machine-readable details.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    exit_status: int | None = None
    """What a command ends with because of it; None where no command has said."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context: dict[str, object] = dict(context or {})

    def __str__(self) -> str:
        return f"{self.message} (hint: {self.hint})" if self.hint else self.message


class InvalidInput(RootlessError):
    """The request is malformed or contradicts itself."""

    code = "invalid"
    http_status = 400


class Unauthorized(RootlessError):
    """Credentials are missing or were refused."""

    code = "auth"
    http_status = 401


class Denied(RootlessError):
    """The policy denied the request; ``context['findings']`` lists why."""

    code = "denied"
    http_status = 403


class NotFound(RootlessError):
    """No such object."""

    code = "not-found"
    http_status = 404


class Conflict(RootlessError):
    """The object's state or another object stands in the way."""

    code = "conflict"
    http_status = 409


class NotModified(RootlessError):
    """The object is already in the requested state."""

    code = "unchanged"
    http_status = 304


class HostUnsupported(RootlessError):
    """The host cannot give what was asked for; the hint is the command that mends it."""

    code = "host"
    http_status = 400


class NotReadable(RootlessError):
    """What was asked for is written where it cannot be read back; as Docker answers."""

    code = "unread"
    http_status = 501


class Unavailable(RootlessError):
    """A peer or helper process cannot be reached now."""

    code = "unavail"
    http_status = 503


class Exhausted(RootlessError):
    """A bounded supply (subordinate ids, disk, quota) ran out."""

    code = "exhausted"
    http_status = 500


class StartFailed(RootlessError):
    """The container was made but its process could not be started.

    ``step`` is the name of the sandbox step that failed, ``exit_code`` is what
    ``run`` ends with: 127 not found, 126 not executable, 125 the sandbox.
    """

    code = "start"
    http_status = 400

    def __init__(
        self,
        message: str,
        *,
        step: str,
        exit_code: int,
        hint: str | None = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, context=context)
        self.step = step
        self.exit_code = exit_code


_FULL = (_errno.ENOSPC, _errno.EDQUOT)
_ROOM = "see `rootless system df`; `rootless system prune` frees what nobody uses"


class SyscallError(RootlessError):
    """A system call failed: which one, on what, and with which errno."""

    code = "syscall"
    http_status = 500

    def __init__(self, call: str, target: object, errno: int, *, hint: str | None = None) -> None:
        from os import strerror  # the command line does without "os" (lightos)

        name = _errno.errorcode.get(errno, str(errno))
        super().__init__(
            f"{call}({target}): {strerror(errno)} [{name}]",
            hint=_ROOM if errno in _FULL else hint,
            context={"call": call, "errno": errno},
        )
        self.call = call
        self.target = str(target)
        self.errno = errno


def no_space(what: str, error: OSError | SyscallError) -> Exhausted | None:
    """The error for ``what`` when ``error`` says that a disk or quota is full; None otherwise."""
    if error.errno not in _FULL:
        return None
    word = "no space left on device" if error.errno == _errno.ENOSPC else "disk quota exceeded"
    return Exhausted(f"{what}: {word}", hint=_ROOM)


def in_words(error: OSError, where: str) -> RootlessError:
    """A system call that failed without a word of its own: on which file.

    ``where`` is out of space when it names no file.
    """
    from os import fsdecode
    from os.path import abspath

    file = f"'{abspath(fsdecode(error.filename))}'" if error.filename else ""
    if (full := no_space(file or where, error)) is not None:
        return full
    name = _errno.errorcode.get(error.errno or 0, "no errno")
    return RootlessError(f"{file or 'a system call'}: {error.strerror or error} [{name}]")
