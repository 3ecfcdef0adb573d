"""Signals while a container is in the foreground."""

from __future__ import annotations

from rootless.client import lightos as os
from rootless.client.rawsignal import raw as sig
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    from rootless.client.terminal import RawMode

_NEVER = {
    sig.SIGKILL,
    sig.SIGSTOP,
    sig.SIGCHLD,
    sig.SIGPIPE,
    sig.SIGWINCH,
    sig.SIGURG,
    # Proxied, these would make a background job spin on its terminal.
    sig.SIGTTIN,
    sig.SIGTTOU,
    # Synchronous faults are this process's own.
    sig.SIGSEGV,
    sig.SIGBUS,
    sig.SIGFPE,
    sig.SIGILL,
    sig.SIGTRAP,
    sig.SIGSYS,
    sig.SIGABRT,
    # The threads library's own (signal(7)).
    32,
    33,
}
_JOB = (sig.SIGTSTP, sig.SIGCONT)
_DEADLY = (sig.SIGHUP, sig.SIGINT, sig.SIGQUIT, sig.SIGTERM)


class Terminated(Exception):
    """A signal that was not proxied ends the client; raised so that clean-up runs."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def signal_name(number: int) -> str:
    """``TERM`` for 15; real-time signals by number."""
    for name in ("HUP INT QUIT USR1 USR2 ALRM TERM TSTP CONT").split():
        if getattr(sig, f"SIG{name}") == number:
            return name
    return str(number)


class Foreground:
    """Handlers for one container in the foreground.

    ``kill`` delivers a signal to it, ``resize`` tells it the terminal's size.
    Signals that come before ``started()`` are kept and delivered then.
    """

    __slots__ = ("_old", "_pending", "_ready", "kill", "raw", "resize")

    def __init__(
        self,
        *,
        kill: Callable[[str], None] | None,
        resize: Callable[[], None] | None = None,
        raw: RawMode | None = None,
    ) -> None:
        self.kill = kill
        self.resize = resize
        self.raw = raw
        self._ready = False
        self._pending: list[int] = []
        self._old: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the signals and the terminal."""
        raw = self.raw
        for number in range(1, 65):
            if number in _NEVER or (raw is not None and number in _JOB):
                continue
            if self.kill is not None:
                self._set(number, self._proxy)
            elif number in _DEADLY:
                self._set(number, _terminate)
        if self.resize is not None:
            self._set(sig.SIGWINCH, self._resized)
        if raw is not None:
            self._set(sig.SIGTSTP, self._suspend)
            self._set(sig.SIGCONT, self._resume)
            raw.enter()

    def _set(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        if sig.getsignal(number) == sig.SIG_IGN and number in (sig.SIGHUP, sig.SIGINT, sig.SIGQUIT):
            return  # nohup(1), or a shell's background job: stays ignored
        try:
            self._old[number] = sig.signal(number, handler)
        except (OSError, ValueError):
            return

    def restore(self) -> None:
        """Give signals and terminal back; safe to call twice."""
        if self.raw is not None:
            self.raw.leave()
        for number, handler in self._old.items():
            sig.signal(number, sig.SIG_DFL if handler is None else handler)
        self._old = {}

    def started(self) -> None:
        """The container runs: deliver what came before, set the terminal's size."""
        self._ready = True
        if self.resize is not None:
            self._resized(0, None)
        while self._pending:
            self._deliver(self._pending.pop(0))

    def _proxy(self, number: int, _frame: FrameType | None) -> None:
        if self._ready:
            self._deliver(number)
        else:
            self._pending.append(number)

    def _deliver(self, number: int) -> None:
        if self.kill is None:
            return
        try:
            self.kill(signal_name(number))
        except (OSError, RootlessError):
            return  # it ended in this moment; the stream's end reports it
        if number == sig.SIGHUP and self.raw is not None and self.raw.gone:
            # Nobody can see or type any more; a process that ignores SIGHUP runs on without us.
            raise Terminated(number)

    def _resized(self, _number: int, _frame: FrameType | None) -> None:
        if self.resize is None or not self._ready:
            return
        try:
            self.resize()
        except (OSError, RootlessError):
            return

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Stop as the default action does, with the terminal as it was found.

        kill(2) to ourselves returns when we are continued, or at once where the
        kernel does not stop us (an orphaned process group, setpgid(2)).
        """
        if self.raw is not None:
            self.raw.leave()
        sig.signal(number, sig.SIG_DFL)
        os.kill(os.getpid(), number)
        sig.signal(number, self._suspend)
        self._resume(number, frame)

    def _resume(self, _number: int, _frame: FrameType | None) -> None:
        """Raw again, also after a SIGSTOP, when the shell has set its own mode meanwhile."""
        if self.raw is not None:
            self.raw.enter()
        self._resized(0, None)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise Terminated(number)


def die_by(number: int) -> int:
    """End this process by the signal's default action; the shell's status if that fails."""
    sig.signal(number, sig.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
