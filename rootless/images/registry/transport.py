"""HTTP to one registry: authorisation, redirects, and bounds on what is believed."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment as getproxies
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # the stubs leave it out

from rootless.errors import InvalidInput, Unauthorized, Unavailable
from rootless.images.registry import challenge
from rootless.images.registry.challenge import Challenge
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.settings import (
    Endpoint,
    RegistrySettings,
    hostname,
    is_loopback,
    tls_context,
)

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

_MAX_TOKEN_ANSWER = 1 << 20
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_CONNECT_SECONDS = 30
_SILENCE_SECONDS = 120
_HEAD_SECONDS = 120
"""For the head of an answer to a request without a body: interim answers (100 Continue) may
come without end, and each of them breaks the silence."""

Body = Callable[[], Any]


async def read_bounded(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """The whole body, refused above ``limit`` bytes before more of it is read."""
    parts = []
    total = 0
    async for part in response.content.iter_any():
        total += len(part)
        if total > limit:
            raise InvalidInput(f"{what} refused: it is larger than {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def reason(error: BaseException) -> str:
    """What ``error`` says, as one short line: it may quote what the other side sent."""
    text = str(error).partition("\n")[0].strip() or type(error).__name__
    return "".join(c for c in text if c.isprintable())[:200]


def origin(url: URL) -> tuple[str, str, int]:
    """Scheme, host, port: what an Authorization header belongs to."""
    return (url.scheme, url.host or "", url.port or 0)


class Transport:
    """A session to the endpoints of one registry; an async context manager.

    An Authorization header only ever goes to the origin it was made for.
    """

    def __init__(self, settings: RegistrySettings, credentials: Credentials | None) -> None:
        self._settings = settings
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._authorization: dict[tuple[str, tuple[str, ...]], str] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}

    async def __aenter__(self) -> Transport:
        import aiohttp

        from rootless.images.registry.connections import Connector

        self._session = aiohttp.ClientSession(
            connector=Connector(),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
            ),
            headers={"User-Agent": self._settings.user_agent, "Accept-Encoding": "identity"},
            read_bufsize=1 << 20,
            trust_env=False,  # it would also read ~/.netrc; proxies are set per request
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # One request -----------------------------------------------------------

    def _tls(self, url: URL, endpoint: Endpoint) -> ssl.SSLContext:
        authority = url.authority
        verify = endpoint.verify or authority != endpoint.host
        key = (authority, verify)
        if key not in self._contexts:
            self._contexts[key] = tls_context(authority, self._settings, verify=verify)
        return self._contexts[key]

    async def _send(
        self,
        endpoint: Endpoint,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> aiohttp.ClientResponse:
        import aiohttp

        assert self._session is not None
        proxy = proxy_for(url, self._settings.proxies)
        # Without a context aiohttp would trust nobody (daemon.main), a proxy of https neither.
        secure = url.scheme == "https" or (proxy or "").startswith("https:")
        try:
            async with asyncio.timeout(_HEAD_SECONDS if body is None else None):
                return await self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body() if body is not None else None,
                    allow_redirects=False,
                    ssl=self._tls(url, endpoint) if secure else True,
                    proxy=proxy,
                )
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unavailable(
                f"{method} {_public(url)}: {error.certificate_error}",
                hint=f"put its CA into ~/.config/rootless/certs.d/{url.authority}/ca.crt",
                context={"tls": True},
            ) from error
        except aiohttp.ClientSSLError as error:
            raise Unavailable(f"{method} {_public(url)}: {error}", context={"tls": True}) from error
        except aiohttp.ClientConnectorError as error:
            code = error.os_error.errno
            # Resolvers have numbers of their own, below zero (getaddrinfo(3)), and clear words.
            text = error.os_error.strerror or str(error.os_error)
            if code and code > 0:
                text = os.strerror(code)
            raise Unavailable(
                f"{method} {_public(url)}: cannot connect to {url.authority}: {text}",
                hint="check the registry's name and that it runs",
            ) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{method} {_public(url)}: {reason(error)}") from error

    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        *,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request; the caller releases the response.

        ``url`` is absolute or a path on ``endpoint``.  A 401 is answered once with
        credentials; redirects of GET and HEAD are followed, without the
        Authorization header as soon as the origin changes, and never from
        https to http.  ``body`` makes the body anew for each try.
        """
        from yarl import URL

        home = origin(URL(endpoint.base))
        target = _secured(URL(endpoint.base).join(URL(url, encoded=True)), endpoint)
        challenged = False
        hops = 0
        while True:
            sent = dict(headers or {})
            at_home = origin(target) == home
            authorization = self._authorization.get((endpoint.base, scopes))
            if at_home and authorization:
                sent["Authorization"] = authorization
            response = await self._send(endpoint, method, target, sent, body)
            if response.status == 401 and at_home and not challenged:
                challenged = True
                wanted = _challenges(response)
                response.release()
                await self._authorize(endpoint, wanted, scopes)
                continue
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            location = response.headers.get("Location", "")
            response.release()
            hops += 1
            target = self._redirect(target, location, hops)

    @staticmethod
    def _redirect(current: URL, location: str, hops: int) -> URL:
        from yarl import URL

        try:
            target = current.join(URL(location, encoded=True))
            origin(target)  # reads the port, which may be none
        except ValueError as error:
            raise Unavailable(f"{_public(current)}: invalid redirect") from error
        if not location or hops > _MAX_REDIRECTS:
            raise Unavailable(f"{_public(current)}: too many redirects or one without a target")
        allowed = ("https",) if current.scheme == "https" else ("http", "https")
        if target.scheme not in allowed:
            raise Unavailable(
                f"{_public(current)}: redirect from {current.scheme} to {target.scheme} refused"
            )
        return target

    # Authorisation ---------------------------------------------------------

    async def _authorize(
        self, endpoint: Endpoint, wanted: tuple[Challenge, ...], scopes: tuple[str, ...]
    ) -> None:
        """Fill the Authorization header for ``scopes`` from the registry's challenges."""
        credentials = self._credentials if not endpoint.mirror else None
        key = (endpoint.base, scopes)
        bearer = next((c for c in wanted if c.scheme == "bearer"), None)
        if bearer is not None:
            if credentials is not None and credentials.registry_token:
                self._authorization[key] = f"Bearer {credentials.registry_token}"
                return
            token = await self._token(endpoint, bearer, scopes, credentials)
            self._authorization[key] = f"Bearer {token}"
            return
        if any(c.scheme == "basic" for c in wanted):
            if credentials is None or not credentials.username:
                raise Unauthorized(
                    "no basic auth credentials", hint=f"docker login {endpoint.host}"
                )
            self._authorization[key] = credentials.basic
            return
        raise Unauthorized(f"{endpoint.host} asks for an unsupported kind of authentication")

    async def _token(
        self,
        endpoint: Endpoint,
        bearer: Challenge,
        scopes: tuple[str, ...],
        credentials: Credentials | None,
    ) -> str:
        """A bearer token (distribution's token and oauth2 specifications)."""
        from yarl import URL

        try:
            realm = URL(bearer.get("realm"))
            origin(realm)
        except ValueError:
            raise Unauthorized(
                f"{endpoint.host} names a token server with an invalid address"
            ) from None
        if realm.scheme != "https" and not (realm.scheme == "http" and endpoint.scheme == "http"):
            raise Unauthorized(
                f"{endpoint.host} names the token server '{realm}', which is not https",
                hint="credentials are not sent there",
            )
        wanted = scopes or tuple(bearer.get("scope").split())
        headers: dict[str, str] = {}
        if credentials is not None and credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "service": bearer.get("service"),
                "client_id": "rootless",
                "refresh_token": credentials.identity_token,
                "scope": " ".join(wanted),
            }
            response = await self._send(endpoint, "POST", realm, headers, lambda: form)
        else:
            query = [("service", bearer.get("service"))] if bearer.get("service") else []
            query += [("scope", scope) for scope in wanted]
            if credentials is not None and credentials.username:
                headers["Authorization"] = credentials.basic
                query.append(("account", credentials.username))
            url = realm.update_query([*realm.query.items(), *query])
            response = await self._send(endpoint, "GET", url, headers, None)
        try:
            if response.status != 200:
                raise Unauthorized(
                    f"unauthorized: authentication at {realm.host} failed with status "
                    f"{response.status}",
                    hint=f"docker login {endpoint.host}",
                    context={"status": response.status},
                )
            return _token_of(await read_bounded(response, _MAX_TOKEN_ANSWER, "token"), realm.host)
        finally:
            response.release()


def _secured(target: URL, endpoint: Endpoint) -> URL:
    """``target``, which may be a Location for an upload, without a way down from TLS."""
    from yarl import URL

    if endpoint.scheme != "https" or target.scheme == "https":
        return target
    if target.scheme == "http" and target.host == hostname(endpoint.host):
        # A registry behind a proxy that ends TLS often does not know its own scheme.
        return URL(endpoint.base).join(target.relative())
    raise Unavailable(f"{endpoint.base} names {_public(target)}, which is not https")


def _token_of(data: bytes, host: str | None) -> str:
    try:
        body = json.loads(data)
        token = body.get("token") or body.get("access_token")
    except (ValueError, AttributeError, RecursionError) as error:
        raise Unauthorized(f"the token server {host} gave an unreadable answer") from error
    if not isinstance(token, str) or not token.isprintable():
        raise Unauthorized(f"the token server {host} gave no token")
    return token


def _challenges(response: aiohttp.ClientResponse) -> tuple[Challenge, ...]:
    values = response.headers.getall("WWW-Authenticate", [])
    return tuple(found for value in values for found in challenge.parse(value))


def _public(url: URL) -> str:
    """``url`` for messages: queries carry signatures of storage services."""
    return str(url.with_query(None).with_user(None))


def proxy_for(url: URL, configured: tuple[tuple[str, str], ...] = ()) -> str | None:
    """The proxy for ``url``; loopback is never proxied (as Go's httpproxy).

    Each of ``configured`` (http-proxy, https-proxy, no-proxy) stands before the
    variable of the environment with the same meaning, as in Docker.
    """
    host = url.host or ""
    proxies = getproxies()
    proxies.update({key.removesuffix("-proxy"): value for key, value in configured if value})
    if is_loopback(host) or proxy_bypass_environment(host, proxies):
        return None
    return proxies.get(url.scheme)
