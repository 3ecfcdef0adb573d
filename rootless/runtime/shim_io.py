"""The shim's event loop: streams of the process, attached clients, and questions.

Clients connect to ``shim.sock`` and send one line of JSON:

``{"op":"attach","stdin":true,"stdout":true,"stderr":true}``
    answered by ``{"ok":true,"time_ns":…}`` (what has a later time in the log is
    delivered) and then framed both ways. A frame is Docker's:
    one byte of type, three of zero, four of length (big endian), payload.
    Types to the client: 1 stdout, 2 stderr. From the client: 0 stdin, 3 end of
    stdin, 4 resize (two 16-bit numbers, rows and columns).
``{"op":"wait"}``
    answered at the process' end with ``exit.json``'s content, and before that with
    lines ``{"log":"…"}`` about the log, should it fail.
``{"op":"signal","signum":15}``, ``{"op":"resize","rows":…,"columns":…}``
    answered at once.

Nothing is dropped: when a mebibyte waits for every client that is sent output, no
more is read of the process', which then blocks in write(2), as it would on a pipe
to them. So the fastest sets the pace. What comes meanwhile for one that is slower
waits on disk (``shim_spool``); one that is too far behind is told so and closed.

Who has asked before the program was let go gets all of its output, without
waiting for the answer: questions are heard before output is read.
"""

from __future__ import annotations

import errno
import json
import os
import select
import struct
import time
from collections import deque
from collections.abc import Callable

from rootless.linux import bare
from rootless.runtime.shim_lines import Log
from rootless.runtime.shim_peer import HEADER, HIGH_WATER, Client

_CHUNK = 1 << 16
_LAST = 1 << 20
"""Bytes read of an output after the process' end: what a pipe holds (pipe(7), pipe-max-size)."""
_MAX_LINE = 4096
_LOG_SECONDS = 10.0
"""How long a slow log holds up the end, as in Docker."""
_STALL_SECONDS = 0.05
"""A client that takes nothing for so long holds up nothing else of the end."""
_MAX_FRAME = 1 << 20
_WAIT = b'{"op": "wait"}'
"""What every daemon asks, known without the JSON decoder and the memory it would take."""
STDIN, STDOUT, STDERR, CLOSE_STDIN, RESIZE = 0, 1, 2, 3, 4
READ, WRITE = select.EPOLLIN, select.EPOLLOUT

Handler = Callable[[int], None]


class Pump:
    """Moves bytes between one process and its clients; single-threaded."""

    def __init__(self, listener: bare.RawSocket, *, stdin_once: bool) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._events: dict[int, int] = {}
        self.listener = listener
        self.log: Log | None = None
        self.open_log: Callable[[], Log] | None = None
        """Makes :attr:`log` when there is something to record."""
        self.log_full = False
        self.notice = b""
        """What waiting clients are told before the end: a line of JSON."""
        self.stdin_once = stdin_once
        self.clients: set[Client] = set()
        self.outputs: dict[int, int] = {}
        self.stdin = -1
        self.stdin_queue: deque[memoryview] = deque()
        self.stdin_pending = 0
        self.stdin_closing = False
        self.terminal = -1
        self.resize: Callable[[int, int], None] | None = None
        self.send_signal: Callable[[int], None] | None = None
        self.exit_text: bytes | None = None
        self._paused: set[int] = set()
        listener.setblocking(False)
        self.watch(listener.fileno(), READ, self._accept)

    # -- registration ------------------------------------------------------

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` with the events of ``fd``; changes an earlier registration."""
        if fd not in self._handlers:
            self._epoll.register(fd, events)
        elif self._events[fd] != events:
            self._epoll.modify(fd, events)
        self._handlers[fd] = handler
        self._events[fd] = events

    def watches(self, fd: int) -> bool:
        """Whether events of ``fd`` are handled."""
        return fd in self._handlers

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def add_output(self, fd: int, stream: int) -> None:
        """Read the process' stream from ``fd``."""
        os.set_blocking(fd, False)
        self.outputs[fd] = stream
        self._update_output(fd)

    def set_stdin(self, fd: int, *, terminal: bool) -> None:
        """Write the process' input to ``fd``; a terminal's master is output as well."""
        os.set_blocking(fd, False)
        self.stdin = fd
        if terminal:
            self.terminal = fd

    # -- the loop ----------------------------------------------------------

    def step(self, timeout: float | None = None) -> bool:
        """Wait for events once and handle them, new clients first; False when there were none."""
        accepts = self.listener.fileno()
        happened = sorted(self._epoll.poll(timeout), key=lambda event: event[0] != accepts)
        for fd, events in happened:
            handler = self._handlers.get(fd)
            if handler is not None:
                # A hang-up or an error is found out by reading.
                handler(READ | events & WRITE if events & ~(READ | WRITE) else events)
        return bool(happened)

    # -- output of the process ---------------------------------------------

    def _read_output(self, fd: int, *, spill: bool = True) -> int:
        """Read one chunk and return its size; 0 when there is nothing more now."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose last slave closed says EIO
                raise
            data = b""
        if not data:
            self._end_output(fd)
            return 0
        stream = self.outputs[fd]
        if self.log is None and self.open_log is not None:
            self.log = self.open_log()
        full = self.log_full = self.log is not None and self.log.write(stream, data)
        header = HEADER.pack(stream, len(data))
        for client in list(self.clients):
            if stream in client.streams and client.reads():
                self._enqueue(client, header, data, spill=spill)
        readers = self._readers()
        if full or (readers and all(client.is_full() for client in readers)):
            self._pause_outputs()
        return len(data)

    def _readers(self) -> list[Client]:
        return [client for client in self.clients if client.reads()]

    def _end_output(self, fd: int) -> None:
        self.forget(fd)
        del self.outputs[fd]
        self._paused.discard(fd)
        if fd != self.terminal:
            os.close(fd)

    def _pause_outputs(self) -> None:
        for fd in self.outputs:
            if fd not in self._paused:
                self._paused.add(fd)
                self._update_output(fd)

    def _resume_outputs(self) -> None:
        if not self._paused or self.log_full:
            return
        readers = self._readers()
        if not readers or any(client.has_room() for client in readers):
            paused, self._paused = self._paused, set()
            for fd in paused:
                self._update_output(fd)

    def log_ready(self) -> None:
        """The log takes records again."""
        self.log_full = False
        self._resume_outputs()

    def _update_output(self, fd: int) -> None:
        events = 0 if fd in self._paused else READ
        if fd == self.terminal and self.stdin_queue:
            events |= WRITE
        if not events:
            self.forget(fd)
            return

        def handle(happened: int) -> None:
            if happened & WRITE:
                self._write_stdin()
            if happened & READ and fd in self.outputs:
                self._read_output(fd)

        self.watch(fd, events, handle)

    def drain_outputs(self) -> None:
        """After the process ended: take what is left in its pipes, waiting for no client.

        No more than that: other processes may go on writing for ever.
        """
        deadline = time.monotonic() + _LOG_SECONDS
        for fd in list(self.outputs):
            left = _LAST
            while fd in self.outputs and left > 0:
                if self.log is not None and self.log_full and time.monotonic() > deadline:
                    self.log.relent()
                    self.log_full = False
                if self.log_full:
                    self.step(1)
                    continue
                size = self._read_output(fd, spill=False)
                if not size:
                    break
                left -= size
        for fd in list(self.outputs):
            self._end_output(fd)

    # -- input of the process ----------------------------------------------

    def _feed(self, data: memoryview) -> None:
        if self.stdin < 0 or self.stdin_closing:
            return
        self.stdin_queue.append(data)
        self.stdin_pending += len(data)
        self._write_stdin()

    def _write_stdin(self) -> None:
        while self.stdin_queue:
            head = self.stdin_queue[0]
            try:
                count = os.write(self.stdin, head)
            except BlockingIOError:
                break
            except OSError:  # the reader is gone: what it did not take is nobody's
                self.stdin_queue.clear()
                self.stdin_pending = 0
                self._shut_stdin()
                break
            self.stdin_pending -= count
            if count == len(head):
                self.stdin_queue.popleft()
            else:
                self.stdin_queue[0] = head[count:]
        self._after_stdin()

    def _after_stdin(self) -> None:
        if self.stdin < 0:
            return
        if self.stdin == self.terminal:
            if self.terminal in self.outputs:
                self._update_output(self.terminal)
        elif self.stdin_queue:
            self.watch(self.stdin, WRITE, lambda _events: self._write_stdin())
        else:
            self.forget(self.stdin)
        if not self.stdin_queue and self.stdin_closing:
            self._shut_stdin()
        if self.stdin_pending <= HIGH_WATER // 2:
            for client in list(self.clients):
                self._update_client(client)

    def close_stdin(self) -> None:
        """Close the process' input once everything queued was written."""
        if self.terminal >= 0:
            return
        self.stdin_closing = True
        if not self.stdin_queue:
            self._shut_stdin()

    def _shut_stdin(self) -> None:
        if self.stdin >= 0 and self.stdin != self.terminal:
            self.forget(self.stdin)
            os.close(self.stdin)
        if self.stdin != self.terminal:
            self.stdin = -1

    # -- clients -----------------------------------------------------------

    def _accept(self, _events: int) -> None:
        """Take every new client, and what it has said already."""
        while True:
            try:
                fd = bare.accept(self.listener)
            except OSError:
                return
            os.set_blocking(fd, False)
            client = Client(fd)
            self.clients.add(client)
            self._update_client(client)
            self._client_readable(client)

    def _update_client(self, client: Client) -> None:
        if client not in self.clients:
            return
        events = WRITE if client.outgoing else 0
        full = client.feeds_stdin and self.stdin_pending > HIGH_WATER
        if not client.read_closed and not full and self.exit_text is None:
            events |= READ
        if not events and (client.read_closed or full):
            # Hang-ups are reported whatever is asked for (epoll_ctl(2)); a
            # client that is only waited for would spin, so it is left out.
            self.forget(client.fd)
            return
        self.watch(client.fd, events, lambda happened: self._client_event(client, happened))

    def _client_event(self, client: Client, events: int) -> None:
        if events & WRITE:
            self._flush(client)
        if events & READ and client in self.clients:
            self._client_readable(client)

    def _client_readable(self, client: Client) -> None:
        try:
            data = os.read(client.fd, _CHUNK * 4)
        except BlockingIOError:
            return
        except OSError:
            data = b""
            client.outgoing.clear()
        if not data:
            self._client_eof(client)
            return
        if client.attached:
            self._take_frames(client, data)
        else:
            self._parse_line(client, data)
        self._update_client(client)

    def _client_eof(self, client: Client) -> None:
        client.read_closed = True
        if client.feeds_stdin and self.stdin_once:
            self.close_stdin()
        self.drop(client)

    def drop(self, client: Client) -> None:
        """Close a client's connection."""
        if client in self.clients:
            self.clients.discard(client)
            self.forget(client.fd)
            client.close()
            self._resume_outputs()

    def _parse_line(self, client: Client, data: bytes) -> None:
        line, found, rest = (client.incoming + data).partition(b"\n")
        if not found:
            client.incoming = line
            if len(line) > _MAX_LINE:
                self.drop(client)
            return
        client.incoming = b""
        if line == _WAIT:
            self._wait(client)
            return
        try:
            request = json.loads(line)
            answer = self._answer(client, request)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            answer = {"ok": False, "error": f"bad request: {error}"}
        except OSError as error:
            answer = {"ok": False, "error": os.strerror(error.errno or 0), "errno": error.errno}
        if answer is not None:
            self._enqueue(client, json.dumps(answer).encode() + b"\n", b"")
        if client.attached:
            self._take_frames(client, rest)

    def _answer(self, client: Client, request: dict[str, object]) -> dict[str, object] | None:
        op = request["op"]
        if op == "attach":
            client.attached = True
            client.feeds_stdin = bool(request.get("stdin"))
            client.streams = {
                stream
                for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr"))
                if request.get(name)
            }
            if self.terminal >= 0 and client.streams:
                client.streams = {STDOUT}
        elif op == "wait":
            self._wait(client)
            return None
        elif op == "signal" and self.send_signal is not None:
            self.send_signal(int(str(request["signum"])))
        elif op == "resize":
            self._resize(int(str(request["rows"])), int(str(request["columns"])))
        else:
            raise ValueError(f"unknown op {op!r}")
        return {"ok": True, "time_ns": time.time_ns()}

    def _wait(self, client: Client) -> None:
        client.waiting = True
        if self.notice:
            self._enqueue(client, self.notice, b"")
        if self.exit_text is not None:
            self._enqueue(client, self.exit_text, b"")

    def notify(self, notice: bytes) -> None:
        """Tell whoever waits for the end, now or later, a line of JSON."""
        self.notice = notice
        for client in list(self.clients):
            if client.waiting:
                self._enqueue(client, notice, b"")

    def _take_frames(self, client: Client, data: bytes) -> None:
        """Act on what came; a frame of stdin is passed on as far as it is there."""
        view = memoryview(client.incoming + data if client.incoming else data)
        client.incoming = b""
        start = 0
        while start < len(view):
            if client.due:
                part = view[start : start + client.due]
                start += len(part)
                client.due -= len(part)
                if client.feeds_stdin:
                    self._feed(part)
                continue
            end = start + HEADER.size
            if end > len(view):
                break
            kind, length = HEADER.unpack_from(view, start)
            if length > (_MAX_FRAME if kind == STDIN else _MAX_LINE):
                self.drop(client)
                return
            if kind == STDIN:
                client.due = length
                start = end
                continue
            if end + length > len(view):
                break
            start = end + length
            if kind == CLOSE_STDIN and client.feeds_stdin:
                client.feeds_stdin = False
                if self.stdin_once:
                    self.close_stdin()
            elif kind == RESIZE and length == 4:
                self._resize(*struct.unpack(">HH", view[end:start]))
        client.incoming = bytes(view[start:])

    def _resize(self, rows: int, columns: int) -> None:
        if self.resize is not None:
            self.resize(rows, columns)

    def _enqueue(self, client: Client, header: bytes, data: bytes, *, spill: bool = False) -> None:
        try:
            client.send(header, data, spill=spill)
        except OSError:
            self.drop(client)
        else:
            if client.outgoing:
                self._update_client(client)

    def _flush(self, client: Client) -> None:
        try:
            client.flush()
        except OSError:
            self.drop(client)
            return
        if client.closing and not client.outgoing:
            self._client_eof(client)
            return
        self._update_client(client)
        self._resume_outputs()

    # -- the end -----------------------------------------------------------

    def finish(self, exit_text: bytes) -> None:
        """Tell waiters how the process ended, and send clients what is queued for them.

        One that does not read now is left to :meth:`linger`.
        """
        self.exit_text = exit_text
        # A connection that was not accepted yet is reset by this, and its owner
        # reads exit.json instead.
        self.forget(self.listener.fileno())
        self.listener.close()
        for client in list(self.clients):
            if client.waiting:
                self._enqueue(client, exit_text, b"")
            client.closing = True
            if client in self.clients and not client.outgoing:
                self.drop(client)
        while self.clients and self.step(_STALL_SECONDS):
            pass

    def linger(self) -> None:
        """Let every client that is left read what is queued for it."""
        while self.clients:
            self.step()
