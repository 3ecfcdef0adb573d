"""What steps work on: open descriptors by name, on either side of the fork."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from rootless.linux.users import ResolvedUser


@dataclass(slots=True)
class EngineContext:
    """State of the ``prepare`` steps, which run in the shim inside the engine's namespaces.

    ``fds`` holds what init will inherit, by name: ``rootfs``, ``mount:N``,
    ``dev:NAME``. ``helpers`` are pids of programs that serve the sandbox.
    """

    directory: str
    fds: dict[str, int] = field(default_factory=dict)
    helpers: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()


@dataclass(slots=True)
class InitContext:
    """State of the ``enter`` steps, which run in init inside the container's namespaces.

    ``root`` is the root directory's descriptor, -1 until it is entered. Steps
    find in ``fds`` what the engine side prepared and what earlier steps made.
    """

    fds: dict[str, int]
    root: int = -1
    last_capability: int = 40
    terminal_master: int = -1
    terminal_slave: int = -1
    user: tuple[tuple[object, ...], ResolvedUser] | None = None
    """Whom the image's files name, found out before the container was asked for."""

    def take(self, name: str) -> int:
        """The descriptor called ``name``; the caller closes it."""
        return self.fds.pop(name)
