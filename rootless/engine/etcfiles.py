"""hosts, hostname and resolv.conf of a container: files in its directory, mounted over its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless.engine.core import Core
    from rootless.model.spec import ContainerSpec

ETC_FILES = (
    ("resolv.conf", "/etc/resolv.conf"),
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
)
"""Names in the container's directory, and where they are mounted."""


def make_etc(directory: Path) -> None:
    """Make the files empty: a new inode takes the disk longer than all else about them."""
    for name, _ in ETC_FILES:
        _write(f"{directory}/{name}", b"")


def write_etc(core: Core, spec: ContainerSpec, directory: Path) -> None:
    """Write them anew for each start: the host's resolvers may have changed.

    Nobody reads them before the start, and what a crash or a power cut damaged is
    written again by the next one: hence in place, and not synced.
    """
    from rootless.network import files

    source = spec
    if spec.network.mode.startswith("container:"):
        source = core.registry.record_of(spec.network.mode.partition(":")[2]).spec
    texts = (
        files.render_resolv_conf(source.network, files.read_host_resolv_conf()),
        files.render_hosts(source.network, hostname=source.hostname, domainname=source.domainname),
        files.render_hostname(source.hostname),
    )
    for (name, _), text in zip(ETC_FILES, texts, strict=True):
        _write(f"{directory}/{name}", text.encode())


def _write(path: str, data: bytes) -> None:
    """Fill a file that the container's ids may read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644)
    try:
        os.fchmod(fd, 0o644)
        os.write(fd, data)
    finally:
        os.close(fd)
