"""Directories that ``:z`` and ``:Z`` must not relabel: no system or login would survive it."""

from __future__ import annotations

import os

from rootless.errors import Denied

_SYSTEM = (
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib32", "/lib64", "/libx32", "/media",
    "/mnt", "/opt", "/proc", "/root", "/run", "/run/user", "/sbin", "/srv", "/sys", "/tmp", "/usr",
    "/var", "/var/cache", "/var/home", "/var/lib", "/var/log", "/var/mail", "/var/spool",
    "/var/tmp",
)  # fmt: skip
_WHOLE = ("/boot", "/dev", "/etc", "/proc", "/sys", "/usr")
"""Nothing below these either."""
_HOMES = ("/home", "/var/home")


def refuse_system(fd: int, path: str) -> None:
    """Refuse to relabel what ``fd`` refers to, a source called ``path``, by its inode.

    A bind mount or a symlink gives a directory another name, not another inode.
    """
    found = os.fstat(fd)
    identity = (found.st_dev, found.st_ino)
    homes = {os.path.expanduser("~")}
    for place in _HOMES:
        if os.path.isdir(place):
            homes.update(entry.path for entry in os.scandir(place))
    real = os.readlink(f"/proc/self/fd/{fd}")
    below = any(real.startswith(f"{place}/") for place in _WHOLE)
    if below or any(_identity(place) == identity for place in (*_SYSTEM, *homes)):
        raise Denied(
            f"SELinux relabeling of {path} is not allowed: it is a directory of the system, or a "
            "home directory as a whole",
            hint="mount a directory inside it, or use --security-opt label=disable",
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
