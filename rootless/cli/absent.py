"""Docker's commands that this engine does not have: what is said, and what to do instead.

Imported only when a command is unknown.
"""

from __future__ import annotations

_BUILD = (
    "this engine does not build images yet",
    "build elsewhere and load the result: podman build -t NAME . && podman save NAME | rootless "
    "load; or change a container and keep it: rootless commit CONTAINER NAME; or make an image "
    "of a file tree: tar c -C DIR . | rootless import - NAME",
)
_COMPOSE = (
    "this engine does not run compose files itself yet",
    "docker-compose does, on this engine: DOCKER_HOST=unix://$XDG_RUNTIME_DIR/rootless/"
    "rootless.sock docker-compose up",
)
_CLUSTER = (
    "clusters (Swarm) are not part of this engine",
    "run single containers with `rootless run --restart always`",
)
_TRUST = (
    "this engine does not use Notary's signatures",
    "cosign's are made and checked by `rootless image sign` and `rootless image verify`, and "
    "required by a policy's images.trust",
)
_ABSENT = {
    "build": _BUILD,
    "builder": _BUILD,
    "buildx": _BUILD,
    "image build": _BUILD,
    "compose": _COMPOSE,
    "config": _CLUSTER,
    "node": _CLUSTER,
    "secret": _CLUSTER,
    "service": _CLUSTER,
    "stack": _CLUSTER,
    "swarm": _CLUSTER,
    "volume update": _CLUSTER,
    "checkpoint": ("checkpoints are not supported: CRIU needs root", "see `rootless commit`"),
    "manifest": (
        "this engine does not edit image indexes",
        "skopeo and podman manifest do, against the registry",
    ),
    "plugin": ("this engine has no plugins", "log drivers are those of docs/logging.md"),
    "trust": _TRUST,
}


def absent(words: list[str]) -> tuple[str, str] | None:
    """(what is missing, what to do instead) when Docker has the command that ``words`` name."""
    return _ABSENT.get(" ".join(words[:2])) or _ABSENT.get(words[0])
