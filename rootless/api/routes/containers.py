"""Containers: everything but their streams and archives."""

from __future__ import annotations

from dataclasses import replace
from typing import cast, get_args

from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call, json_bytes
from rootless.api.dto import compat
from rootless.api.dto import container as view
from rootless.api.dto.create import CreateBody, to_request
from rootless.api.dto.host_config import UpdateBody, to_resources, to_restart
from rootless.api.fields import limited, query, refused, since
from rootless.api.router import Route
from rootless.api.streams import Closing, open_stream
from rootless.errors import InvalidInput
from rootless.model.records import WaitCondition, WaitResult
from rootless.model.request import ContainerRequest
from rootless.units import whole_number

_EMPTY_OBJECT = 7
"""Bytes of a body that asks for nothing: Docker's measure."""
_CONDITIONS = get_args(WaitCondition)


async def create_request(call: Call) -> ContainerRequest:
    """The request in the body and the query of ``create`` (and of a dry run)."""
    body = await call.json(CreateBody, required=True)
    if body == CreateBody():
        raise InvalidInput("config cannot be empty in order to create a container")
    if body.mac_address and call.version >= (1, 44):
        call.warnings.append(compat.DEPRECATED_MAC)
    request = to_request(
        body,
        name=call.text("name"),
        platform=call.text("platform"),
        warnings=call.take_warnings(),
    )
    return compat.request_of(request, call.version)


async def create(call: Call) -> Response:
    """``POST /containers/create``."""
    request = await create_request(call)
    container_id, warnings = await call.engine.containers.create(call.identity, request)
    return call.reply({"Id": container_id, "Warnings": list(warnings)}, status=201)


async def list_(call: Call) -> Response:
    """``GET /containers/json``."""
    filters = call.filters()
    for name in ("since", "before"):
        if call.text(name):
            filters.setdefault(name, []).append(call.text(name))
    views = await call.engine.containers.list(
        call.identity,
        filters=filters,
        all=call.flag("all"),
        limit=max(call.number("limit") or 0, 0),
        size=call.flag("size"),
    )
    return call.reply(view.summaries(views))


async def inspect(call: Call) -> Response:
    """``GET /containers/{ref}/json``."""
    found = await call.engine.containers.inspect(
        call.identity, call.fields["ref"], size=call.flag("size")
    )
    return call.reply(compat.container(view.inspect(found), call.version))


async def start(call: Call) -> Response:
    """``POST /containers/{ref}/start``."""
    length = call.request.content_length
    if call.request.can_read_body and (length is None or length > _EMPTY_OBJECT):
        raise InvalidInput(
            "starting container with non-empty request body was deprecated since API v1.22 and "
            "removed in v1.24"
        )
    await call.engine.containers.start(
        call.identity, call.fields["ref"], detach_keys=call.text("detachKeys")
    )
    return call.empty()


async def stop(call: Call) -> Response:
    """``POST /containers/{ref}/stop``."""
    await call.engine.containers.stop(
        call.identity, call.fields["ref"], timeout=call.number("t"), signal=call.text("signal")
    )
    return call.empty()


async def restart(call: Call) -> Response:
    """``POST /containers/{ref}/restart``."""
    await call.engine.containers.restart(
        call.identity, call.fields["ref"], timeout=call.number("t"), signal=call.text("signal")
    )
    return call.empty()


async def kill(call: Call) -> Response:
    """``POST /containers/{ref}/kill``."""
    signal = call.text("signal") or "KILL"
    await call.engine.containers.kill(call.identity, call.fields["ref"], signal=signal)
    return call.empty()


async def pause(call: Call) -> Response:
    """``POST /containers/{ref}/pause``."""
    await call.engine.containers.pause(call.identity, call.fields["ref"])
    return call.empty()


async def unpause(call: Call) -> Response:
    """``POST /containers/{ref}/unpause``."""
    await call.engine.containers.unpause(call.identity, call.fields["ref"])
    return call.empty()


async def rename(call: Call) -> Response:
    """``POST /containers/{ref}/rename``."""
    name = call.text("name")
    if not name:
        raise InvalidInput("Neither old nor new names may be empty")
    await call.engine.containers.rename(call.identity, call.fields["ref"], name)
    return call.empty()


async def update(call: Call) -> Response:
    """``POST /containers/{ref}/update``."""
    body = await call.json(UpdateBody)
    policy = body.restart_policy
    # Here 0 is no default, as it is at a create: it takes the limit away.
    pids_limit = body.pids_limit if call.version >= (1, 40) else None
    resources = replace(to_resources(body), pids_limit=pids_limit)
    warnings = await call.engine.containers.update(
        call.identity,
        call.fields["ref"],
        resources=resources,
        restart_policy=to_restart(policy) if policy is not None and policy.name else None,
    )
    return call.reply({"Warnings": [*warnings, *call.take_warnings()]})


async def remove(call: Call) -> Response:
    """``DELETE /containers/{ref}``."""
    await call.engine.containers.remove(
        call.identity, call.fields["ref"], force=call.flag("force"), volumes=call.flag("v")
    )
    return call.empty()


async def wait(call: Call) -> StreamResponse:
    """``POST /containers/{ref}/wait``.

    The head goes out as soon as the wait is registered: clients start the
    container only then, so that they cannot miss its end.
    """
    text = call.text("condition") or "not-running"
    if text not in _CONDITIONS:
        raise InvalidInput(f"invalid condition: {text!r}", hint=f"one of {', '.join(_CONDITIONS)}")
    condition = cast(WaitCondition, text)
    pending = await call.engine.containers.wait(
        call.identity, call.fields["ref"], condition=condition
    )
    if call.version < (1, 30):
        return call.reply(_waited(await pending))
    response = await open_stream(call, "application/json")
    body = _waited(await pending)
    await response.write_eof(json_bytes(body) + b"\n")
    return response


def _waited(result: WaitResult) -> dict[str, object]:
    body: dict[str, object] = {"StatusCode": result.exit_code}
    if result.error:
        body["Error"] = {"Message": result.error}
    return body


async def top(call: Call) -> Response:
    """``GET /containers/{ref}/top``."""
    table = await call.engine.containers.top(
        call.identity, call.fields["ref"], ps_args=call.text("ps_args") or "-ef"
    )
    return call.reply(
        {"Titles": list(table.titles), "Processes": [list(row) for row in table.processes]}
    )


async def stats(call: Call) -> StreamResponse:
    """``GET /containers/{ref}/stats``: JSON lines, or one sample."""
    from rootless.api.dto.stats import stats as sample

    stream = call.flag("stream", default=True)
    one_shot = call.flag("one-shot")
    if stream and one_shot:
        raise InvalidInput("cannot have stream=true and one-shot=true")
    source = await call.engine.containers.stats(
        call.identity, call.fields["ref"], stream=stream, one_shot=one_shot
    )
    async with Closing(source) as samples:
        if not stream:
            async for found in samples:
                return call.reply(sample(found))
            return call.reply({})
        response = await open_stream(call, "application/json")
        async for found in samples:
            await response.write(json_bytes(sample(found)) + b"\n")
        await response.write_eof()
    return response


async def changes(call: Call) -> Response:
    """``GET /containers/{ref}/changes``."""
    found = await call.engine.containers.changes(call.identity, call.fields["ref"])
    body = [{"Path": change.path, "Kind": change.kind} for change in found]
    return call.reply(body)


async def prune(call: Call) -> Response:
    """``POST /containers/prune``."""
    report = await call.engine.containers.prune(call.identity, filters=call.filters())
    return call.reply(
        {
            "ContainersDeleted": list(report.deleted) or None,
            "SpaceReclaimed": report.space_reclaimed,
        }
    )


async def resize(call: Call) -> Response:
    """``POST /containers/{ref}/resize``."""
    height, width = size(call)
    await call.engine.containers.resize(
        call.identity, call.fields["ref"], height=height, width=width
    )
    return call.empty(200)


def size(call: Call) -> tuple[int, int]:
    """Height and width of a terminal; a winsize has 16 bits for each (ioctl_tty(2))."""
    found = []
    for name, what in (("h", "height"), ("w", "width")):
        text = call.text(name)
        value = whole_number(text)
        if value is None:
            raise InvalidInput(f'invalid resize {what} "{text[:40]}": invalid syntax')
        if value > 65535:
            raise InvalidInput(f'invalid resize {what} "{text[:40]}": value out of range')
        found.append(value)
    return found[0], found[1]


CREATE = query("name", platform=since(1, 41))
_WAIT = query(condition=since(1, 30))
_STOP = query("t", signal=since(1, 42))
_START = query(
    "detachKeys",
    checkpoint=refused("checkpoints need CRIU and real root"),
    checkpoint_dir=refused("checkpoints need CRIU and real root"),
)
ROUTES = (
    Route(
        "GET",
        "/containers/json",
        list_,
        verb="container.list",
        query=query(
            *"all limit size filters".split(),
            since=limited("as the filter since"),
            before=limited("as the filter before"),
        ),
    ),
    Route(
        "POST", "/containers/create", create, verb="container.create", query=CREATE, body=CreateBody
    ),
    Route("POST", "/containers/prune", prune, verb="container.prune", query=query("filters")),
    Route("GET", "/containers/{ref}/json", inspect, verb="container.inspect", query=query("size")),
    Route("POST", "/containers/{ref}/start", start, verb="container.start", query=_START),
    Route(
        "POST",
        "/containers/{ref}/wait",
        wait,
        verb="container.wait",
        disconnect="cancel",
        query=query(condition=since(1, 30)),
    ),
    Route("POST", "/containers/{ref}/stop", stop, verb="container.stop", query=_STOP),
    Route("POST", "/containers/{ref}/restart", restart, verb="container.restart", query=_STOP),
    Route("POST", "/containers/{ref}/kill", kill, verb="container.kill", query=query("signal")),
    Route("POST", "/containers/{ref}/pause", pause, verb="container.pause"),
    Route("POST", "/containers/{ref}/unpause", unpause, verb="container.unpause"),
    Route("POST", "/containers/{ref}/rename", rename, verb="container.rename", query=query("name")),
    Route("POST", "/containers/{ref}/update", update, verb="container.update", body=UpdateBody),
    Route(
        "POST", "/containers/{ref}/resize", resize, verb="container.resize", query=query("h", "w")
    ),
    Route(
        "DELETE",
        "/containers/{ref}",
        remove,
        verb="container.remove",
        query=query("v", "force", link=refused("containers have no links to remove one by one")),
    ),
    Route("GET", "/containers/{ref}/top", top, verb="container.top", query=query("ps_args")),
    Route(
        "GET",
        "/containers/{ref}/stats",
        stats,
        verb="container.stats",
        disconnect="cancel",
        query=query("stream", one_shot=since(1, 41)),
    ),
    Route("GET", "/containers/{ref}/changes", changes, verb="container.diff"),
)
