"""The engine itself, and what only it has: dry runs."""

from __future__ import annotations

import time

from aiohttp.web_response import Response, StreamResponse

from rootless.api.call import Call, json_bytes
from rootless.api.dto import compat
from rootless.api.dto import system as view
from rootless.api.dto.create import CreateBody
from rootless.api.fields import query, since
from rootless.api.router import Route
from rootless.api.routes.containers import CREATE, create_request
from rootless.api.streams import Closing, open_stream
from rootless.errors import InvalidInput
from rootless.model.decision import Finding
from rootless.model.identity import Identity

_PING_HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
    "Content-Type": "text/plain; charset=utf-8",
}
_DF_TYPES = frozenset(("container", "image", "volume", "build-cache"))


async def ping(call: Call) -> Response:
    """``GET`` and ``HEAD /_ping``."""
    answer = await call.engine.system.ping()
    return Response(body=answer.encode(), headers=_PING_HEADERS)


async def info(call: Call) -> Response:
    """``GET /info``."""
    body = view.info(await call.engine.system.info(call.identity), time.time_ns())
    return call.reply(compat.info(body, call.version))


async def version(call: Call) -> Response:
    """``GET /version``."""
    found = await call.engine.system.version(call.identity)
    config = call.config
    return call.reply(
        view.version(found, experimental=config.experimental, min_version=config.min_version)
    )


async def disk_usage(call: Call) -> Response:
    """``GET /system/df``."""
    wanted = frozenset(call.texts("type"))
    if unknown := wanted - _DF_TYPES:
        raise InvalidInput(f"unknown object type: {min(unknown)}")
    found = await call.engine.system.disk_usage(call.identity)
    return call.reply(view.disk_usage(found, wanted, call.version))


async def events(call: Call) -> StreamResponse:
    """``GET /events``: JSON lines."""
    since, until = call.time("since"), call.time("until")
    if call.text("since"):
        since = max(since, 1)  # 0 is a moment as well, before everything that is remembered
    if since and until and until < since:
        raise InvalidInput(
            f"`since` time ({call.text('since')}) cannot be after `until` time "
            f"({call.text('until')})"
        )
    source = await call.engine.system.events(
        call.identity, filters=call.filters(), since_ns=since, until_ns=until
    )
    async with Closing(source) as found:
        response = await open_stream(call, "application/json")
        async for event in found:
            if call.version < (1, 46) and (event.type, event.action) == ("image", "create"):
                continue
            await response.write(json_bytes(view.event(event)) + b"\n")
        await response.write_eof()
    return response


async def auth(call: Call) -> Response:
    """``POST /auth``."""
    body = await call.json(view.AuthBody, required=True)
    status, token = await call.engine.system.auth(call.identity, view.to_auth(body))
    return call.reply({"Status": status, "IdentityToken": token})


def _finding(finding: Finding) -> dict[str, str]:
    return {
        "Rule": finding.rule,
        "Field": finding.field,
        "Value": finding.value,
        "Reason": finding.reason,
        "Fix": finding.fix,
        "Severity": finding.severity,
        "Action": finding.action,
        "Source": finding.source,
    }


async def plan(call: Call) -> Response:
    """``POST /rootless/plan``: a create body; the decision and the steps, nothing is made."""
    report = await call.engine.containers.plan(call.identity, await create_request(call))
    decision = report.decision
    return call.reply(
        {
            "Allowed": decision.allowed,
            "Policy": decision.policy,
            "Weakened": list(decision.weakened),
            "Findings": [_finding(finding) for finding in decision.findings],
            "Warnings": list(report.warnings),
            "Steps": [{"Step": step, "Description": text} for step, text in report.steps],
        }
    )


def _identity(identity: Identity) -> dict[str, object]:
    return {
        "Source": identity.source,
        "Name": identity.name,
        "Key": identity.key,
        "Uid": identity.uid,
        "Role": identity.role,
        "Uri": identity.uri,
        "Fingerprint": identity.fingerprint,
        "Own": identity.own,
    }


async def whoami(call: Call) -> Response:
    """``GET /rootless/identity``: the caller as the policy sees it."""
    return call.reply(_identity(call.identity))


async def can(call: Call) -> Response:
    """``GET /rootless/can``: what the policy would say to ``verb`` on ``object``, to ``as``."""
    whom, decision = await call.engine.system.can(
        call.identity, call.text("verb"), call.text("object"), asked=call.text("as")
    )
    return call.reply(
        {
            "Identity": _identity(whom),
            "Allowed": decision.allowed,
            "Policy": decision.policy,
            "Findings": [_finding(finding) for finding in decision.findings],
        }
    )


async def renew(call: Call) -> Response:
    """``POST /rootless/certificate``: the next certificate for the caller, by its request."""
    body = await call.json(view.RenewalBody, required=True)
    found = await call.engine.system.renew(call.identity, body.request)
    return call.reply(
        {
            "Certificate": found.chain,
            "Identity": found.identity,
            "Serial": found.serial,
            "NotAfter": found.not_after,
        },
        status=201,
    )


ROUTES = (
    Route(
        "GET",
        "/_ping",
        ping,
        open="says that the engine is there, before anybody is asked who they are",
    ),
    Route(
        "HEAD",
        "/_ping",
        ping,
        open="says that the engine is there, before anybody is asked who they are",
    ),
    Route("GET", "/info", info, verb="system.info"),
    Route("GET", "/version", version, verb="system.version"),
    Route(
        "GET",
        "/system/df",
        disk_usage,
        verb="system.df",
        disconnect="cancel",
        query=query(type=since(1, 42)),
    ),
    Route(
        "GET",
        "/events",
        events,
        verb="system.events",
        disconnect="cancel",
        query=query("since", "until", "filters"),
    ),
    Route("POST", "/auth", auth, verb="image.login", disconnect="cancel", body=view.AuthBody),
    Route("POST", "/rootless/plan", plan, verb="container.plan", query=CREATE, body=CreateBody),
    Route("POST", "/rootless/certificate", renew, verb="certificate.renew", body=view.RenewalBody),
    Route("GET", "/rootless/identity", whoami, open="tells callers who they are"),
    Route(
        "GET",
        "/rootless/can",
        can,
        query=query("verb", "object", "as"),
        open="tells callers what they may do, and administrators what others may",
    ),
)
