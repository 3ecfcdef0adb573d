"""The client of one daemon: requests in, JSON out, errors as exceptions."""

from __future__ import annotations

import errno
from time import monotonic

from rootless.client import lightos as os
from rootless.client import paths
from rootless.client.endpoint import Endpoint, Where, choose
from rootless.client.http import ApiError, Connection, Response, query, quote
from rootless.errors import InvalidInput, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

_FRESH = 2.0
"""Seconds for which a connection without a request is used."""

__all__ = ["Client", "query", "quote"]


class Client:
    """Speaks to the daemon at ``endpoint``, or to the one that :func:`choose` names.

    The user's own is started on demand.
    """

    __slots__ = ("_ahead", "_checked", "_fresh_until", "_idle", "_made", "autostart", "endpoint")

    def __init__(self, endpoint: Endpoint | str | None = None, *, autostart: bool = True) -> None:
        if not isinstance(endpoint, Endpoint):
            endpoint = choose(Where(endpoint or ""))
        self.endpoint = endpoint
        self.autostart = autostart and endpoint.own
        self._checked = not endpoint.source
        self._idle: Connection | None = None
        self._made: list[Connection] = []
        self._ahead: list[Connection] = []
        self._fresh_until = 0.0

    def connect_ahead(self, count: int) -> None:
        """Connect before there is anything to say: the daemon has its share of it done meanwhile.

        Nothing is started or reported here; who needs a connection that is missing does that.
        """
        self._fresh_until = monotonic() + _FRESH
        try:
            for _ in range(count if self._checked and self.endpoint.path else 0):
                self._ahead.append(self._made_known(Connection(self.endpoint.path)))
        except OSError:
            return

    def _take_ahead(self) -> Connection | None:
        """One of them that is fresh: the daemon ends what nothing is asked on during a pull."""
        while self._ahead:
            connection = self._ahead.pop(0)
            if monotonic() < self._fresh_until:
                return connection
            connection.close()
        return None

    def connect(self) -> Connection:
        """A new connection; ``close`` ends it with the others."""
        if not self._checked:
            self._checked = True
            self._check_server()
        connection = self._take_ahead() or self._made_known(self._connect())
        self._made.append(connection)
        return connection

    def _made_known(self, connection: Connection) -> Connection:
        connection.headers = self.endpoint.headers
        return connection

    def _connect(self) -> Connection:
        path = self.endpoint.path
        if not path:
            from rootless.client.remote import dial

            return Connection(self.endpoint.host, *dial(self.endpoint))
        try:
            if self.autostart:
                try:
                    return Connection(path)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                        raise
                from rootless.client.autostart import connect_or_start

                return connect_or_start(path)
            return Connection(path)
        except OSError as error:
            raise _unreachable(path, error) from None

    def _check_server(self) -> None:
        """Docker's own settings mostly name Docker, where a container would have root."""
        connection = self._made_known(self._connect())
        try:
            connection.send("GET", "/_ping")
            server = connection.response().headers.get("server", "")
        finally:
            connection.close()
        if not server.startswith("Rootless/"):
            raise InvalidInput(
                f"{self.endpoint.source} names {self.endpoint.host}, which is not this engine "
                f"but {server or 'one that gives no name'}",
                hint="docker speaks to that one, and --host or --context insist on it; your own "
                f"daemon: export ROOTLESS_HOST=unix://{paths.default_socket()}",
            )

    def sibling(self) -> Client:
        """Another client of the same daemon, which is not started any more."""
        return Client(self.endpoint, autostart=False)

    def checkout(self) -> Connection:
        """The idle connection, or a new one."""
        idle, self._idle = self._idle, None
        return idle or self.connect()

    def give_back(self, response: Response) -> None:
        """Keep a connection whose response is read, for the next request."""
        if response.reusable and self._idle is None:
            self._idle = response.connection
        else:
            response.connection.close()

    def close(self) -> None:
        """Close every connection that was made; a later request makes a new one."""
        self._idle = None
        for connections in (self._ahead, self._made):
            while connections:
                connections.pop().close()

    def open(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        upload: Iterable[bytes | memoryview] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Response:
        """Send a request and return the checked response, its body unread.

        ``meanwhile`` is called while the daemon works.
        """
        connection = self.checkout()
        try:
            connection.send(method, target, body, headers=headers, upload=upload)
            if meanwhile is not None:
                meanwhile()
            return connection.response().check()
        except OSError as error:
            connection.close()
            raise _unreachable(self.endpoint.path or self.endpoint.host, error) from None
        except BaseException:
            connection.close()
            raise

    def open_head(self, target: str) -> Response:
        """HEAD: only status and headers."""
        connection = self.connect()
        try:
            connection.send("HEAD", target)
            response = connection.response()
            if response.status >= 400:
                # No body comes with HEAD: ask again for the reason.
                self.open("GET", target).connection.close()
                raise ApiError(response.status, f"the daemon answered {response.status}")
        finally:
            connection.close()
        return response

    def request(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        upload: Iterable[bytes | memoryview] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Any:
        """Send a request and return its JSON (None without a body); see :meth:`open`."""
        response = self.open(
            method, target, body, headers=headers, upload=upload, meanwhile=meanwhile
        )
        try:
            value = response.json()
        except BaseException:
            response.connection.close()
            raise
        self.give_back(response)
        return value

    def get(self, target: str) -> Any:
        """GET, as JSON."""
        return self.request("GET", target)

    def post(self, target: str, body: object = None) -> Any:
        """POST, answer as JSON."""
        return self.request("POST", target, body)

    def delete(self, target: str) -> Any:
        """DELETE, answer as JSON."""
        return self.request("DELETE", target)

    def hijack(self, target: str, body: object = None) -> Connection:
        """POST with ``Upgrade: tcp``; the connection is a byte stream afterwards."""
        connection = self.connect()
        try:
            start_hijack(connection, target, body)
            finish_hijack(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def start_hijack(connection: Connection, target: str, body: object = None) -> None:
    """Ask for an upgrade without waiting for the answer."""
    connection.send("POST", target, body, headers=(("Connection", "Upgrade"), ("Upgrade", "tcp")))


def finish_hijack(connection: Connection) -> Response:
    """Read the answer to ``start_hijack``: 101, or 200 from servers of old."""
    return connection.response().check()


def _unreachable(path: str, error: OSError) -> Unavailable:
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
        return Unavailable(
            f"cannot connect to the daemon at unix://{path}: is it running?",
            hint="start it with `rootlessd`, or leave out --host, --context, ROOTLESS_HOST and "
            "DOCKER_HOST",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unavailable(
            f"permission denied on the daemon's socket {path}",
            hint="each user has a daemon of their own; do not use another user's socket",
        )
    if error.errno is None or error.errno == 0 or "too long" in str(error):
        return Unavailable(
            f"the socket path is too long (107 bytes at most, unix(7)): {path}",
            hint="set XDG_RUNTIME_DIR to a shorter path",
        )
    return Unavailable(f"lost the connection to the daemon at {path}: {os.strerror(error.errno)}")
