"""The graph drivers, in order of preference."""

from __future__ import annotations

from rootless.errors import HostUnsupported, InvalidInput
from rootless.model.facts import HostFacts
from rootless.storage.drivers.base import GraphDriver
from rootless.storage.drivers.fuse_overlayfs import FuseOverlayfs
from rootless.storage.drivers.overlay import Overlay
from rootless.storage.drivers.vfs import Vfs

DRIVERS: tuple[GraphDriver, ...] = (Overlay(), FuseOverlayfs(), Vfs())


def get(name: str) -> GraphDriver:
    """The driver called ``name``; Docker's ``overlay2`` is native overlay."""
    wanted = "overlay" if name == "overlay2" else name
    for driver in DRIVERS:
        if driver.name == wanted:
            return driver
    raise InvalidInput(
        f"unknown storage driver: {name}", hint="use " + ", ".join(d.name for d in DRIVERS)
    )


def choose(
    facts: HostFacts, wanted: str = "", *, needs_id_maps: bool = False, layers: int = 1
) -> GraphDriver:
    """The driver for one container: ``wanted``, or the first that serves.

    Raises HostUnsupported when ``wanted`` (or, for ``--userns=auto``, any) cannot.
    """
    if wanted:
        driver = get(wanted)
        reason = driver.supported(facts, layers=layers)
        if reason is None and needs_id_maps and not driver.maps_ids:
            reason = "it cannot give a container its own id range, which --userns=auto needs"
        if reason is not None:
            raise HostUnsupported(
                f"storage driver {driver.name} cannot be used: {reason}",
                hint="leave out --storage-driver to use one that can, see: rootless doctor",
            )
        return driver
    reasons: list[str] = []
    for driver in DRIVERS:
        if needs_id_maps and not driver.maps_ids:
            continue
        reason = driver.supported(facts, layers=layers)
        if reason is None:
            return driver
        reasons.append(f"{driver.name}: {reason}")
    raise HostUnsupported(
        f"no storage driver for --userns=auto: {'; '.join(reasons)}",
        hint="sudo apt install fuse-overlayfs",
    )
