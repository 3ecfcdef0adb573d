"""Signatures of images are verified: those a registry has, by the keys that the policy names.

In a process of its own, which is over at once: the library would stay in the daemon's memory,
and what it reads is the registry's.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from rootless.engine.core import Core
from rootless.engine.files import raise_reported, read_pipe
from rootless.errors import Unavailable
from rootless.images.signatures.attached import Signed
from rootless.linux import isolated
from rootless.model.image import Voucher
from rootless.publickeys import PublicKey

if TYPE_CHECKING:
    from rootless.images.registry.client import Repository

REPORT_FD = 3


async def vouchers(
    core: Core, repository: Repository, digests: Collection[str]
) -> tuple[Voucher, ...]:
    """Who vouches for one of ``digests``, of the keys that the policy has for the repository.

    The registry is not asked where the policy names none.
    """
    keys = core.policy.trusted_keys(repository.reference.name)
    if not keys:
        return ()
    from rootless.images.signatures.fetch import fetch

    found: dict[Signed, None] = {}
    for digest in digests:
        found.update(dict.fromkeys(await fetch(repository, digest)))
    return await verified(core, tuple(found), digests, keys)


async def verified(
    core: Core, found: Sequence[Signed], digests: Collection[str], keys: Sequence[PublicKey]
) -> tuple[Voucher, ...]:
    """The signatures that hold and are of one of ``digests``."""
    if not found or not keys:
        return ()
    request = {
        "keys": [key.pem for key in keys],
        "digests": sorted(digests),
        "signatures": [[_text(each.payload), _text(each.signature)] for each in found],
    }
    answer = await _ask(core, json.dumps(request).encode())
    return tuple(Voucher(*map(str, row)) for row in answer)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def _ask(core: Core, request: bytes) -> list[list[object]]:
    report, theirs = os.pipe2(os.O_CLOEXEC)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    asked = os.memfd_create("signatures", os.MFD_CLOEXEC)
    try:
        await asyncio.to_thread(_fill, asked, request)
        command = isolated.command("rootless.engine.verifier", [], site_packages=True)
        launcher = await core.launcher()
        spawned = await launcher.spawn(command, fds={0: asked, 1: null, 2: 2, REPORT_FD: theirs})
    except BaseException:
        os.close(report)
        raise
    finally:
        for fd in (theirs, null, asked):
            os.close(fd)
    try:
        text = b"".join([chunk async for chunk in read_pipe(report)])
    except BaseException:
        spawned.kill()
        raise
    finally:
        await spawned.wait()
    if not text:
        raise Unavailable("the verification of signatures ended without an answer")
    message = json.loads(text)
    raise_reported(message)
    result: list[list[object]] = message["result"]
    return result


def _fill(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
