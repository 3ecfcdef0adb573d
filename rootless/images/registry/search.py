"""Searching a registry's index (``GET /v1/search``, which Docker Hub still answers)."""

from __future__ import annotations

import json
from urllib.parse import quote

from rootless.errors import InvalidInput, RootlessError, Unavailable
from rootless.images.reference import DEFAULT_DOMAIN
from rootless.images.registry import credentials as logins
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.settings import Endpoint, RegistrySettings, endpoints
from rootless.images.registry.transport import Transport, read_bounded

_INDEX = Endpoint("https", "index.docker.io")
_MAX_ANSWER = 4 << 20
_KINDS = {"name": str, "description": str, "star_count": int, "is_official": bool}


def split_term(term: str) -> tuple[str, str]:
    """The registry and what to look for: ``HOST[:PORT]/WORDS``, or just words."""
    if "://" in term:
        raise InvalidInput(f"invalid repository name ({term}): it has a scheme")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DEFAULT_DOMAIN, term.removeprefix("library/")


async def search(
    term: str, limit: int, settings: RegistrySettings, credentials: Credentials | None
) -> list[dict[str, object]]:
    """What the index has, at most ``limit`` results, as the API lists them."""
    domain, words = split_term(term)
    if credentials is None:
        credentials = await logins.lookup(domain, settings.docker_config)
    found = [_INDEX] if domain == DEFAULT_DOMAIN else endpoints(domain, settings)
    failure: RootlessError | None = None
    async with Transport(settings, credentials) as transport:
        for endpoint in found:
            try:
                return await _ask(transport, endpoint, words, limit)
            except Unavailable as error:
                failure = error
    assert failure is not None
    raise failure


async def _ask(
    transport: Transport, endpoint: Endpoint, words: str, limit: int
) -> list[dict[str, object]]:
    url = f"/v1/search?q={quote(words, safe='')}&n={limit}"
    response = await transport.request(endpoint, "GET", url, scopes=())
    try:
        if response.status != 200:
            raise Unavailable(
                f"{endpoint.base}/v1/search: status {response.status}: this registry has no search",
                hint="search on the registry's web page, or ask for its catalog: /v2/_catalog",
            )
        answer = await read_bounded(response, _MAX_ANSWER, "search result")
    finally:
        response.release()
    try:
        rows = json.loads(answer)["results"]
        return [_row(row) for row in rows][:limit]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unavailable(f"{endpoint.base}/v1/search answered with something else") from None


def _row(row: dict[str, object]) -> dict[str, object]:
    out: dict[str, object] = {"is_automated": False}  # Docker Hub knows no others any more
    for key, kind in _KINDS.items():
        value = row.get(key, kind())
        out[key] = value if isinstance(value, kind) else kind()
    return out
