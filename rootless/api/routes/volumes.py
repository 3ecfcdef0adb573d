"""Volumes."""

from __future__ import annotations

from aiohttp.web_response import Response

from rootless.api.call import Call
from rootless.api.dto.volume import VolumeBody, volume
from rootless.api.fields import query
from rootless.api.router import Route


async def list_(call: Call) -> Response:
    """``GET /volumes``."""
    records = await call.engine.volumes.list(call.identity, filters=call.filters())
    return call.reply({"Volumes": [volume(record) for record in records], "Warnings": None})


async def create(call: Call) -> Response:
    """``POST /volumes/create``."""
    body = await call.json(VolumeBody)
    record = await call.engine.volumes.create(
        call.identity,
        name=body.name,
        driver=body.driver or "local",
        options=body.driver_opts,
        labels=body.labels,
    )
    return call.reply(volume(record), status=201)


async def inspect(call: Call) -> Response:
    """``GET /volumes/{name}``."""
    return call.reply(volume(await call.engine.volumes.inspect(call.identity, call.fields["name"])))


async def remove(call: Call) -> Response:
    """``DELETE /volumes/{name}``."""
    await call.engine.volumes.remove(call.identity, call.fields["name"], force=call.flag("force"))
    return call.empty()


async def prune(call: Call) -> Response:
    """``POST /volumes/prune``."""
    filters = call.filters()
    if call.version < (1, 42):
        # Until then named volumes went as well.
        filters["all"] = ["true"]
    report = await call.engine.volumes.prune(call.identity, filters=filters)
    return call.reply(
        {"VolumesDeleted": list(report.deleted), "SpaceReclaimed": report.space_reclaimed}
    )


ROUTES = (
    Route("GET", "/volumes", list_, verb="volume.list", query=query("filters")),
    Route("POST", "/volumes/create", create, verb="volume.create", body=VolumeBody),
    Route("POST", "/volumes/prune", prune, verb="volume.prune", query=query("filters")),
    Route("GET", "/volumes/{name:.+}", inspect, verb="volume.inspect"),
    Route("DELETE", "/volumes/{name:.+}", remove, verb="volume.remove", query=query("force")),
)
