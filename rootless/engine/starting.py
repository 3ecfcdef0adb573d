"""What a start does around its sandbox: the plan before it, the way back when it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from rootless.engine import etcfiles, layout, links, quotas
from rootless.engine.core import Core
from rootless.engine.resolve_mounts import require_sources, stat_source
from rootless.engine.unit import Unit
from rootless.errors import Conflict, NotFound, NotModified, RootlessError, StartFailed
from rootless.linux import procfs
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.spec import AdmittedSpec, ContainerSpec
from rootless.model.usage import Usage

if TYPE_CHECKING:
    from rootless.model.plan import LaunchPlan
    from rootless.runtime.launcher_client import Created

_log = logging.getLogger(__name__)


def check_startable(unit: Unit) -> None:
    """NotModified for what runs, Conflict for what cannot be started."""
    status = unit.record.state.status
    if unit.removed:
        raise NotFound(f"No such container: {unit.id}")
    if status == "running":
        raise NotModified(f"container {unit.record.name} is already running")
    if status == "paused":
        raise Conflict("cannot start a paused container, try unpause instead")
    if status in ("removing", "dead"):
        raise Conflict("container is marked for removal and cannot be started")


async def admit(core: Core, unit: Unit, identity: Identity) -> AdmittedSpec:
    """What may run by quotas too; from here on the container counts as one that runs."""
    disk = await quotas.disk(core, unit.record.identity)
    seen = await core.images.of(unit.record.spec)
    usage = quotas.for_start(core, unit, unit.record.spec.resources, disk)
    admitted = admit_again(
        core, unit, identity, verb="container.start", usage=usage, image_facts=seen
    )
    unit.starting = True
    return admitted


def admit_again(
    core: Core,
    unit: Unit,
    identity: Identity,
    *,
    verb: str,
    usage: Usage | None = None,
    image_facts: tuple[ImageFacts, ...] = (),
) -> AdmittedSpec:
    """What may run: the policy decides anew, on the bind sources as they are now."""
    spec = with_links(core, unit.record.spec)
    fresh = replace(spec, mounts=tuple(stat_source(mount) for mount in spec.mounts))
    admitted = core.policy.admit(identity, fresh, verb=verb, usage=usage, image_facts=image_facts)
    require_sources(admitted.spec.mounts)
    return admitted


def with_links(core: Core, spec: ContainerSpec) -> ContainerSpec:
    """With the variables of its links, which its own ones of the same names replace."""
    made = links.environment(spec, core.registry)
    if not made:
        return spec
    own = {entry.partition("=")[0] for entry in spec.process.env}
    more = (entry for entry in made if entry.partition("=")[0] not in own)
    return replace(spec, process=replace(spec.process, env=(*spec.process.env, *more)))


def plan_start(core: Core, unit: Unit, admitted: AdmittedSpec) -> tuple[LaunchPlan, bytes, bool]:
    """The plan, the key of the spare for it, and whether the files in /etc are still to be written.

    A spare may have mounted them already. They are written in place, so that it
    is early enough before ``go``; everybody else needs them before the sandbox.
    """
    from rootless.runtime.planner import plan_container

    spec, directory = admitted.spec, unit.directory
    for name in ("exit.json", "shim.json"):
        (directory / name).unlink(missing_ok=True)
    plan = plan_container(admitted, core.facts, layout.make_layout(core, spec, directory))
    key, mounted = core.spares.claim(unit, plan)
    if not mounted:
        write_etc(core, unit, spec)
    return plan, key, mounted


def write_etc(core: Core, unit: Unit, spec: ContainerSpec) -> None:
    """Write the files in /etc for this start."""
    linked = links.hosts(spec, core.registry)
    etcfiles.write_etc(core, spec, unit.directory, unit.endpoints, linked)


def log_speaker(unit: Unit) -> Callable[[str], None]:
    """What passes on to the daemon's log what the shim has to say of the container's."""

    def say(text: str) -> None:
        _log.warning("container %s: %s", unit.record.name, text)

    return say


def servers(spec: ContainerSpec) -> tuple[str, ...]:
    """Whom the resolver of a container on bridge networks asks: ``--dns``, or the host's."""
    if spec.network.mode == "none":
        return ()
    from rootless.network import files

    if spec.network.dns:
        return spec.network.dns
    host = files.parse_resolv_conf(files.read_host_resolv_conf())
    return files.forwarders(host, ipv6=spec.network.ipv6)


async def abandon(
    core: Core, unit: Unit, created: Created, error: BaseException
) -> StartFailed | None:
    """Undo a start that failed with ``error``; why its sandbox had failed, if it had.

    Then whatever else failed did so because of it.
    """
    failure = None
    try:
        if isinstance(error, RootlessError):
            failure = await created.failure()
    finally:
        created.cancel()
    if unit.shim is not None:
        await unit.shim.end()
    await core.network.disconnect(unit.id)
    return failure


def start_of(init_pid: int) -> int:
    """When the first process started, in clock ticks; StartFailed when it was killed already."""
    try:
        return procfs.start_time(init_pid)
    except ProcessLookupError:
        raise StartFailed(
            "the container ended before its program was executed", step="Exec", exit_code=125
        ) from None
