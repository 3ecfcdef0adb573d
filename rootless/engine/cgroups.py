"""The end of a container's cgroup: before its next start and before its removal."""

from __future__ import annotations

import asyncio
import logging
import os

from rootless.engine import layout, spare_cgroup
from rootless.engine.core import Core
from rootless.engine.unit import Unit
from rootless.errors import RootlessError
from rootless.linux import cgroupfs

_log = logging.getLogger(__name__)


def drop(core: Core, unit: Unit) -> None:
    """Remove it in the background, with whatever still runs in it."""
    if unit.cgroup:
        path, unit.cgroup = unit.cgroup, ""
        removal = asyncio.to_thread(cgroupfs.remove, path)
        unit.release(core.background(removal, f"removing cgroup {path}"))


async def sweep(core: Core) -> None:
    """Remove what a killed daemon made for its next container and nobody has got."""
    if not core.facts.cgroup.delegated:
        return
    owner = str(core.settings.data_root)
    for path in spare_cgroup.leftovers(core.facts.cgroup.delegated, owner):
        if core.registry.get(os.path.basename(path)) is None:
            await _remove(path)


async def await_gone(core: Core, unit: Unit) -> None:
    """Return when the container has none, removing what a killed daemon left.

    After the container's record is gone nobody would know whose it is: engines
    of one user share the delegated subtree.
    """
    unit.cgroup = ""
    path = layout.cgroup_path(core, unit.record.spec)
    if path and os.path.isdir(path):
        await _remove(path)


async def _remove(path: str) -> None:
    try:
        await asyncio.to_thread(cgroupfs.remove, path)
    except RootlessError as error:
        _log.error("cgroup %s stays: %s", path, error)
