"""The application: from a parsed request to its handler and back.

Everything every request goes through is in :meth:`Api.handle`, in order: where
it comes from, which API version it speaks, which row serves it, what its error
means. There are no middlewares; this is on the path of each command.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from rootless import __version__
from rootless.api.call import ApiConfig, Call, json_bytes
from rootless.api.errors import HttpError, status_and_message
from rootless.api.fields import check_query, warning_header
from rootless.api.http import Connection, Runner, Server, listen
from rootless.api.router import Route, Router
from rootless.api.routes.table import ROUTES
from rootless.api.tls import Credentials
from rootless.api.versions import API_VERSION, parse_version
from rootless.engine.interface import Engine
from rootless.engine.turns import Turns
from rootless.errors import Denied, InvalidInput
from rootless.model.identity import Identity

_log = logging.getLogger(__name__)
_VERSIONED = re.compile(r"/v([0-9][0-9.]*)(/.*)", re.DOTALL)
_ADDRESS = re.compile(r"127(?:\.\d{1,3}){3}|\[::1\]")
_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_CURRENT = parse_version(API_VERSION)


def _own_host(host: str) -> bool:
    """True for a Host no DNS server can have made point here.

    A page that rebinds its name to a forwarded port sends its own name. Names
    without a dot and ``*.localhost`` (RFC 6761) stay on this machine; the
    docker CLI sends ``api.moby.localhost``, older ones the socket's path.
    """
    if host.startswith(("/", "%2F", "%2f")):
        return True
    name = host.lower()
    if not name.startswith("["):
        name = name.partition(":")[0]
    elif "]" in name:
        name = name[: name.index("]") + 1]
    if _ADDRESS.fullmatch(name):
        return True
    return name.endswith(".localhost") or ("." not in name and not name.startswith("["))


def _check_target(request: BaseRequest) -> None:
    """Refuse what is no text in the path and its parameters."""
    raw = request.raw_path
    if "%" in raw and (wrong := _NO_ESCAPE.search(raw)) is not None:
        raise InvalidInput(f'invalid URL escape "{wrong[0]}"')
    if "\0" in request.path or "%00" in request.rel_url.raw_query_string:
        raise InvalidInput("the path and its parameters must not contain NUL")


def _gone(request: BaseRequest) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()


class Api:
    """The Docker Engine API of one engine."""

    def __init__(self, engine: Engine, config: ApiConfig) -> None:
        self._engine = engine
        self._config = config
        self._router = Router(ROUTES)
        self._users = frozenset((0, os.getuid()))
        self._turns = Turns()
        self._least = parse_version(config.min_version)
        self.headers: Mapping[str, str] = {
            "Api-Version": API_VERSION,
            "Docker-Experimental": str(config.experimental).lower(),
            "Ostype": "linux",
            "Server": config.server,
        }

    def error_response(self, status: int, message: str) -> Response:
        """``{"message": …}`` with the headers every answer has."""
        if status == 304:
            return Response(status=status, headers=self.headers)
        # Messages quote what the client sent, which may be no text.
        readable = message.encode("utf-8", "backslashreplace").decode()
        body = json_bytes({"message": readable}) + b"\n"
        headers = {**self.headers, "Content-Type": "application/json"}
        return Response(status=status, body=body, headers=headers)

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer one request."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.disconnect = "finish"
        try:
            self._check_origin(request, connection.identity)
            _check_target(request)
            if request.method == "OPTIONS" and request.path.startswith("/"):
                return Response(headers=self.headers)
            call_path, version_text = self._split(request.path)
            found = self._router.find(request.method, call_path)
            if found is None:
                raise HttpError(404, "page not found")
            route, fields = found
            version = _CURRENT if version_text is None else parse_version(version_text, self._least)
            identity = self._check_user(connection.identity)
            if _log.isEnabledFor(logging.DEBUG):
                # Without its query, which may hold what only its sender should know.
                who = f"{identity.source} {identity.uri or identity.name}"
                _log.debug("%s %s by %s", request.method, request.path, who)
            call = Call(
                request,
                engine=self._engine,
                identity=identity,
                fields=fields,
                query=route.query,
                version=version,
                config=self._config,
                common_headers=self.headers,
            )
            connection.disconnect = route.disconnect
            if request.query_string:
                call.warnings += check_query(route.query, request.query.items(), version)
            if request.headers.get("Expect", "").lower() == "100-continue":
                await self._continue(request)
            response = await self._answer(route, call)
        except Exception as error:
            if isinstance(error, ConnectionError) and _gone(request):
                raise
            if connection.hijacked or request.writer.output_size > 0:
                # The status is out; cutting the stream short is all that tells the client.
                status_and_message(error, during=f"{request.method} {request.path}")
                raise ConnectionResetError("stream failed") from error
            response = self._error(request, error)
        if connection.exhausted:
            response.force_close()
        if not response.prepared:
            for name, value in self.headers.items():
                response.headers.setdefault(name, value)
        return response

    async def _answer(self, route: Route, call: Call) -> StreamResponse:
        if call.request.method != "GET":
            await self._turns.take()
        response = await route.handler(call)
        if call.warnings and not response.prepared:
            response.headers["Warning"] = warning_header(call.warnings)
        return response

    def _error(self, request: BaseRequest, error: Exception) -> Response:
        during = f"{request.method} {request.path}"
        status, message = status_and_message(error, during=during)
        response = self.error_response(status, message)
        if not request.content.is_eof():
            # Do not read the rest of a body nobody wants, however long it is.
            response.force_close()
        return response

    @staticmethod
    async def _continue(request: BaseRequest) -> None:
        transport = request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_user(self, identity: Identity | None) -> Identity:
        """Refuse other users whatever the socket's mode is: the engine acts as its own user.

        Among them are the ids of containers. Root of the host may anyway, and the members
        of the group that the daemon's configuration names.
        """
        if identity is None:
            raise Denied("the client has no identity: no certificate was presented")
        if identity.source != "unix" or identity.uid in self._users:
            return identity
        if self._config.group is None or self._config.group not in identity.groups:
            raise Denied(
                f"this engine is another user's: uid {identity.uid} connected",
                hint="start an engine of your own: rootless version",
            )
        return identity

    @staticmethod
    def _check_origin(request: BaseRequest, identity: Identity | None) -> None:
        host = request.headers.get("Host", "")
        # Over TLS the name was checked by the client, against the daemon's certificate.
        if not _own_host(host) and (identity is None or identity.source != "certificate"):
            raise Denied(f"requests for host {host!r} are refused", hint="use Host: localhost")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Denied(f"requests from web pages of {origin!r} are refused")

    @staticmethod
    def _split(path: str) -> tuple[str, str | None]:
        """The path without its version, and the version as it was written."""
        if "//" in path:
            # A name as inspect gives it: /containers//name/json.
            path = re.sub("//+", "/", path)
        match = _VERSIONED.fullmatch(path)
        return (path, None) if match is None else (match[2], match[1])


def make_app(engine: Engine, *, config: ApiConfig | None = None) -> Api:
    """The application for an engine."""
    return Api(engine, config or ApiConfig(server=f"Rootless/{__version__} (linux)"))


async def serve(
    app: Api, sockets: list[socket.socket], *, tls: Credentials | None = None
) -> Runner:
    """Serve on sockets that are bound (and perhaps listening); ``Runner.close`` ends it.

    ``tls`` as in :func:`rootless.api.http.listen`.
    """
    return await listen(Server(app.handle, app.error_response), sockets, tls)
