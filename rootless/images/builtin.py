"""The built-in image: the host's static busybox, so that a first run needs no registry."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rootless.archive.compress import CompressingWriter, DigestingWriter
from rootless.archive.header import DIRECTORY, LINK, REGULAR_KIND, SYMLINK, Header
from rootless.archive.writer import TarWriter, entry
from rootless.errors import HostUnsupported
from rootless.images import image as images
from rootless.images import platform as platforms
from rootless.images import reference as references
from rootless.images.config import History, ImageConfig
from rootless.images.content import ContentStore, Ingest
from rootless.images.image import Image
from rootless.images.manifest import OCI_LAYER_GZIP, Descriptor
from rootless.images.reference import Reference
from rootless.model.request import ContainerConfig

NAME = "rootless/busybox:latest"
_HINT = "sudo apt-get install busybox-static"
_CANDIDATES = ("/usr/bin/busybox", "/bin/busybox", "/sbin/busybox", "/usr/sbin/busybox")
_ELF_INTERPRETER = 3  # PT_INTERP of elf(5)

_DIRECTORIES = (
    ("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("lib", 0o755),
    ("mnt", 0o755), ("opt", 0o755), ("proc", 0o755), ("root", 0o700), ("run", 0o755),
    ("srv", 0o755), ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("var", 0o755),
    ("var/log", 0o755), ("var/spool", 0o755), ("var/tmp", 0o1777), ("var/www", 0o755),
)  # fmt: skip
_LINKS = (
    ("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("var/run", "../run"),
)  # fmt: skip
_FILES = (
    ("etc/group", "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n"
     "mail:x:8:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
     "bin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\n"
     "mail:x:8:8:mail:/var/spool/mail:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
     "nobody:x:65534:65534:nobody:/home:/bin/false\n"),
    ("etc/profile", "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
     "umask 022\n"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Busybox:
    """A static busybox of the host and the names it answers to."""

    path: Path
    applets: tuple[str, ...]


def is_static(path: Path) -> bool:
    """True when the 64- or 32-bit ELF file needs no interpreter (elf(5), PT_INTERP)."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF" or len(head) < 52:
            return False
        order: Literal["little", "big"] = "little" if head[5] == 1 else "big"
        wide = head[4] == 2
        offset = int.from_bytes(head[32:40] if wide else head[28:32], order)
        at = 54 if wide else 42
        size = int.from_bytes(head[at : at + 2], order)
        count = int.from_bytes(head[at + 2 : at + 4], order)
        file.seek(offset)
        table = file.read(size * count)
    kinds = [table[i : i + 4] for i in range(0, len(table), size or 1)] if size else []
    return _ELF_INTERPRETER not in [int.from_bytes(kind, order) for kind in kinds]


def find() -> Busybox:
    """The host's busybox; HostUnsupported with the package to install otherwise."""
    found = shutil.which("busybox")
    paths = dict.fromkeys(([found] if found else []) + list(_CANDIDATES))
    for name in paths:
        path = Path(os.path.realpath(name))
        if path.is_file() and is_static(path):
            listing = subprocess.run(
                [path, "--list"], capture_output=True, check=True, timeout=30, text=True
            )
            names = {line.strip() for line in listing.stdout.splitlines()}
            valid = sorted(n for n in names if n and "/" not in n and n != "busybox")
            return Busybox(path, tuple(valid))
    raise HostUnsupported(
        "cannot make the built-in image: no statically linked busybox found", hint=_HINT
    )


def _entries(busybox: Busybox) -> list[tuple[Header, bytes]]:
    found: list[tuple[Header, bytes]] = []
    for name, mode in _DIRECTORIES:
        found.append((entry(f"{name}/".encode(), DIRECTORY, mode=mode), b""))
    program = entry(b"bin/busybox", REGULAR_KIND, mode=0o755)
    found.append((program, busybox.path.read_bytes()))
    for applet in busybox.applets:
        applet_path = f"bin/{applet}".encode()
        found.append((entry(applet_path, LINK, mode=0o755, link=b"bin/busybox"), b""))
    for name, text in _FILES:
        found.append((entry(name.encode(), REGULAR_KIND), text.encode()))
    for name, target in _LINKS:
        link = entry(name.encode(), SYMLINK, mode=0o777, link=target.encode())
        found.append((link, b""))
    return found


class _IngestWriter:
    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def write(self, data: bytes, /) -> None:
        self._ingest.write(data)


def build(store: ContentStore, busybox: Busybox | None = None) -> tuple[Image, Reference]:
    """Make the built-in image in ``store``; the same busybox gives the same digest.

    Returns the image and the reference it is to be tagged with.
    """
    busybox = busybox or find()
    with store.ingest() as ingest:
        packer = CompressingWriter(_IngestWriter(ingest), "gzip")
        plain = DigestingWriter(packer)
        tar = TarWriter(plain)
        for header, data in _entries(busybox):
            tar.add(header, data)
        tar.finish()
        packer.finish()
        digest, size = ingest.commit(), ingest.offset
    config = ImageConfig(
        platform=platforms.host(),
        config=ContainerConfig(
            cmd=("sh",),
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",),
        ),
        diff_ids=(plain.digest(),),
        history=(History(created_by="rootless: static busybox of the host"),),
    )
    image = images.assemble(store, config, (Descriptor(OCI_LAYER_GZIP, digest, size),))
    return image, references.parse(NAME)
