"""A full copy of the image for each container: the last resort, works everywhere."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rootless.model.facts import HostFacts
from rootless.model.mounts import IdMap, RootfsMount
from rootless.storage import merged, walk
from rootless.storage.copy import Copier
from rootless.storage.drivers import base


class Vfs:
    """Needs neither overlay nor FUSE; costs the image's size and time for each container."""

    name = "vfs"
    maps_ids = False

    def supported(self, facts: HostFacts, *, layers: int = 1) -> str | None:
        """See :class:`~rootless.storage.drivers.base.GraphDriver`."""
        del facts, layers
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
            driver="vfs",
            lowers=base.lowers_or_empty(container_dir, lowers),
            upper=f"{container_dir}/rootfs",
            work="",
            volatile=volatile,
            read_only=read_only,
        )

    def prepare(self, mount: RootfsMount) -> None:
        """Copy the image under a temporary name and rename it when it is whole."""
        if os.path.isdir(mount.upper):
            return
        walk.raise_open_limit()
        directory, _, name = mount.upper.rpartition("/")
        partial = f"{name}.partial"
        for lower in mount.lowers:
            if lower.endswith("/empty"):
                base.make_dir(lower, 0o755)
                os.chown(lower, 1, 1)
        with base.opened(directory) as parent, merged.open_union(mount.lowers) as image:
            walk.remove(parent, os.fsencode(partial))
            os.mkdir(partial, 0o700, dir_fd=parent)
            with base.opened(f"{directory}/{partial}") as target:
                Copier(target).tree(image)
            os.rename(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
