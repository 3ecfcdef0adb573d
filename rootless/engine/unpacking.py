"""Layers from blobs: each unpacked once, in the engine's user namespace."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable

from rootless.engine.core import Core
from rootless.engine.files import raise_reported, read_pipe
from rootless.engine.progress import Report
from rootless.errors import Unavailable
from rootless.images.content import ContentStore
from rootless.images.image import Image, Layer
from rootless.storage.layers import LayerMeta

Consumed = Callable[[int], None]
MeterOf = Callable[[Layer], Consumed]


class Unpacker:
    """Unpacks layers; two requests for the same layer share one unpacking."""

    def __init__(self, core: Core, content: ContentStore) -> None:
        self._core = core
        self._content = content
        self._locks: dict[str, asyncio.Lock] = {}
        self._proven: set[tuple[str, str]] = set()
        """Blobs found to be what their diff ids say, of images that are not recorded yet."""

    def has(self, diff_id: str) -> bool:
        """True when the layer is unpacked."""
        return self._core.layers.lookup(diff_id) is not None

    async def image(self, image: Image, meter_of: MeterOf | None = None) -> None:
        """Every layer of an image whose blobs are there; ``meter_of`` gives who counts one."""
        for layer in image.layers:
            if meter_of is None or self.has(layer.diff_id):
                await self.layer(layer.descriptor.digest, layer.diff_id)
            else:
                await self.layer(layer.descriptor.digest, layer.diff_id, meter_of(layer))

    async def prove(self, image: Image, recorded: Iterable[Image]) -> None:
        """Refuse ``image`` when a blob is not the layer its config says, although that is there.

        Its containers would run, but who it is pushed or saved to could not use it. What
        :meth:`image` has just unpacked, and what a ``recorded`` image has too, is known.
        """
        pairs = {(layer.descriptor.digest, layer.diff_id) for layer in image.layers}
        unknown = pairs - self._proven
        self._proven -= pairs
        if unknown:
            for other in recorded:
                unknown -= {(layer.descriptor.digest, layer.diff_id) for layer in other.layers}
        for digest, diff_id in unknown:
            await self._unpack(digest, diff_id, lambda _count: None)
            self._proven.discard((digest, diff_id))

    async def layer(
        self, digest: str, diff_id: str, consumed: Consumed = lambda _count: None
    ) -> None:
        """One layer from the blob ``digest``; ``consumed`` is told compressed bytes read."""
        lock = self._locks.setdefault(diff_id, asyncio.Lock())
        async with lock:
            if not self.has(diff_id):
                await self._unpack(digest, diff_id, consumed)
        if not lock.locked():
            self._locks.pop(diff_id, None)

    async def _unpack(self, digest: str, diff_id: str, consumed: Consumed) -> None:
        core = self._core
        directory = core.layers.begin(diff_id)
        try:
            done = await self._run(digest, diff_id, str(directory), consumed)
            meta = LayerMeta(
                diff_id=diff_id,
                size=int(str(done["size"])),
                entries=int(str(done["entries"])),
                max_id=int(str(done["max_id"])),
            )
            await asyncio.to_thread(core.layers.commit, directory, meta)
            self._proven.add((digest, diff_id))
        finally:
            # Gone when it became the layer; what is left is of a failure or a lost race.
            if directory.exists():
                core.discard(directory)

    async def _run(
        self, digest: str, diff_id: str, directory: str, consumed: Consumed
    ) -> dict[str, object]:
        from rootless.engine.worker import REPORT_FD, command

        report, theirs = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            with self._content.open(digest) as blob:
                launcher = await self._core.launcher()
                spawned = await launcher.spawn(
                    command(
                        diff_id,
                        directory,
                        max_size=self._core.settings.max_layer_size,
                        max_ratio=self._core.settings.max_layer_ratio,
                    ),
                    fds={0: blob.fileno(), 1: null, 2: 2, REPORT_FD: theirs},
                )
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(theirs)
            os.close(null)
        try:
            rest = b""
            async for chunk in read_pipe(report):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "consumed" in message:
                        consumed(int(message["consumed"]))
                        continue
                    raise_reported(message)
                    result: dict[str, object] = message["result"]
                    return result
        except BaseException:
            spawned.kill()
            raise
        finally:
            await spawned.wait()
        raise Unavailable(f"unpacking of layer {diff_id} ended without an answer")


def loading_meters(report: Report) -> MeterOf:
    """What tells the progress of a load, layer by layer."""
    from rootless.images.registry.progress import Meter

    def meter_of(layer: Layer) -> Consumed:
        meter = Meter(report, layer.diff_id, layer.descriptor.size)
        return lambda count: meter.at("Loading layer", count)

    return meter_of
