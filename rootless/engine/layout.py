"""What a start needs on disk: the seccomp filter, a cgroup, joined namespaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.engine.core import Core
from rootless.engine.etcfiles import ETC_FILES
from rootless.engine.logdrivers import make_plan
from rootless.engine.resolve import default_seccomp_profile
from rootless.engine.resolve_network import check_donor
from rootless.errors import HostUnsupported
from rootless.linux import cgroupfs, cgrouplimits
from rootless.model.spec import ContainerSpec

if TYPE_CHECKING:
    from rootless.runtime.planner import ContainerLayout

_KINDS = ("network", "ipc", "pid")


def make_layout(core: Core, spec: ContainerSpec, directory: Path) -> ContainerLayout:
    """Paths and lookups only; nothing is made, so a dry run can use it too."""
    from rootless.runtime.planner import ContainerLayout

    seccomp, flags, original = seccomp_filter(core, spec)
    return ContainerLayout(
        directory=str(directory),
        log=make_plan(spec, directory),
        seccomp_path=seccomp,
        seccomp_flags=flags,
        seccomp_original=original,
        seccomp_early=_is_our_own(spec),
        cgroup=cgroup_path(core, spec),
        etc_files=tuple((f"{directory}/{name}", target) for name, target in ETC_FILES),
        namespace_pids=joined(core, spec),
    )


def seccomp_filter(core: Core, spec: ContainerSpec) -> tuple[str, int, str]:
    """(file to load, its flags, file of the filter as the profile means it); '' for none.

    The last one is only there when the first reports denied calls (``seccomp-log``).
    """
    if spec.seccomp.kind == "unconfined":
        return "", 0, ""
    from rootless.seccomp.compile import filter_for

    if spec.seccomp.log and not core.facts.seccomp_user_notif:
        raise HostUnsupported(
            "seccomp-log needs seccomp user notification, which this kernel lacks",
            hint="Linux 5.0 or newer; leave out --security-opt seccomp-log",
        )
    cache = core.settings.data_root / "seccomp"
    if not os.path.isdir(cache):
        cache.mkdir(mode=0o700, exist_ok=True)
    compiled = filter_for(
        spec.seccomp.profile,
        spec.privileges.capabilities,
        core.facts.arch,
        core.facts.kernel,
        cache_dir=cache,
        notify_denied=spec.seccomp.log,
    )
    original = _stored(str(cache), compiled.bpf) if compiled.notifies else ""
    return _stored(str(cache), compiled.loaded), compiled.flags, original


def _is_our_own(spec: ContainerSpec) -> bool:
    """Whether the profile is the built-in one, which allows what init still has to do."""
    seccomp = spec.seccomp
    return not seccomp.log and seccomp.profile == default_seccomp_profile("")


_stored_paths: dict[tuple[str, bytes], str] = {}


def _stored(cache: str, code: bytes) -> str:
    """The file of ``code``: verified once per daemon, then only looked for."""
    from rootless.seccomp.compile import store_raw

    known = _stored_paths.get((cache, code))
    if known is None or not os.path.exists(known):
        known = str(store_raw(Path(cache), code))
        _stored_paths[cache, code] = known
    return known


def cgroup_path(core: Core, spec: ContainerSpec) -> str:
    """Where the container's cgroup will be, '' without delegation."""
    delegated = core.facts.cgroup.delegated
    if not delegated:
        return ""
    parts = [p for p in spec.cgroup_parent.split("/") if p]
    return "/".join([delegated, *parts, spec.id])


def make_cgroup(core: Core, spec: ContainerSpec) -> str:
    """Make the container's cgroup and write its limits; '' without delegation."""
    path = cgroupfs.create(core.facts.cgroup, spec.id, parent=spec.cgroup_parent)
    if path:
        cgrouplimits.write_limits(path, spec.resources, core.facts.cgroup)
    return path


def joined(core: Core, spec: ContainerSpec) -> tuple[tuple[str, int, int], ...]:
    """(kind, first pid, start time) of each namespace that is another container's."""
    found = []
    for kind in _KINDS:
        mode = str(getattr(spec.namespaces, kind))
        if not mode.startswith("container:"):
            continue
        unit = core.registry.find(mode.partition(":")[2])
        check_donor(unit.record, kind)
        found.append((kind, unit.record.state.pid, unit.init_start))
    return tuple(found)
