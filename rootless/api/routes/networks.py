"""Networks."""

from __future__ import annotations

from aiohttp.web_response import Response

from rootless.api.call import Call
from rootless.api.dto.endpoint import to_endpoint
from rootless.api.dto.network import (
    ConnectBody,
    DisconnectBody,
    NetworkBody,
    denial,
    network,
    to_creation,
)
from rootless.api.fields import limited, query
from rootless.api.router import Route
from rootless.errors import NotFound


async def list_(call: Call) -> Response:
    """``GET /networks``."""
    views = await call.engine.networks.list(call.identity, filters=call.filters())
    return call.reply([network(view) for view in views])


async def create(call: Call) -> Response:
    """``POST /networks/create``."""
    body = await call.json(NetworkBody, required=True)
    made, warning = await call.engine.networks.create(call.identity, to_creation(body))
    return call.reply({"Id": made, "Warning": warning}, status=201)


async def inspect(call: Call) -> Response:
    """``GET /networks/{ref}``."""
    ref = call.fields["ref"]
    view = await call.engine.networks.inspect(call.identity, ref)
    if call.text("scope") not in ("", "local"):
        raise NotFound(f"network {ref} not found")
    return call.reply(network(view))


async def remove(call: Call) -> Response:
    """``DELETE /networks/{ref}``."""
    await call.engine.networks.remove(call.identity, call.fields["ref"])
    return call.empty()


async def connect(call: Call) -> Response:
    """``POST /networks/{ref}/connect``."""
    body = await call.json(ConnectBody, required=True)
    ref = call.fields["ref"]
    wanted = to_endpoint(body.endpoint_config, ref)
    await call.engine.networks.connect(call.identity, ref, body.container, wanted)
    return call.empty(200)


async def disconnect(call: Call) -> Response:
    """``POST /networks/{ref}/disconnect``."""
    body = await call.json(DisconnectBody, required=True)
    await call.engine.networks.disconnect(call.identity, call.fields["ref"], body.container)
    return call.empty(200)


async def prune(call: Call) -> Response:
    """``POST /networks/prune``."""
    deleted = await call.engine.networks.prune(call.identity, filters=call.filters())
    return call.reply({"NetworksDeleted": list(deleted) or None})


async def denied(call: Call) -> Response:
    """``GET /rootless/denied``: what egress lists denied."""
    rows = await call.engine.networks.denied(
        call.identity,
        network=call.text("network"),
        container=call.text("container"),
        since_ns=call.time("since"),
    )
    return call.reply([denial(row) for row in rows])


ROUTES = (
    Route(
        "GET",
        "/rootless/denied",
        denied,
        verb="network.denied",
        query=query("network", "container", "since"),
    ),
    Route("GET", "/networks", list_, verb="network.list", query=query("filters")),
    Route(
        "GET", "/networks/", list_, verb="network.list", query=query("filters")
    ),  # as old clients write it
    Route("POST", "/networks/create", create, verb="network.create", body=NetworkBody),
    Route("POST", "/networks/prune", prune, verb="network.prune", query=query("filters")),
    Route(
        "GET",
        "/networks/{ref}",
        inspect,
        verb="network.inspect",
        query=query("scope", verbose=limited("tells more of a swarm's networks only")),
    ),
    Route("DELETE", "/networks/{ref}", remove, verb="network.remove"),
    Route("POST", "/networks/{ref}/connect", connect, verb="network.connect", body=ConnectBody),
    Route(
        "POST",
        "/networks/{ref}/disconnect",
        disconnect,
        verb="network.disconnect",
        body=DisconnectBody,
    ),
)
