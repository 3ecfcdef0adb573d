"""Plugins: there are none, and none can be installed."""

from __future__ import annotations

from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call
from rootless.api.fields import query
from rootless.api.router import Route
from rootless.errors import InvalidInput, NotFound

_NONE = "there are no plugins"
_WHY = "plugins are not supported: they would run beside the engine, outside of every sandbox"


async def list_(call: Call) -> Response:
    """``GET /plugins``: none."""
    call.filters()
    return call.reply([])


async def unknown(call: Call) -> StreamResponse:
    """Whatever is done with one plugin."""
    raise NotFound(f'plugin "{call.fields["name"]}" not found')


async def refuse(_call: Call) -> StreamResponse:
    """Installing one."""
    raise InvalidInput(_WHY)


def _named(method: str, path: str, names: str = "") -> Route:
    return Route(method, path, unknown, query=query(*names.split()), refused=_NONE)


ROUTES = (
    Route("GET", "/plugins", list_, open="there are none to list", query=query("filters")),
    Route("GET", "/plugins/privileges", refuse, query=query("remote"), refused=_WHY),
    Route("POST", "/plugins/pull", refuse, query=query("remote", "name"), refused=_WHY),
    Route("POST", "/plugins/create", refuse, query=query("name"), refused=_WHY),
    _named("GET", "/plugins/{name:.+}/json"),
    _named("POST", "/plugins/{name:.+}/enable", "timeout"),
    _named("POST", "/plugins/{name:.+}/disable", "force"),
    _named("POST", "/plugins/{name:.+}/push"),
    _named("POST", "/plugins/{name:.+}/upgrade", "remote"),
    _named("POST", "/plugins/{name:.+}/set"),
    _named("DELETE", "/plugins/{name:.+}", "force"),
)
