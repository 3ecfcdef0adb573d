"""Native overlayfs in the engine's user namespace: the speed of the disk, no id mapping."""

from __future__ import annotations

from collections.abc import Sequence

from rootless.linux import rootfs
from rootless.model.facts import HostFacts
from rootless.model.mounts import IdMap, RootfsMount
from rootless.storage.drivers import base

_MAX_JOINED = 60
"""Layers that surely fit into one option before ``lowerdir+`` (``linux.rootfs``)."""


class Overlay:
    """See the module; Linux 5.13 or later."""

    name = "overlay"
    maps_ids = False

    def supported(self, facts: HostFacts, *, layers: int = 1) -> str | None:
        """See :class:`~rootless.storage.drivers.base.GraphDriver`."""
        if not facts.native_overlay:
            return "the kernel does not mount overlayfs in a user namespace (needs Linux 5.13)"
        if layers > rootfs.MAX_LAYERS:
            return f"the kernel's overlay takes {rootfs.MAX_LAYERS} layers, the image has {layers}"
        if layers > _MAX_JOINED and facts.kernel < rootfs.FIRST_KERNEL_WITH_APPEND:
            return f"an image of {layers} layers needs Linux 6.8"
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
        base.refuse_maps(self.name, id_maps)
        return RootfsMount(
            driver="overlay",
            lowers=base.lowers_or_empty(container_dir, lowers),
            upper=f"{container_dir}/upper",
            work=f"{container_dir}/work",
            volatile=volatile,
            read_only=read_only,
        )

    def prepare(self, mount: RootfsMount) -> None:
        """See :class:`~rootless.storage.drivers.base.GraphDriver`."""
        base.prepare_overlay(mount)
