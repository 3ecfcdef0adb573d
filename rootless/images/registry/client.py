"""The calls of the distribution API that an engine needs, for one repository.

OCI distribution spec 1.1; error codes in "Error Codes" there.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, urlencode

from rootless.errors import (
    Denied,
    InvalidInput,
    NotFound,
    RootlessError,
    Unauthorized,
    Unavailable,
)
from rootless.images.content import ContentStore, Ingest, digest_of
from rootless.images.manifest import ACCEPT, MAX_MANIFEST, Descriptor
from rootless.images.reference import Reference
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.progress import Meter
from rootless.images.registry.settings import Endpoint, RegistrySettings, endpoints
from rootless.images.registry.threads import in_thread
from rootless.images.registry.transport import Transport, read_bounded, reason

if TYPE_CHECKING:
    import aiohttp

_MAX_ERROR = 64 << 10
_WRITE = 1 << 20
_UPLOAD_PIECE = 1 << 20
_TAGS_PAGE = 1000
_MAX_TAGS = 100_000
_MAX_DELAY = 10.0
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Served:
    """A manifest as a registry served it."""

    data: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Answer:
    """A registry's error."""

    status: int
    code: str
    message: str


class _Retry(Exception):
    """Worth another attempt."""

    def __init__(self, cause: RootlessError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Repository:
    """One repository of one registry; an async context manager.

    The first request finds the endpoint that answers (mirrors, https, and http
    for an insecure registry) and the rest stay with it.
    """

    def __init__(
        self,
        reference: Reference,
        settings: RegistrySettings,
        credentials: Credentials | None,
        *,
        push: bool = False,
        mount_from: tuple[str, ...] = (),
    ) -> None:
        """``mount_from`` are paths of repositories blobs may be mounted from when pushing."""
        self.reference = reference
        self._settings = settings
        self._transport = Transport(settings, credentials)
        self._endpoints = endpoints(reference.domain, settings, push=push)
        actions = "pull,push" if push else "pull"
        others = tuple(f"repository:{path}:pull" for path in mount_from)
        self._scopes = (f"repository:{reference.path}:{actions}", *others)
        self._push = push

    async def __aenter__(self) -> Repository:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    # Plumbing --------------------------------------------------------------

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use (the first to be tried, before any answered)."""
        return self._endpoints[0]

    def _url(self, tail: str) -> str:
        return f"/v2/{self.reference.path}/{tail}"

    async def ping(self) -> None:
        """Find the endpoint that answers ``/v2/``; Unavailable when none does.

        Behind a mirror those that come after it stay known: it need not have every image.
        """
        failures: list[RootlessError] = []
        for index, endpoint in enumerate(self._endpoints):
            try:
                response = await self._transport.request(
                    endpoint, "GET", "/v2/", scopes=self._scopes
                )
            except Unavailable as error:
                failures.append(error)
                continue
            response.release()
            if response.status in (200, 401, 403):
                later = self._endpoints[index + 1 :] if endpoint.mirror else []
                self._endpoints = [endpoint, *later]
                return
            failures.append(
                Unavailable(f"GET {endpoint.base}/v2/: unexpected status {response.status}")
            )
        # An insecure registry has a TLS failure first and the plain one last: the last tells more.
        raise failures[-1]

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        return await self._transport.request(
            self.endpoint, method, url, scopes=self._scopes, headers=headers
        )

    async def _answer(self, response: aiohttp.ClientResponse) -> _Answer:
        data = b""
        try:
            data = await read_bounded(response, _MAX_ERROR, "error message")
            first = json.loads(data)["errors"][0]
            code, message = str(first.get("code", "")), str(first.get("message", ""))
        except (InvalidInput, ValueError, KeyError, IndexError, TypeError, AttributeError):
            code, message = "", data[:200].decode(errors="replace")
        except RecursionError:
            code, message = "", "unreadable error message"
        text = "".join(c for c in message if c.isprintable())[:500]
        return _Answer(response.status, code[:64], text)

    def _error(self, answer: _Answer, what: str) -> RootlessError:
        """What Docker says for a registry's error."""
        name = self.reference.familiar_name
        verb = "push" if self._push else "pull"
        detail = f"{answer.code.lower().replace('_', ' ')}: {answer.message}".strip(": ")
        if answer.status == 404 and answer.code == "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {self.reference.familiar} not found: {detail}")
        if answer.status == 404 and answer.code == "NAME_UNKNOWN" and not self._push:
            return NotFound(f"repository {name} not found: {detail}")
        if answer.status in (401, 403) or answer.code in ("NAME_UNKNOWN", "DENIED"):
            kinds: dict[int, type[RootlessError]] = {401: Unauthorized, 403: Denied}
            kind = kinds.get(answer.status, NotFound)
            text = f"{verb} access denied for {name}, repository does not exist or may require "
            if self._push:
                return kind(detail or "denied: requested access to the resource is denied")
            return kind(f"{text}'docker login': {detail or 'denied'}")
        if answer.status == 404:
            return NotFound(f"{what} not found: {detail or 'unknown'}")
        if answer.status == 429 or answer.status >= 500:
            return Unavailable(
                f"{what}: {self.reference.domain} answered with status {answer.status}"
                + (f": {detail}" if detail else "")
            )
        return InvalidInput(f"{what}: status {answer.status}" + (f": {detail}" if detail else ""))

    def _retryable(self, answer: _Answer, what: str) -> Exception:
        error = self._error(answer, what)
        return _Retry(error) if isinstance(error, Unavailable) else error

    async def _retrying(self, attempt: int, cause: RootlessError) -> None:
        """Wait before attempt number ``attempt`` + 1, or give up with ``cause``."""
        if attempt >= self._settings.attempts:
            raise cause
        await asyncio.sleep(min(_MAX_DELAY, self._settings.retry_delay * 2 ** (attempt - 1)))

    # Manifests --------------------------------------------------------------

    async def manifest(self, selector: str) -> Served:
        """The manifest for a tag or digest; verified when ``selector`` is a digest."""
        headers = {"Accept": ", ".join(ACCEPT)}
        url = self._url(f"manifests/{selector}")
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._request("GET", url, headers)
                return await self._manifest(response, selector)
            except _Retry as error:
                await self._retrying(attempt, error.cause)
            except Unavailable as error:
                await self._retrying(attempt, error)
            except NotFound:
                if not self.endpoint.mirror:
                    raise
                del self._endpoints[0]
                await self.ping()
                attempt = 0

    async def _manifest(self, response: aiohttp.ClientResponse, selector: str) -> Served:
        import aiohttp

        what = f"manifest {self.reference.familiar}"
        try:
            if response.status != 200:
                raise self._retryable(await self._answer(response), what)
            data = await read_bounded(response, MAX_MANIFEST, what)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Retry(Unavailable(f"{what}: {reason(error)}")) from error
        finally:
            response.release()
        digest = digest_of(data)
        if ":" in selector and digest != selector:
            raise InvalidInput(
                f"{what} refused: its content has digest {digest}, not {selector}",
                hint="the registry is damaged or tampered with",
            )
        return Served(data, response.headers.get("Content-Type", ""), digest)

    async def tags(self) -> tuple[str, ...]:
        """Every tag of the repository (distribution spec, "Listing tags"), page by page."""
        found: dict[str, None] = {}
        last = ""
        while True:
            tail = f"tags/list?n={_TAGS_PAGE}" + (f"&last={quote(last)}" if last else "")
            response = await self._request("GET", self._url(tail))
            what = f"tags of {self.reference.familiar_name}"
            try:
                if response.status != 200:
                    raise self._error(await self._answer(response), what)
                page = _tags(await read_bounded(response, MAX_MANIFEST, what), what)
                more = 'rel="next"' in response.headers.get("Link", "")
            finally:
                response.release()
            new = [tag for tag in page if tag not in found]
            found.update(dict.fromkeys(new))
            if len(found) > _MAX_TAGS:
                raise InvalidInput(f"{what} refused: there are more than {_MAX_TAGS}")
            # The page's address is our own: a Link may not lead elsewhere, nor in a circle.
            if not more or not new:
                return tuple(found)
            last = page[-1]

    async def put_manifest(self, selector: str, data: bytes, media_type: str) -> None:
        """Upload a manifest under a tag or digest."""
        response = await self._transport.request(
            self.endpoint,
            "PUT",
            self._url(f"manifests/{selector}"),
            scopes=self._scopes,
            headers={"Content-Type": media_type, "Content-Length": str(len(data))},
            body=lambda: data,
        )
        try:
            if response.status not in (200, 201, 202):
                raise self._error(await self._answer(response), f"manifest {selector}")
        finally:
            response.release()

    # Blobs, down -------------------------------------------------------------

    async def small_blob(self, blob: Descriptor, limit: int) -> bytes:
        """A blob of at most ``limit`` bytes, such as a config; verified."""
        what = f"blob {blob.digest}"
        response = await self._request("GET", self._url(f"blobs/{blob.digest}"))
        try:
            if response.status != 200:
                raise self._error(await self._answer(response), what)
            data = await read_bounded(response, limit, what)
        finally:
            response.release()
        if digest_of(data) != blob.digest:
            raise InvalidInput(f"{what} refused: its content has digest {digest_of(data)}")
        return data

    async def fetch(self, blob: Descriptor, store: ContentStore, meter: Meter) -> None:
        """Download ``blob`` into ``store``, resuming what an earlier attempt left."""
        attempt = furthest = 0
        with store.ingest(blob.digest, blob.size) as writer:
            while True:
                attempt += 1
                before = writer.offset
                try:
                    if writer.offset < blob.size or blob.size == 0:
                        await self._download(blob, writer, meter)
                    meter.status("Verifying Checksum")
                    await in_thread(writer.commit)
                    return
                except _Retry as error:
                    # Progress earns new attempts: a line that drops every 100 MB is slow, not dead.
                    # Beginning anew and getting as far as before is none.
                    attempt = 1 if writer.offset > max(before, furthest) else attempt
                    furthest = max(furthest, writer.offset)
                    await self._retrying(attempt, error.cause)
                except InvalidInput:
                    # What an earlier run left may be the bad part: once more from the start.
                    if before == 0 or attempt > 1:
                        raise
                    writer.restart()
                meter.restart()

    async def _download(self, blob: Descriptor, writer: Ingest, meter: Meter) -> None:
        import aiohttp

        headers = {"Accept": "application/octet-stream"}
        if writer.offset:
            headers["Range"] = f"bytes={writer.offset}-"
        try:
            response = await self._request("GET", self._url(f"blobs/{blob.digest}"), headers)
        except Unavailable as error:
            raise _Retry(error) from error
        what = f"blob {blob.digest}"
        try:
            if response.status == 416:
                writer.restart()
                raise _Retry(Unavailable(f"{what}: the registry cannot resume"))
            if response.status not in (200, 206):
                raise self._retryable(await self._answer(response), what)
            if response.status == 200 or not _continues(response, writer.offset):
                writer.restart()
                if response.status == 206:
                    raise _Retry(Unavailable(f"{what}: the registry resumed at another place"))
            await self._receive(response, writer, meter)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Retry(Unavailable(f"{what}: {reason(error)}")) from error
        finally:
            response.release()
        if writer.offset < blob.size:
            raise _Retry(Unavailable(f"{what}: the connection ended early"))

    @staticmethod
    async def _receive(response: aiohttp.ClientResponse, writer: Ingest, meter: Meter) -> None:
        """Write the body in pieces of a mebibyte, off the event loop (hashing takes time)."""
        pending: list[bytes] = []
        size = 0
        try:
            async for part in response.content.iter_any():
                pending.append(part)
                size += len(part)
                if size >= _WRITE:
                    data, pending, size = b"".join(pending), [], 0
                    await in_thread(writer.write, data)
                    meter.at("Downloading", writer.offset)
        finally:
            # What came before a cut connection is kept: the next attempt goes on from there.
            if pending:
                writer.write(b"".join(pending))
        meter.at("Downloading", writer.offset)

    # Blobs, up ---------------------------------------------------------------

    async def has_blob(self, digest: str) -> bool:
        """True when the repository has the blob."""
        response = await self._request("HEAD", self._url(f"blobs/{digest}"))
        response.release()
        if response.status in (401, 403):
            raise self._error(_Answer(response.status, "", ""), f"blob {digest}")
        return response.status == 200

    async def mount(self, digest: str, source: str) -> bool:
        """Ask to take the blob over from repository ``source``; False when it must be uploaded."""
        query = urlencode({"mount": digest, "from": source})
        response = await self._request("POST", self._url(f"blobs/uploads/?{query}"))
        location = response.headers.get("Location", "")
        response.release()
        if response.status == 201:
            return True
        if response.status == 202 and location:
            cancelled = await self._request("DELETE", location)
            cancelled.release()
        return False

    async def upload(self, digest: str, size: int, store: ContentStore, meter: Meter) -> None:
        """Upload one blob from ``store``."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._upload(digest, size, store, meter)
            except Unavailable as error:
                meter.restart()
                await self._retrying(attempt, error)

    async def _upload(self, digest: str, size: int, store: ContentStore, meter: Meter) -> None:
        what = f"upload of {digest}"
        begun = await self._request("POST", self._url("blobs/uploads/"), {"Content-Length": "0"})
        location = await self._location(begun, 202, what)
        with store.open(digest) as file:
            sent = await self._transport.request(
                self.endpoint,
                "PATCH",
                location,
                scopes=self._scopes,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(size),
                },
                body=lambda: _pieces(file, meter),
            )
            location = await self._location(sent, 202, what)
        separator = "&" if "?" in location else "?"
        done = await self._request(
            "PUT", f"{location}{separator}digest={quote(digest)}", {"Content-Length": "0"}
        )
        try:
            if done.status != 201:
                raise self._error(await self._answer(done), what)
        finally:
            done.release()

    async def _location(self, response: aiohttp.ClientResponse, status: int, what: str) -> str:
        try:
            if response.status != status:
                raise self._error(await self._answer(response), what)
            location: str = response.headers.get("Location", "")
            if not location:
                raise Unavailable(f"{what}: the registry names no place to upload to")
            return location
        finally:
            response.release()


def _tags(data: bytes, what: str) -> list[str]:
    try:
        tags = json.loads(data)["tags"] or []
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput(f"{what}: the registry's list is unreadable") from None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidInput(f"{what}: the registry's list is unreadable")
    return tags


async def _pieces(file: BinaryIO, meter: Meter) -> AsyncIterator[bytes]:
    file.seek(0)
    sent = 0
    while data := await in_thread(file.read, _UPLOAD_PIECE):
        yield data
        sent += len(data)
        meter.at("Pushing", sent)


def _continues(response: aiohttp.ClientResponse, offset: int) -> bool:
    """True when a 206 goes on exactly at ``offset``."""
    if response.status != 206:
        return offset == 0
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return match is not None and int(match[1]) == offset
