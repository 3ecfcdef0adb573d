"""A context in a file: ``docker context export`` and ``import``'s tar archive."""

from __future__ import annotations

import io
import tarfile

from rootless.client import jsonlite
from rootless.client.contexts import FILES, Context
from rootless.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_LIMIT = 10 << 20
"""Bytes, as in Docker."""
_TLS = "tls/docker"


def export(context: Context, out: BinaryIO) -> None:
    """Write it, keys and all."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        document = jsonlite.pretty_line(context.document).encode()
        _add(archive, "meta.json", document, 0o644)
        for name in ("tls", *([_TLS] if context.tls else [])):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(directory)
        for name, data in context.tls.items():
            _add(archive, f"{_TLS}/{name}", data, 0o600)


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    archive.addfile(member, io.BytesIO(data))


def read(name: str, source: BinaryIO) -> Context:
    """The context in an archive, under a name of its own. Nothing is unpacked by path."""
    data = source.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise InvalidInput(f"the context's archive is larger than {_LIMIT} bytes")
    document = None
    tls: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                content = archive.extractfile(member)
                assert content is not None
                if member.name == "meta.json":
                    document = jsonlite.loads(content.read())
                elif (file := member.name.removeprefix(f"{_TLS}/")) in FILES:
                    tls[file] = content.read()
                else:
                    raise InvalidInput(f"{member.name}: unexpected context file")
    except tarfile.TarError as error:
        raise InvalidInput(
            f"the context's archive is no tar archive: {error}",
            hint="write it with `rootless context export` or `docker context export`",
        ) from None
    except (ValueError, RecursionError):
        raise InvalidInput("the context's meta.json is not valid JSON") from None
    if not isinstance(document, dict):
        raise InvalidInput("invalid context: no metadata found")
    return Context(name, document, tls)
