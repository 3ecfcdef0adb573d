"""What the policy is told of the images that containers are made from."""

from __future__ import annotations

from rootless.engine.image_index import ImageIndex
from rootless.engine.state import State
from rootless.model.image import ImageFacts
from rootless.model.spec import ContainerSpec, ImageSpec
from rootless.policy.rules.images import full_name
from rootless.storage.layers import LayerStore


class ImageInspector:
    """Looks at images by their records; an image whose record is gone has no vouchers."""

    def __init__(self, state: State, index: ImageIndex, layers: LayerStore) -> None:
        self._state = state
        self._index = index
        self._layers = layers

    async def facts(self, image: ImageSpec) -> ImageFacts:
        """All that any rule looks at."""
        entry = self._index.get(image.id)
        return ImageFacts(
            name=image.name or full_name(image.reference),
            created_ns=entry.image.config.created_ns if entry is not None else None,
            size=sum(self._layers.get(diff_id).meta.size for diff_id in image.diff_ids),
            vouchers=tuple(self._state.vouchers(image.id)),
        )

    async def of(self, spec: ContainerSpec) -> tuple[ImageFacts, ...]:
        """The image of a container and those it mounts."""
        return tuple([await self.facts(image) for image in (spec.image, *spec.mounted)])
