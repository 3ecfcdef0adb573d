"""A scripted HTTP peer on a Unix socket: it says exactly the bytes a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

Handler = Callable[[socket.socket, bytes], None]


def read_request(peer: socket.socket) -> bytes:
    """A request's head, and its body when it has a Content-Length; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = peer.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while len(body) < int(value):
                body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


def reply(body: str, status: str = "200 OK") -> bytes:
    """A JSON answer."""
    data = body.encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(data), data)


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """The path of a socket where each request of each connection goes to ``handler``."""
    failures: list[BaseException] = []
    with TemporaryDirectory(prefix="cli-") as directory:
        path = str(Path(directory) / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(16)
        threads: list[threading.Thread] = []

        def serve(peer: socket.socket) -> None:
            with peer:
                try:
                    while request := read_request(peer):
                        handler(peer, request)
                except (BrokenPipeError, ConnectionResetError):
                    return  # the client had enough
                except OSError as error:
                    if peer.fileno() >= 0:
                        failures.append(error)
                except BaseException as error:  # shown by the test below
                    failures.append(error)

        def accept() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=serve, args=(peer,))
                threads.append(thread)
                thread.start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield path
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            acceptor.join()
            for thread in threads:
                thread.join(10)
    if failures:
        raise failures[0]
