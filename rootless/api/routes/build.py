"""Building images, which this engine does not do yet."""

from __future__ import annotations

import json

from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call
from rootless.api.fields import limited, query
from rootless.api.router import Route
from rootless.errors import InvalidInput
from rootless.model.build import BuildSpec

_WHY = "building images is not supported yet"
_BUILD = query(
    *"dockerfile t extrahosts remote q nocache cachefrom pull rm forcerm memory memswap cpushares "
    "cpusetcpus cpuperiod cpuquota buildargs shmsize squash labels networkmode platform target "
    "outputs version buildid session cgroupparent cpusetmems isolation securityopt ulimits".split()
)


async def build(call: Call) -> StreamResponse:
    """``POST /build``: decided on by the policy, and not done."""
    text = call.text("buildargs")
    try:
        args = json.loads(text) if text else {}
    except ValueError:
        raise InvalidInput(f"buildargs is not JSON: {text[:100]}") from None
    if not isinstance(args, dict):
        raise InvalidInput("buildargs must be an object of names and values")
    asked = BuildSpec(
        name=call.text("t"),
        networks=(call.text("networkmode") or "default",),
        args=tuple(f"{name}={'' if value is None else value}" for name, value in args.items()),
    )
    await call.engine.images.build(call.identity, asked)


async def refuse(_call: Call) -> StreamResponse:
    """``POST /build``, and what BuildKit's clients begin with."""
    raise InvalidInput(_WHY, hint="build elsewhere and load the result: rootless load < image.tar")


async def prune(call: Call) -> Response:
    """``POST /build/prune``: there is no build cache, so that ``system prune`` works."""
    call.filters()
    return call.reply({"CachesDeleted": None, "SpaceReclaimed": 0})


ROUTES = (
    Route("POST", "/build", build, query=_BUILD, refused=_WHY, verb="image.build"),
    Route(
        "POST",
        "/build/prune",
        prune,
        open="there is no build cache to prune",
        query=dict.fromkeys(
            "keep-storage reserved-space max-used-space min-free-space all filters".split(),
            limited("the cache is empty"),
        ),
    ),
    Route("POST", "/build/cancel", refuse, query=query("id"), refused=_WHY),
    Route("POST", "/session", refuse, refused=_WHY),
    Route("POST", "/grpc", refuse, refused=_WHY),
)
