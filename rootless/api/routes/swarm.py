"""Swarm: every endpoint answers as a Docker engine that is in no swarm, and stays in none."""

from __future__ import annotations

from aiohttp.web_response import StreamResponse

from rootless.api.call import Call
from rootless.api.errors import HttpError
from rootless.api.fields import query
from rootless.api.router import Route
from rootless.errors import InvalidInput

_WHY = "this engine is in no swarm"
_VERSION = query("version")
_LOGS = query(*"details follow stdout stderr since timestamps tail".split())


async def not_a_manager(_call: Call) -> StreamResponse:
    """What needs a manager, in Docker's words: clients match on them."""
    raise HttpError(
        503,
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
        "connect this node to swarm and try again.",
    )


async def not_part(_call: Call) -> StreamResponse:
    """What needs a node."""
    raise HttpError(503, "This node is not part of a swarm")


async def never(_call: Call) -> StreamResponse:
    """Making or joining a swarm."""
    raise InvalidInput("swarm mode is not supported: this is one user's engine on one machine")


async def cluster_volume(_call: Call) -> StreamResponse:
    """``PUT /volumes/{name}``: only volumes of a swarm can be changed."""
    raise HttpError(503, "volume update only valid for cluster volumes, but swarm is unavailable")


def _managers(method: str, path: str, names: str = "") -> Route:
    return Route(method, path, not_a_manager, query=query(*names.split()), refused=_WHY)


ROUTES = (
    Route("POST", "/swarm/init", never, refused="swarm mode is not supported"),
    Route("POST", "/swarm/join", never, refused="swarm mode is not supported"),
    Route("POST", "/swarm/leave", not_part, query=query("force"), refused=_WHY),
    Route("POST", "/swarm/unlock", not_part, refused=_WHY),
    _managers("GET", "/swarm"),
    _managers("GET", "/swarm/unlockkey"),
    _managers(
        "POST",
        "/swarm/update",
        "version rotateWorkerToken rotateManagerToken rotateManagerUnlockKey",
    ),
    _managers("GET", "/nodes", "filters"),
    _managers("GET", "/nodes/{id}"),
    _managers("DELETE", "/nodes/{id}", "force"),
    _managers("POST", "/nodes/{id}/update", "version"),
    _managers("GET", "/services", "filters status"),
    _managers("POST", "/services/create"),
    _managers("GET", "/services/{id}", "insertDefaults"),
    _managers("DELETE", "/services/{id}"),
    _managers("POST", "/services/{id}/update", "version registryAuthFrom rollback"),
    _managers("GET", "/tasks", "filters"),
    _managers("GET", "/tasks/{id}"),
    *(
        Route("GET", path, not_a_manager, query=_LOGS, refused=_WHY)
        for path in ("/services/{id}/logs", "/tasks/{id}/logs")
    ),
    *(
        row
        for noun in ("secrets", "configs")
        for row in (
            _managers("GET", f"/{noun}", "filters"),
            _managers("POST", f"/{noun}/create"),
            _managers("GET", f"/{noun}/{{id}}"),
            _managers("DELETE", f"/{noun}/{{id}}"),
            _managers("POST", f"/{noun}/{{id}}/update", "version"),
        )
    ),
    Route("PUT", "/volumes/{name:.+}", cluster_volume, query=_VERSION, refused=_WHY),
)
