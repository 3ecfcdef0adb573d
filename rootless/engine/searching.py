"""``docker search``: what an index has, under Docker's filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rootless.engine.filters import Filters, check_filters, single_bool
from rootless.errors import InvalidInput
from rootless.images.registry.credentials import Credentials
from rootless.images.registry.settings import RegistrySettings
from rootless.units import whole_number

DEFAULT_LIMIT = 25
_LIMITS = range(1, 101)
_FILTERS = frozenset({"is-automated", "is-official", "stars"})


async def search(
    term: str,
    limit: int,
    filters: Filters,
    settings: RegistrySettings,
    credentials: Credentials | None,
) -> Sequence[Mapping[str, object]]:
    """Results of the index for ``term`` that pass ``filters``; ``limit`` 0 is the default."""
    from rootless.images.registry import search as index

    if not term:
        raise InvalidInput("no search term given")
    if limit and limit not in _LIMITS:
        raise InvalidInput(f"Limit {limit} is outside the range of [1, 100]")
    check_filters(filters, _FILTERS)
    stars = max((_stars(text) for text in filters.get("stars", ())), default=0)
    wanted = {
        key.replace("-", "_"): single_bool(filters, key, default=False)
        for key in ("is-automated", "is-official")
        if filters.get(key)
    }
    rows = await index.search(term, limit or DEFAULT_LIMIT, settings, credentials)
    return [
        row
        for row in rows
        if _count(row) >= stars and all(row[key] is value for key, value in wanted.items())
    ]


def _stars(text: str) -> int:
    found = whole_number(text)
    if found is None:
        raise InvalidInput(f"invalid filter 'stars={text}'", hint="a whole number")
    return found


def _count(row: Mapping[str, object]) -> int:
    stars = row["star_count"]
    return stars if isinstance(stars, int) else 0
