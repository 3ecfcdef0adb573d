"""One request as handlers see it: who asks, what for, and how to answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from aiohttp.web_protocol import RequestPayloadError
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response

from rootless.api.dto.decode import decode
from rootless.api.dto.times import parse_query_time
from rootless.api.errors import HttpError
from rootless.api.fields import Query, says_no
from rootless.api.versions import MIN_API_VERSION
from rootless.engine.interface import Engine
from rootless.errors import InvalidInput
from rootless.model.identity import Identity
from rootless.units import whole_number

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode

MAX_JSON = 4 << 20
"""Bytes of a JSON body: an environment of ARG_MAX (2 MiB) still fits."""
BODY_SECONDS = 60.0
"""For a whole JSON body to arrive. Archives may take as long as they like."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """What the daemon tells the API. ``server`` is the Server header,
    ``storage_driver`` what images are said to be stored with."""

    server: str = "Rootless/0.1 (linux)"
    max_json: int = MAX_JSON
    storage_driver: str = "overlay"
    experimental: bool = False
    min_version: str = MIN_API_VERSION
    """The oldest API version that is served."""
    group: int | None = None
    """Group whose members are let in beside the user."""


class Call:
    """A request that was matched to a route.

    ``query`` lists the parameters of the row: a handler that asks for another is wrong.
    ``warnings`` are what the client is to hear about its request; what no handler takes
    into its answer goes into a header.
    """

    __slots__ = (
        "common_headers",
        "config",
        "engine",
        "fields",
        "identity",
        "query",
        "request",
        "version",
        "warnings",
    )

    def __init__(
        self,
        request: BaseRequest,
        *,
        engine: Engine,
        identity: Identity,
        fields: Mapping[str, str],
        query: Query,
        version: tuple[int, int],
        config: ApiConfig,
        common_headers: Mapping[str, str],
    ) -> None:
        self.common_headers = common_headers
        self.engine = engine
        self.identity = identity
        self.request = request
        self.fields = fields
        self.query = query
        self.warnings: list[str] = []
        self.version = version
        self.config = config

    # What the client said

    def _value(self, name: str) -> str | None:
        assert name in self.query, f"{name} is no parameter of this row"
        if self.version < self.query[name].since:
            return None
        return self.request.query.get(name)

    def text(self, name: str, default: str = "") -> str:
        """A query parameter."""
        value = self._value(name)
        return default if value is None else value

    def texts(self, name: str) -> list[str]:
        """Every value of a repeated query parameter."""
        return self.request.query.getall(name, []) if self._value(name) is not None else []

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean by Docker's rule: everything but '', 0, no, false and none is true."""
        value = self._value(name)
        return default if value is None else not says_no(value)

    def number(self, name: str) -> int | None:
        """An integer parameter; ``None`` when it is absent or empty."""
        value = self._value(name)
        if not value:
            return None
        found = whole_number(value.lstrip("+-"))
        if found is None or len(value) - len(value.lstrip("+-")) > 1:
            raise InvalidInput(f"invalid value {value[:40]!r} for parameter {name}: not a number")
        return -found if value.startswith("-") else found

    def time(self, name: str) -> int:
        """Unix nanoseconds of a time parameter (``1700000000.000000001`` or RFC 3339); 0 absent."""
        return parse_query_time(name, self._value(name) or "")

    def filters(self) -> dict[str, list[str]]:
        """The ``filters`` parameter, in its present form or that of API 1.21 and before."""
        text = self._value("filters")
        if not text:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidInput(f"invalid filter: not JSON: {text[:200]}") from None
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InvalidInput("invalid filter: must be a JSON object")
        filters: dict[str, list[str]] = {}
        for key, values in found.items():
            if isinstance(values, dict):
                filters[key] = [value for value, wanted in values.items() if wanted]
            elif isinstance(values, list) and all(isinstance(v, str) for v in values):
                filters[key] = values
            else:
                raise InvalidInput(f"invalid filter {key!r}: values must be a list of strings")
        return filters

    async def json(self, kind: type[T], *, required: bool = False) -> T:
        """The JSON body; what of it has no effect becomes warnings.

        An absent body is the defaults, as in Docker, unless it is ``required``.
        """
        body = await self.body()
        if not body.strip():
            if required:
                raise InvalidInput("invalid JSON: got EOF while reading request body")
            return kind()
        self._check_json_type()
        found, warnings = decode(body, kind)
        self.warnings += warnings
        return found

    def take_warnings(self) -> tuple[str, ...]:
        """The warnings so far, for an answer with a place of its own for them."""
        found = tuple(self.warnings)
        self.warnings.clear()
        return found

    def _check_json_type(self) -> None:
        header = self.request.headers.get("Content-Type", "")
        kind = header.partition(";")[0].strip().lower()
        if kind != "application/json":
            # A form or text/plain can be posted by any web page without asking first (CORS).
            raise InvalidInput(
                f"unsupported Content-Type header ({header}): must be 'application/json'"
            )

    async def body(self) -> bytes:
        """The whole body, at most ``max_json`` bytes."""
        content = self.request.content
        if content.is_eof() and not content.total_bytes:
            return b""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._bounded_body()
        except TimeoutError:
            raise HttpError(
                408, f"the request's body did not arrive within {BODY_SECONDS:.0f} seconds"
            ) from None

    async def _bounded_body(self) -> bytes:
        chunks = []
        size = 0
        async for chunk in self.upload():
            size += len(chunk)
            if size > self.config.max_json:
                raise InvalidInput(
                    f"request body is larger than {self.config.max_json >> 20} MiB",
                    hint="archives go to the endpoints that stream",
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def upload(self) -> AsyncIterator[bytes]:
        """The body as it arrives; reading pauses while nobody asks for more."""
        content = self.request.content
        try:
            while piece := await content.readany():
                yield piece
        except RequestPayloadError as error:
            reason = str(error).strip().rpartition("\n")[2].strip()
            raise InvalidInput(f"the request's body cannot be read: {reason}") from None

    def base64_header(self, name: str) -> bytes:
        """A header holding base64url text, padded or not; b'' when it is absent."""
        text = self.request.headers.get(name, "").strip()
        if not text:
            return b""
        text = text.rstrip("=").replace("+", "-").replace("/", "_")
        try:
            return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput(f"invalid {name} header: not base64") from None

    # Answers

    def reply(self, value: object, *, status: int = 200) -> Response:
        """JSON, with the newline Go's encoder writes behind it."""
        return Response(
            body=_encode(value) + b"\n", status=status, headers={"Content-Type": "application/json"}
        )

    @staticmethod
    def empty(status: int = 204) -> Response:
        """An answer without a body."""
        return Response(status=status)

    @staticmethod
    def plain(text: str, **headers: str) -> Response:
        """A short text."""
        return Response(text=text, headers=headers)


def json_bytes(value: Any) -> bytes:
    """Compact JSON."""
    return _encode(value)
