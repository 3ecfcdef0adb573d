"""What belongs to the engine itself, and whether a mount would hand it to a container.

Paths are compared after their symlinks are resolved, and once more by where they
are inside their file system, so that a bind mount of the same directory
elsewhere, or of one inside or around it, is no way around.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import SyscallError
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
    keys: tuple[Path, ...] = ()
    """Files with keys that are elsewhere; what protects them is their directory."""

    def protected(self) -> Iterator[tuple[str, Path]]:
        """Each protected path with what it is."""
        yield "the engine's data root", self.data_root
        yield "the engine's run-time directory", self.exec_root
        yield "the engine's configuration and keys", self.config_dir
        yield "the administrator's policy", self.admin_dir
        for socket in self.sockets:
            yield "the engine's socket", socket
        for key in self.keys:
            yield "the engine's key", key


def _identity(path: str) -> tuple[int, int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


_OCTAL = re.compile(r"\\([0-7]{3})")

Location = tuple[str, str]
"""A device (``major:minor``) and a path inside its file system."""


@dataclass(frozen=True, slots=True)
class MountTable:
    """Which file system each path really is in (proc_pid_mountinfo(5)).

    A bind mount gives a file another path; its device and the path inside the
    file system stay the same, whatever it is called.
    """

    mounts: tuple[tuple[str, Location], ...]
    """Mount point and what is mounted there; later ones cover earlier ones."""

    @classmethod
    def read(cls) -> MountTable:
        """This process' own."""
        name = "/proc/self/mountinfo"
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                fields = [line.split(" ", 6) for line in file]
        except OSError as error:
            raise SyscallError("read", name, error.errno or 0) from error
        return cls(tuple((_plain(f[4]), (f[2], _plain(f[3]))) for f in fields))

    def locate(self, path: str) -> Location:
        """Where a resolved path really is."""
        best, found = "", ("", path)
        for point, (device, root) in self.mounts:
            if len(point) >= len(best) and beneath(path, point):
                inner = path[len(point) :].lstrip("/")
                best, found = point, (device, posixpath.join(root, inner) if inner else root)
        return found

    def shown(self, source: str) -> list[Location]:
        """Everything a recursive bind mount of ``source`` shows: itself and mounts below it."""
        below = [where for point, where in self.mounts if beneath(point, source)]
        return [self.locate(source), *below]


def _plain(text: str) -> str:
    """Space, tab, newline and backslash are octal in mountinfo."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def overlap(source: str, paths: EnginePaths, table: MountTable) -> tuple[str, Path] | None:
    """What of the engine's ``source`` (resolved) is, is inside of, or shows below itself."""
    shown = table.shown(source)
    for what, path in paths.protected():
        real = os.path.realpath(path)
        if beneath(source, real) or beneath(real, source):
            return what, path
        device, inner = table.locate(real)
        for other, place in shown:
            if device == other and (beneath(place, inner) or beneath(inner, place)):
                return what, path
    return None


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
        for known in _well_known():
            if beneath(os.path.realpath(known), source) and os.path.exists(known):
                return known
    return None


_SOCKET_PLACES = (
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
)


def socket_by_name(source: str) -> str | None:
    """The same for a path of another machine: what is usually there."""
    name = os.path.basename(source)
    if name in ENGINE_SOCKETS or name in {"cri-dockerd.sock", "dockershim.sock", "cri.sock"}:
        return source
    real = source.removeprefix("/var") if beneath(source, "/var/run") else source
    return next((place for place in _SOCKET_PLACES if beneath(place, real)), None)


def _alias(source: str) -> str | None:
    """Another name of a well-known engine socket (a hard link or a bind mount)."""
    identity = _identity(source)
    for known in _well_known():
        if identity is not None and identity == _identity(known):
            return known
    return None


def _well_known() -> tuple[str, ...]:
    """Where engines listen unless they are told otherwise."""
    session = os.environ.get("XDG_RUNTIME_DIR", "/run/user/0")
    return (
        "/run/docker.sock",
        "/run/podman/podman.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        f"{session}/docker.sock",
        f"{session}/podman/podman.sock",
        f"{session}/rootless/rootless.sock",
    )
