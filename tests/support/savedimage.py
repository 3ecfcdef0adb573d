"""Images as ``docker save`` writes them, from bytes in memory."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile


def archive(name: str, content: bytes = b"one") -> bytes:
    """An image of one file, as ``docker save`` writes it."""
    layer = tar({"etc/name": content})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    text = json.dumps(config).encode()
    digest = hashlib.sha256(text).hexdigest()
    manifest = [{"Config": f"{digest}.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    members = {
        f"{digest}.json": text,
        "layer.tar": layer,
        "manifest.json": json.dumps(manifest).encode(),
    }
    return tar(members)


def tar(members: dict[str, bytes]) -> bytes:
    """An archive of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()
