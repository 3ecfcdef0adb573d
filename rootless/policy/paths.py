"""What belongs to the engine itself, and whether a mount would hand it to a container.

Paths are compared after their symlinks are resolved, and once more by device
and inode, so that a bind mount of the same directory elsewhere is no way around.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rootless.policy.kinds import beneath

ENGINE_SOCKETS = frozenset(
    {
        "docker.sock",
        "docker-raw.sock",
        "podman.sock",
        "containerd.sock",
        "crio.sock",
        "buildkitd.sock",
        "rootless.sock",
    }
)
"""Who can connect to one of these runs containers with the rights of its owner."""


@dataclass(frozen=True, slots=True)
class EnginePaths:
    """Where the engine keeps itself; ``config_dir`` also holds keys and the user's policy."""

    data_root: Path
    exec_root: Path
    config_dir: Path
    admin_dir: Path = Path("/etc/rootless")
    sockets: tuple[Path, ...] = ()
    """Further sockets the daemon listens on (``-H unix://…``)."""

    def protected(self) -> Iterator[tuple[str, Path]]:
        """Each protected path with what it is."""
        yield "the engine's data root", self.data_root
        yield "the engine's run-time directory", self.exec_root
        yield "the engine's configuration and keys", self.config_dir
        yield "the administrator's policy", self.admin_dir
        for socket in self.sockets:
            yield "the engine's socket", socket


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _upwards(path: str) -> Iterator[str]:
    while True:
        yield path
        parent = os.path.dirname(path)
        if parent == path:
            return
        path = parent


def overlap(source: str, protected: Path) -> bool:
    """Whether ``source`` (resolved) is the protected path, inside it, or a directory around it."""
    real = os.path.realpath(protected)
    if beneath(source, real) or beneath(real, source):
        return True
    inner = _identity(source)
    if inner is not None and any(_identity(up) == inner for up in _upwards(real)):
        return True
    own = _identity(real)
    return own is not None and any(_identity(up) == own for up in _upwards(source))


def own_storage(source: str, kind: str, name: str, paths: EnginePaths) -> bool:
    """Whether a volume's or image's source is where the engine itself keeps such things."""
    root = os.path.realpath(paths.data_root)
    if kind == "volume":
        return bool(name) and "/" not in name and source == f"{root}/volumes/{name}/_data"
    return kind == "image" and source != f"{root}/layers" and beneath(source, f"{root}/layers")


def engine_socket(source: str) -> str | None:
    """The engine's socket (Docker's, Podman's …) that mounting ``source`` would expose, if any."""
    name = os.path.basename(source)
    try:
        mode = os.stat(source).st_mode
    except OSError:
        # Not there yet: it may be when the container starts.
        return source if name in ENGINE_SOCKETS else None
    if stat.S_ISSOCK(mode):
        return source if name in ENGINE_SOCKETS else _alias(source)
    if stat.S_ISDIR(mode):
        for socket in sorted(ENGINE_SOCKETS):
            inside = os.path.join(source, socket)
            if os.path.exists(inside) and stat.S_ISSOCK(os.stat(inside).st_mode):
                return inside
    return None


def _alias(source: str) -> str | None:
    """Another name of a well-known engine socket (a hard link or a bind mount)."""
    identity = _identity(source)
    session = os.environ.get("XDG_RUNTIME_DIR", "/run/user/0")
    for known in (
        "/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        f"{session}/docker.sock",
        f"{session}/podman/podman.sock",
        f"{session}/rootless/rootless.sock",
    ):
        if identity is not None and identity == _identity(known):
            return known
    return None
