"""Networks: the predefined ones can be looked at; making others is refused."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp.web_response import Response

from rootless.api.call import Call
from rootless.api.dto.network import endpoint, network
from rootless.api.fields import limited, query
from rootless.api.router import Route
from rootless.errors import Denied, InvalidInput, NotFound
from rootless.network.predefined import PREDEFINED, network_id

_FILTERS = frozenset(("driver", "id", "label", "name", "scope", "type", "dangling"))


def _matches(name: str, driver: str, filters: dict[str, list[str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda v: v in name,
        "driver": lambda v: v == driver,
        "id": lambda v: network_id(name).startswith(v),
        "scope": lambda v: v == "local",
        "type": lambda v: v == "builtin",
        "label": lambda _: False,
        "dangling": lambda v: v.lower() in ("false", "0"),
    }
    return all(any(map(tests[key], values)) for key, values in filters.items() if values)


def _find(ref: str) -> str:
    name = "slirp4netns" if ref == "default" else ref
    if name in PREDEFINED:
        return name
    for known in PREDEFINED:
        if len(ref) >= 2 and network_id(known).startswith(ref):
            return known
    raise NotFound(f"network {ref} not found")


async def list_(call: Call) -> Response:
    """``GET /networks``."""
    filters = call.filters()
    for key in filters:
        if key not in _FILTERS:
            known = ", ".join(sorted(_FILTERS))
            raise InvalidInput(f"invalid filter '{key}'", hint=f"known filters: {known}")
    found = [
        network(name, driver)
        for name, driver in PREDEFINED.items()
        if _matches(name, driver, filters)
    ]
    return call.reply(found)


async def inspect(call: Call) -> Response:
    """``GET /networks/{ref}``."""
    name = _find(call.fields["ref"])
    if call.text("scope") not in ("", "local"):
        raise NotFound(f"network {call.fields['ref']} not found")
    body = network(name, PREDEFINED[name])
    views = await call.engine.containers.list(call.identity, filters={})
    attached = {}
    for view in views:
        record = view.record
        if record.spec.network.mode == name:
            state = endpoint(name, record.network, record.id)
            attached[record.id] = {
                "Name": record.name,
                "EndpointID": state["EndpointID"],
                "MacAddress": state["MacAddress"],
                "IPv4Address": _with_prefix(
                    record.network.ip_address, record.network.ip_prefix_length
                ),
                "IPv6Address": _with_prefix(
                    record.network.ipv6_address, record.network.ipv6_prefix_length
                ),
            }
    body["Containers"] = attached
    return call.reply(body)


def _with_prefix(address: str, length: int) -> str:
    return f"{address}/{length}" if address else ""


async def refuse(_call: Call) -> Response:
    """Making and joining networks."""
    raise InvalidInput(
        "user-defined networks are not supported yet",
        hint="containers use --network slirp4netns, none, host or container:ID",
    )


async def remove(call: Call) -> Response:
    """``DELETE /networks/{ref}``."""
    name = _find(call.fields["ref"])
    raise Denied(f"{name} is a pre-defined network and cannot be removed")


async def prune(call: Call) -> Response:
    """``POST /networks/prune``: predefined networks stay."""
    return call.reply({"NetworksDeleted": None})


_WHY = "user-defined networks are not supported yet"
ROUTES = (
    Route("GET", "/networks", list_, query=query("filters")),
    Route("GET", "/networks/", list_, query=query("filters")),  # as old clients write it
    Route("POST", "/networks/create", refuse, refused=_WHY),
    Route("POST", "/networks/prune", prune, query=query("filters")),
    Route(
        "GET",
        "/networks/{ref}",
        inspect,
        query=query("scope", verbose=limited("tells more of a swarm's networks only")),
    ),
    Route("DELETE", "/networks/{ref}", remove, refused="the predefined networks stay"),
    Route("POST", "/networks/{ref}/connect", refuse, refused=_WHY),
    Route("POST", "/networks/{ref}/disconnect", refuse, refused=_WHY),
)
