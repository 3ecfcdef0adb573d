"""fuse-overlayfs: overlay in user space, which maps ids by itself."""

from __future__ import annotations

from collections.abc import Sequence

from rootless.linux import rootfs
from rootless.model.facts import HostFacts
from rootless.model.mounts import IdMap, RootfsMount
from rootless.storage.drivers import base


class FuseOverlayfs:
    """Layers and upper directories keep the image's ids, the mount shows ``id_maps``'.

    Slower on metadata than native overlay; the driver of ``--userns=auto`` and
    of hosts whose kernel has no overlay in user namespaces.
    """

    name = "fuse-overlayfs"
    maps_ids = True

    def supported(self, facts: HostFacts, *, layers: int = 1) -> str | None:
        """See :class:`~rootless.storage.drivers.base.GraphDriver`."""
        if not facts.fuse_overlayfs:
            return "fuse-overlayfs is not installed (sudo apt install fuse-overlayfs)"
        if layers > rootfs.MAX_LAYERS:
            return f"it is served up to {rootfs.MAX_LAYERS} layers, the image has {layers}"
        return None

    def plan(
        self,
        container_dir: str,
        lowers: Sequence[str],
        *,
        id_maps: Sequence[IdMap] = (),
        volatile: bool = False,
        read_only: bool = False,
    ) -> RootfsMount:
        """See :class:`~rootless.storage.drivers.base.GraphDriver`."""
        return RootfsMount(
            driver="fuse-overlayfs",
            lowers=base.lowers_or_empty(container_dir, lowers),
            upper=f"{container_dir}/upper",
            work=f"{container_dir}/work",
            volatile=volatile,
            read_only=read_only,
            id_maps=tuple(id_maps),
        )

    def prepare(self, mount: RootfsMount) -> None:
        """See :class:`~rootless.storage.drivers.base.GraphDriver`."""
        base.prepare_overlay(mount)
