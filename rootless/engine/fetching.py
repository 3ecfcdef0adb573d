"""One image from a registry: judged before its layers are fetched, unpacked while they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rootless.engine import vouching
from rootless.engine.core import Core
from rootless.engine.progress import Report
from rootless.engine.unpacking import Unpacker
from rootless.images.content import ContentStore
from rootless.images.image import Image, Layer
from rootless.images.platform import Platform
from rootless.images.reference import Reference
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts, Voucher

if TYPE_CHECKING:
    from rootless.images.registry.client import Repository
    from rootless.images.registry.credentials import Credentials
    from rootless.images.registry.progress import Meter
    from rootless.images.registry.pull import Pulled
    from rootless.images.registry.settings import RegistrySettings


@dataclass(frozen=True, slots=True)
class Fetching:
    """What it takes to fetch images."""

    core: Core
    content: ContentStore
    unpacker: Unpacker
    settings: RegistrySettings

    async def fetch(
        self,
        identity: Identity,
        name: Reference,
        report: Report,
        *,
        wanted: Platform,
        explicit: bool,
        credentials: Credentials | None,
    ) -> tuple[Pulled, tuple[Voucher, ...]]:
        """The image, every layer unpacked, and the signatures of it that were verified.

        What is judged is the very manifest whose layers are then fetched.
        """
        from rootless.images.registry import pull as pulling

        vouchers: list[Voucher] = []

        async def inspect(repository: Repository, top: str, image: Image) -> None:
            # A signature is of the index or of the manifest that it lists, both as they came.
            digests = dict.fromkeys((top, image.manifest_digest))
            vouchers.extend(await vouching.vouchers(self.core, repository, digests))
            facts = ImageFacts(
                str(name), created_ns=image.config.created_ns, vouchers=tuple(vouchers)
            )
            for finding in self.core.policy.admit_pull(identity, facts).findings:
                if finding.action == "warn":
                    report({"status": f"policy: {finding}"})

        pulled = await pulling.pull(
            name,
            self.content,
            self.settings,
            wanted=wanted,
            explicit_platform=explicit,
            credentials=credentials,
            progress=report,
            is_unpacked=self.unpacker.has,
            unpack=self._unpack,
            inspect=inspect if self.core.policy.looks_into_pulls else None,
        )
        return pulled, tuple(vouchers)

    async def _unpack(self, layer: Layer, meter: Meter) -> None:
        meter.restart()
        await self.unpacker.layer(
            layer.descriptor.digest,
            layer.diff_id,
            lambda count: meter.at("Extracting", count),
        )
