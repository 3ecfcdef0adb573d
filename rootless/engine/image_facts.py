"""What the policy is told of the images that containers are made from."""

from __future__ import annotations

from typing import cast

from rootless.engine.core import Core
from rootless.engine.image_index import ImageIndex
from rootless.engine.ownership import of_image
from rootless.model.image import ImageFacts
from rootless.model.spec import ContainerSpec, ImageSpec
from rootless.policy.matching import Subject
from rootless.policy.rules import privileges
from rootless.policy.rules.images import full_name

_MAX_KNOWN = 256


class ImageInspector:
    """Looks at images by their records; an image whose record is gone has no vouchers."""

    def __init__(self, core: Core, index: ImageIndex) -> None:
        self._core = core
        self._index = index
        self._setuid: dict[tuple[str, ...], tuple[str, ...]] = {}
        """By diff ids; layers never change."""

    async def facts(self, image: ImageSpec, *, files: bool = False) -> ImageFacts:
        """All that any rule looks at; its files where a rule does, and with ``files``."""
        core = self._core
        entry = self._index.get(image.id)
        setuid = None
        if files or core.policy.constrains(privileges.SETUID_KEY):
            setuid = await self._privileged(image.diff_ids)
        return ImageFacts(
            name=image.name or full_name(image.reference),
            created_ns=entry.image.config.created_ns if entry is not None else None,
            size=sum(core.layers.get(diff_id).meta.size for diff_id in image.diff_ids),
            vouchers=tuple(core.state.vouchers(image.id)),
            setuid=setuid,
        )

    async def _privileged(self, diff_ids: tuple[str, ...]) -> tuple[str, ...]:
        known = self._setuid.get(diff_ids)
        if known is None:
            if len(self._setuid) >= _MAX_KNOWN:
                self._setuid.clear()
            known = self._setuid[diff_ids] = await self._find_privileged(diff_ids)
        return known

    async def _find_privileged(self, diff_ids: tuple[str, ...]) -> tuple[str, ...]:
        core = self._core
        candidates: dict[str, None] = {}
        for diff_id in diff_ids:
            layer = core.layers.get(diff_id)
            if layer.meta.privileged is None:
                names = cast(
                    "list[str]", await core.call("storage.privileged.in_layer", path=layer.fs)
                )
                core.layers.record_privileged(diff_id, names)
            candidates |= dict.fromkeys(core.layers.get(diff_id).meta.privileged or ())
        if not candidates:
            return ()
        lowers = [core.layers.get(diff_id).fs for diff_id in reversed(diff_ids)]
        found = await core.call(
            "storage.privileged.in_image", lowers=lowers, candidates=list(candidates)
        )
        return tuple(cast("list[str]", found))

    def subject(self, ref: str) -> Subject:
        """The image called ``ref``, whosever it is; raises NotFound."""
        return of_image(self._index.find(ref))

    async def of(self, spec: ContainerSpec) -> tuple[ImageFacts, ...]:
        """The image of a container and those it mounts."""
        return tuple([await self.facts(image) for image in (spec.image, *spec.mounted)])
