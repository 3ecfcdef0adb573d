"""A container or exec in the foreground: streams, terminal, signals and their clean-up."""

from __future__ import annotations

import sys

from rootless.cli.flags import UsageError
from rootless.client import lightos as os
from rootless.client.api import Client, quote
from rootless.client.signals import Foreground, Terminated, die_by
from rootless.client.stream import Demux, OutputClosed, Pump, Raw, parse_detach_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.client.http import Connection

DEFAULT_KEYS = "ctrl-p,ctrl-q"


class Settings:
    """How the streams are joined; ``target`` is ``containers/ID`` or ``exec/ID``."""

    __slots__ = ("detach_keys", "sig_proxy", "stderr", "stdin", "stdout", "target", "tty")

    def __init__(
        self,
        target: str,
        *,
        tty: bool,
        stdin: bool,
        stdout: bool = True,
        stderr: bool = True,
        sig_proxy: bool = True,
        detach_keys: str = "",
    ) -> None:
        self.target = target
        self.tty = tty
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.sig_proxy = sig_proxy
        self.detach_keys = detach_keys


def check_terminal(*, tty: bool, stdin: bool) -> None:
    """Docker's refusal of ``-it`` with an input that is no terminal."""
    if tty and stdin and not os.isatty(0):
        raise UsageError(
            "the input device is not a TTY", hint="leave out -t when the input is a pipe", status=1
        )


def detach_bytes(text: str) -> bytes:
    """The detach keys; wrong ones are the user's error."""
    try:
        return parse_detach_keys(text or DEFAULT_KEYS)
    except ValueError as error:
        raise UsageError(str(error), hint="write for example ctrl-p,ctrl-q") from None


class Session:
    """Owns the terminal and the signals from ``prepare`` until ``close``."""

    __slots__ = ("_client", "_foreground", "_settings", "detached")

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.detached = False
        kill: Callable[[str], None] | None = None
        resize: Callable[[], None] | None = None
        raw = None
        if settings.sig_proxy and settings.target.startswith("containers/"):
            kill = self._kill
        if settings.tty:
            resize = self._resize
            if settings.stdin and os.isatty(0):
                from rootless.client.terminal import RawMode

                raw = RawMode(0)
        self._foreground = Foreground(kill=kill, resize=resize, raw=raw)

    def _call(self, target: str) -> None:
        """One request on a connection of its own: a signal may come in the middle of another."""
        client = self._client.sibling()
        try:
            client.request("POST", target)
        finally:
            client.close()

    def _kill(self, name: str) -> None:
        self._call(f"/{self._settings.target}/kill?signal={name}")

    def _resize(self) -> None:
        from rootless.client.terminal import window_size

        size = window_size(1, 0, 2)
        if size is not None:
            self._call(f"/{self._settings.target}/resize?h={size[0]}&w={size[1]}")

    def prepare(self) -> None:
        """Take over signals and terminal."""
        sys.stdout.flush()
        self._foreground.install()

    def started(self) -> None:
        """The process runs now."""
        self._foreground.started()

    def close(self) -> None:
        """Give signals and terminal back."""
        self._foreground.restore()

    def pump(self, connection: Connection) -> None:
        """Move bytes until the output ends or the user detaches."""
        settings = self._settings
        keys = b""
        if settings.tty and settings.stdin:
            keys = detach_bytes(settings.detach_keys)
        sink = Raw() if settings.tty else Demux()
        stdin = 0 if settings.stdin else None
        pump = Pump(connection, sink, stdin=stdin, detach_keys=keys)
        pump.run()
        self.detached = pump.detached


def attach_target(container: str, settings: Settings, *, logs: bool = False) -> str:
    """The attach endpoint with the streams that are wanted."""
    parts = ["stream=1"]
    parts += [f"{name}=1" for name in ("stdin", "stdout", "stderr") if getattr(settings, name)]
    if logs:
        parts.append("logs=1")
    if settings.detach_keys:
        parts.append(f"detachKeys={quote(settings.detach_keys)}")
    return f"/containers/{container}/attach?" + "&".join(parts)


def guarded(work: Callable[[], int], session: Session) -> int:
    """Run ``work``; whatever happens the terminal is restored first.

    A deadly signal and a reader of our output that left end the process as they
    end any filter: by the signal, so that the shell sees what happened.
    """
    try:
        return work()
    except Terminated as error:
        number = error.number
    except OutputClosed:
        from rootless.client.rawsignal import raw

        number = raw.SIGPIPE
    finally:
        session.close()
    return die_by(number)
