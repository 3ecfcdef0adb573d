"""What a registry has, without pulling it."""

from __future__ import annotations

from aiohttp.web_response import Response

from rootless.api.call import Call
from rootless.api.dto.image import distribution
from rootless.api.router import Route
from rootless.api.routes.images import auth


async def inspect(call: Call) -> Response:
    """``GET /distribution/{name}/json``."""
    found = await call.engine.images.distribution(
        call.identity, call.fields["name"], auth=auth(call)
    )
    return call.reply(distribution(found))


ROUTES = (
    Route("GET", "/distribution/{name:.+}/json", inspect, verb="image.pull", disconnect="cancel"),
)
