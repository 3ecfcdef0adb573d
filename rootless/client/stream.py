"""The bytes of attach, exec and logs: full duplex, any size, nothing lost.

Output runs in the calling thread, input in a second one, each with blocking
calls and a large buffer: the kernel does the back-pressure, and a slow reader of
our output cannot stop our input. (Non-blocking descriptors are not an option:
O_NONBLOCK would be set on the open file that our terminal's other users share.)
"""

from __future__ import annotations

import _thread
import errno
import select
from _stat import S_ISCHR

from rootless.client import lightos as os
from rootless.client.http import BrokenReply, Connection
from rootless.client.rawsignal import raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BUFFER = 256 * 1024
_FIRST_BUFFER = 4096
"""Until more comes at once: a large one takes the kernel longer than a short output does."""
_IOV_MAX = 1024
_HEADER = 8


class OutputClosed(Exception):
    """Nobody reads our output any more (EPIPE; EIO of a terminal that hung up)."""


class Demux:
    """Takes Docker's multiplexed stream apart: ``[kind, 0, 0, 0, size big-endian]`` and data."""

    __slots__ = ("_carry", "_fd", "_left", "err", "out")

    def __init__(self, out: int = 1, err: int = 2) -> None:
        self.out = out
        self.err = err
        self._carry = b""
        self._left = 0
        self._fd = out

    def feed(self, data: memoryview | bytes) -> None:
        """Write what is in ``data``; keeps an incomplete header for the next call."""
        view = memoryview(data)
        total = len(view)
        pos = 0
        pieces: list[memoryview] = []
        pieces_fd = self._fd
        while pos < total:
            if not self._left:
                pos = self._header(view, pos, total)
                continue
            if pieces and (pieces_fd != self._fd or len(pieces) == _IOV_MAX):
                write_all(pieces_fd, pieces)
                pieces = []
            pieces_fd = self._fd
            take = min(self._left, total - pos)
            pieces.append(view[pos : pos + take])
            pos += take
            self._left -= take
        if pieces:
            write_all(pieces_fd, pieces)

    def _header(self, view: memoryview, pos: int, total: int) -> int:
        need = _HEADER - len(self._carry)
        self._carry += bytes(view[pos : pos + need])
        if len(self._carry) == _HEADER:
            kind = self._carry[0]
            if kind > 3 or self._carry[1:4] != b"\0\0\0":
                raise BrokenReply("the daemon sent a malformed output stream")
            self._fd = self.out if kind < 2 else self.err
            self._left = int.from_bytes(self._carry[4:], "big")
            self._carry = b""
        return min(pos + need, total)

    @property
    def complete(self) -> bool:
        """True when the stream may end here."""
        return not self._left and not self._carry


class Raw:
    """A terminal's stream: everything goes to the output."""

    __slots__ = ("out",)

    def __init__(self, out: int = 1) -> None:
        self.out = out

    def feed(self, data: memoryview | bytes) -> None:
        """Write all of ``data``."""
        write_all(self.out, [memoryview(data)])

    @property
    def complete(self) -> bool:
        """A raw stream may end anywhere."""
        return True


def write_all(fd: int, pieces: list[memoryview]) -> None:
    """writev(2) until everything is written; ``OutputClosed`` on EPIPE."""
    while pieces:
        try:
            done = os.writev(fd, pieces)
        except OSError as error:
            if error.errno == errno.EPIPE or (error.errno == errno.EIO and _is_character(fd)):
                raise OutputClosed from None
            if error.errno != errno.EAGAIN:
                raise
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
            continue
        while pieces and done >= len(pieces[0]):
            done -= len(pieces[0])
            del pieces[0]
        if done:
            pieces[0] = pieces[0][done:]


def _is_character(fd: int) -> bool:
    """True for a terminal even after it hung up, when isatty(3) is false."""
    return S_ISCHR(os.fstat(fd).st_mode)


class DetachFilter:
    """Finds the detach keys in what is typed.

    The first keys of the sequence are held back until it is clear that the
    sequence is not completed, then passed on.
    """

    __slots__ = ("_held", "keys")

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to forward, and whether the sequence was completed."""
        keys = self.keys
        out = bytearray()
        for byte in data:
            while self._held and byte != keys[self._held]:
                out += keys[: self._held]
                self._held = 0
            if byte == keys[self._held]:
                self._held += 1
                if self._held == len(keys):
                    self._held = 0
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False

    def flush(self) -> bytes:
        """What was held back, at the end of the input."""
        held, self._held = self.keys[: self._held], 0
        return held


def parse_detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q``, single characters or ``DEL``; ``ValueError`` for anything else."""
    out = bytearray()
    for word in text.split(","):
        if len(word) == 1:
            out += word.encode()
        elif word.startswith("ctrl-") and len(word) == 6:
            char = word[5]
            index = "@abcdefghijklmnopqrstuvwxyz[\\]^_".find(char)
            if index < 0:
                raise ValueError(f"unknown character in detach keys: '{char}'")
            out.append(index)
        elif word == "DEL":
            out.append(0x7F)
        else:
            raise ValueError(f"unknown detach key: '{word}'")
    return bytes(out)


class _Wakeup:
    """A pipe that a signal makes readable.

    A handler runs between two steps of the interpreter. A signal that comes after
    the last of them and before recv(2) sleeps would wait for the next output;
    while the input thread starts and both want the interpreter that is long.
    """

    __slots__ = ("_write", "fd")

    def __enter__(self) -> _Wakeup:
        self.fd, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        raw.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        raw.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write)

    def drain(self) -> None:
        """Take out what woke us; the handlers run by themselves."""
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:
            return


class Pump:
    """Moves one hijacked connection's bytes until it ends or the user detaches."""

    __slots__ = ("_keys", "_sink", "connection", "detached", "stdin")

    def __init__(
        self,
        connection: Connection,
        sink: Demux | Raw,
        *,
        stdin: int | None = None,
        detach_keys: bytes = b"",
    ) -> None:
        self.connection = connection
        self._sink = sink
        self.stdin = stdin
        self._keys = DetachFilter(detach_keys) if detach_keys else None
        self.detached = False

    def run(self) -> None:
        """Returns at the end of the output. Call it in the main thread (signals run here)."""
        if self.stdin is not None:
            _thread.start_new_thread(self._input, (self.stdin,))
        else:
            self.connection.shutdown_write()
        self._output()

    def _output(self) -> None:
        feed = self._sink.feed
        if left := self.connection.leftover():
            feed(left)
        view = memoryview(bytearray(_FIRST_BUFFER))
        sock = self.connection.sock
        with _Wakeup() as wakeup:
            poller = select.poll()
            poller.register(sock.fileno(), select.POLLIN)
            poller.register(wakeup.fd, select.POLLIN)
            while True:
                if any(fd == wakeup.fd for fd, _ in poller.poll()):
                    wakeup.drain()
                    continue
                try:
                    size = sock.recv_into(view)
                except OSError as error:
                    if error.errno != errno.ECONNRESET:
                        raise
                    size = 0
                if not size:
                    break
                feed(view[:size])
                if size == len(view) < BUFFER:
                    view = memoryview(bytearray(BUFFER))
        if not self.detached and not self._sink.complete:
            raise BrokenReply("the container's output is cut short: the daemon went away")

    def _input(self, fd: int) -> None:
        send = self.connection.sock.sendall
        view = memoryview(bytearray(BUFFER))
        # Handlers run in the main thread only: a signal taken here would leave it asleep.
        raw.pthread_sigmask(raw.SIG_BLOCK, raw.valid_signals())
        try:
            while size := _read_some(fd, view):
                if self._keys is None:
                    send(view[:size])
                    continue
                forward, detach = self._keys.feed(bytes(view[:size]))
                if forward:
                    send(forward)
                if detach:
                    self.detached = True
                    self.connection.shutdown()
                    return
            if self._keys is not None and (held := self._keys.flush()):
                send(held)
            self.connection.shutdown_write()
        except OSError:
            # The container ended or closed its input: the output side tells the story.
            return


def _read_some(fd: int, view: memoryview) -> int:
    while True:
        try:
            return os.readv(fd, [view])
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            poller.poll()
        except OSError as error:
            if error.errno == errno.EIO:  # the terminal went away
                return 0
            raise


def copy_body(chunks: Iterable[bytes], sink: Demux | Raw) -> None:
    """A response body (logs) through ``sink``."""
    for piece in chunks:
        sink.feed(piece)
    if not sink.complete:
        raise BrokenReply("the log stream is cut short")
