"""All rows."""

from __future__ import annotations

from rootless.api.router import Route
from rootless.api.routes import (
    archive,
    attach,
    build,
    containers,
    distribution,
    images,
    networks,
    plugins,
    swarm,
    system,
    volumes,
)

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *containers.ROUTES,
    *attach.ROUTES,
    *archive.ROUTES,
    *images.ROUTES,
    *volumes.ROUTES,
    *networks.ROUTES,
    *distribution.ROUTES,
    *build.ROUTES,
    *plugins.ROUTES,
    *swarm.ROUTES,
)
