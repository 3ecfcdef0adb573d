"""hosts, hostname and resolv.conf of a container: files in its directory, mounted over its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rootless.engine.core import Core
    from rootless.model.network import Endpoint
    from rootless.model.spec import ContainerSpec

ETC_FILES = (
    ("resolv.conf", "/etc/resolv.conf"),
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
)
"""Names in the container's directory, and where they are mounted."""


Line = tuple[str, tuple[str, ...]]
"""Of a hosts file: an address and its names."""
_MAX_HOSTS = 1 << 20
"""Bytes of a hosts file that is read; the container may write to it."""


def make_etc(directory: Path) -> None:
    """Make the files empty: a new inode takes the disk longer than all else about them."""
    for name, _ in ETC_FILES:
        _write(f"{directory}/{name}", b"")


def write_etc(
    core: Core,
    spec: ContainerSpec,
    directory: Path,
    endpoints: Sequence[Endpoint] = (),
    linked: Sequence[Line] = (),
) -> None:
    """Write them anew for each start: resolvers and addresses may have changed.

    Nobody reads them before the start, and what a crash or a power cut damaged is
    written again by the next one: hence in place, and not synced. ``linked`` are
    the containers that it is linked to.
    """
    from rootless.network import files

    source = spec
    if spec.network.mode.startswith("container:"):
        joined = core.registry.find(spec.network.mode.partition(":")[2])
        source, endpoints = joined.record.spec, joined.endpoints
    texts = (
        files.render_resolv_conf(source.network, files.read_host_resolv_conf()),
        files.render_hosts(
            source.network,
            hostname=source.hostname,
            domainname=source.domainname,
            addresses=addresses_of(endpoints),
            linked=linked,
        ),
        files.render_hostname(source.hostname),
    )
    for (name, _), text in zip(ETC_FILES, texts, strict=True):
        _write(f"{directory}/{name}", text.encode())


def addresses_of(endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
    """What the container's host name stands for."""
    return tuple(a for e in endpoints for a in (e.ipv4_address, e.ipv6_address) if a)


def change_hosts(
    directory: Path, hostname: str, *, add: Iterable[str] = (), drop: Iterable[str] = ()
) -> None:
    """Add or take addresses of a running container's; what else is in its hosts file stays."""
    gone = frozenset(drop)
    new = [f"{address}\t{hostname}" for address in add if hostname]
    _change_hosts(directory, lambda line: line.split("\t")[0] in gone, new)


def replace_hosts(directory: Path, name: str, lines: Iterable[Line]) -> None:
    """Have ``lines`` where ``name`` stood in a running container's hosts file."""
    new = [f"{address}\t{' '.join(names)}" for address, names in lines]
    _change_hosts(directory, lambda line: name in line.split()[1:], new)


def _change_hosts(directory: Path, drop: Callable[[str], bool], new: Sequence[str]) -> None:
    path = directory / "hosts"
    if path.stat().st_size > _MAX_HOSTS:
        return  # the container made it so
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    kept = [line for line in lines if not drop(line)]
    text = "".join(f"{line}\n" for line in (*kept, *new))
    _write(str(path), text.encode("utf-8", "surrogateescape"))


def use_resolver(directory: Path, spec: ContainerSpec) -> None:
    """Write resolv.conf of a running container that came to its first bridge network."""
    from rootless.network import files

    text = files.render_resolv_conf(spec.network, files.read_host_resolv_conf())
    _write(f"{directory}/resolv.conf", text.encode())


def _write(path: str, data: bytes) -> None:
    """Fill a file that the container's ids may read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o644)
    try:
        os.fchmod(fd, 0o644)
        os.write(fd, data)
    finally:
        os.close(fd)
