"""The changes setup can make, each with its inverse.

A change is recorded before it is applied, so ``undo`` must also be right for
one that a crash kept from happening. What somebody changed since then is left alone.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from rootless.errors import Unavailable
from rootless.host import edit
from rootless.host.facts import Host


class Change(Protocol):
    """One change of the machine."""

    kind: ClassVar[str]

    def describe(self) -> str:
        """What it does, for the person who watches."""

    def apply(self, host: Host) -> None:
        """Do it."""

    def undo(self, host: Host) -> str:
        """Take it back; what was done, '' for nothing."""


@dataclass(frozen=True, slots=True)
class AddLine:
    """Append a line to a file of the shadow suite."""

    file: str
    line: str
    kind: ClassVar[str] = "line"

    def describe(self) -> str:
        """What it does."""
        return f"add to {self.file}: {self.line}"

    def apply(self, host: Host) -> None:
        """Append it under the file's lock."""
        edit.add_line(host.path(self.file), self.line)

    def undo(self, host: Host) -> str:
        """Remove it where it still stands."""
        if self.line not in edit.read_lines(host.path(self.file)):
            return ""
        edit.remove_line(host.path(self.file), self.line)
        return f"remove from {self.file}: {self.line}"


@dataclass(frozen=True, slots=True)
class NewFile:
    """Write a configuration file of our own name; ``reload`` is run after each change of it."""

    file: str
    text: str
    reload: tuple[str, ...] = ()
    kind: ClassVar[str] = "file"

    def describe(self) -> str:
        """What it does."""
        return f"write {self.file}"

    def apply(self, host: Host) -> None:
        """Write it, and tell whoever reads it."""
        edit.replace(host.path(self.file), self.text)
        self._reload(host)

    def undo(self, host: Host) -> str:
        """Remove it unless somebody edited it."""
        path = host.path(self.file)
        if host.read(self.file) != self.text:
            return f"keep {self.file}: it was edited" if path.exists() else ""
        path.unlink()
        if path.parent.name.endswith(".service.d") and not any(path.parent.iterdir()):
            path.parent.rmdir()  # made for this drop-in
        self._reload(host)
        return f"remove {self.file}"

    def _reload(self, host: Host) -> None:
        if self.reload and host.program(self.reload[0]):
            host.run(self.reload)


@dataclass(frozen=True, slots=True)
class Mode:
    """Set permission bits now; a udev rule keeps them after a reboot."""

    path: str
    mode: int
    before: int
    kind: ClassVar[str] = "mode"

    def describe(self) -> str:
        """What it does."""
        return f"chmod {self.mode:04o} {self.path} (was {self.before:04o})"

    def apply(self, host: Host) -> None:
        """chmod(2)."""
        host.path(self.path).chmod(self.mode)

    def undo(self, host: Host) -> str:
        """Back to what it was, unless changed since."""
        path = host.path(self.path)
        if not path.exists() or path.stat().st_mode & 0o7777 != self.mode:
            return ""
        path.chmod(self.before)
        return f"chmod {self.before:04o} {self.path}"


@dataclass(frozen=True, slots=True)
class Sysctl:
    """Set a kernel setting now; a file in /etc/sysctl.d keeps it."""

    name: str
    value: str
    before: str
    kind: ClassVar[str] = "sysctl"

    def describe(self) -> str:
        """What it does."""
        return f"sysctl {self.name}={self.value} (was {self.before})"

    def apply(self, host: Host) -> None:
        """Write below /proc/sys."""
        self._write(host, self.value)

    def undo(self, host: Host) -> str:
        """Back to what it was, unless changed since."""
        if host.sysctl(self.name) != self.value:
            return ""
        self._write(host, self.before)
        return f"sysctl {self.name}={self.before}"

    def _write(self, host: Host, value: str) -> None:
        path = host.path(f"/proc/sys/{self.name.replace('.', '/')}")
        try:
            path.write_text(value)
        except OSError as error:
            raise Unavailable(
                f"cannot set sysctl {self.name}: {error.strerror}",
                hint="in a container, set it on the machine that runs the container",
            ) from None


@dataclass(frozen=True, slots=True)
class Command:
    """Run a program; ``inverse`` undoes it, empty when it should stay (installed packages)."""

    command: tuple[str, ...]
    inverse: tuple[str, ...] = ()
    stays: str = ""
    kind: ClassVar[str] = "command"

    def describe(self) -> str:
        """What it does."""
        return f"run {shlex.join(self.command)}"

    def apply(self, host: Host) -> None:
        """Run it; its failure is an error with its own words."""
        status, output = host.run(self.command)
        if status != 0:
            last = output.strip().splitlines()[-1] if output.strip() else f"status {status}"
            raise Unavailable(
                f"{shlex.join(self.command)} failed: {last}", hint="run it by hand to see more"
            )

    def undo(self, host: Host) -> str:
        """Run the inverse."""
        if not self.inverse:
            return self.stays
        host.run(self.inverse)
        return f"run {shlex.join(self.inverse)}"


@dataclass(frozen=True, slots=True)
class OwnDirectory:
    """Make a private directory of the user's."""

    path: str
    uid: int
    gid: int
    kind: ClassVar[str] = "directory"

    def describe(self) -> str:
        """What it does."""
        return f"make {self.path} for uid {self.uid}, mode 0700"

    def apply(self, host: Host) -> None:
        """mkdir and chown."""
        path = host.path(self.path)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, self.uid, self.gid)

    def undo(self, host: Host) -> str:
        """Remove it while it is empty."""
        path = host.path(self.path)
        try:
            path.rmdir()
        except FileNotFoundError:
            return ""
        except OSError:
            return f"keep {self.path}: it is in use"
        return f"remove {self.path}"


_DELEGATED = (
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.subtree_control",
    "memory.oom.group",
    "memory.reclaim",
)
"""What /sys/kernel/cgroup/delegate names: a delegatee owns these and the directory."""


@dataclass(frozen=True, slots=True)
class CgroupSubtree:
    """Without systemd: a cgroup2 directory that the user owns (cgroup-v2.rst, "Delegation").

    It lasts until the next boot; processes must be started in it by root.
    """

    path: str
    uid: int
    gid: int
    controllers: tuple[str, ...] = ()
    kind: ClassVar[str] = "cgroup"

    def describe(self) -> str:
        """What it does."""
        return f"delegate cgroup {self.path} ({' '.join(self.controllers) or 'no controllers'})"

    def apply(self, host: Host) -> None:
        """mkdir, hand controllers on, chown."""
        path = host.path(self.path)
        control = path.parent / "cgroup.subtree_control"
        for name in self.controllers:
            control.write_text(f"+{name}")
        path.mkdir(mode=0o755, exist_ok=True)
        # What is below may be an account's of the same name that is gone.
        for directory, _, names in os.walk(path):
            os.chown(directory, self.uid, self.gid)
            for name in set(names) & set(_DELEGATED):
                os.chown(f"{directory}/{name}", self.uid, self.gid)

    def undo(self, host: Host) -> str:
        """Remove it and what the user made below, while no process runs there."""
        path = host.path(self.path)
        if not path.is_dir():
            return ""
        try:
            for directory, _, _ in os.walk(path, topdown=False):
                os.rmdir(directory)
        except OSError:
            return f"keep cgroup {self.path}: processes run in it"
        return f"remove cgroup {self.path}"


_KINDS: dict[str, type[Change]] = {
    kind.kind: kind
    for kind in (AddLine, NewFile, Mode, Sysctl, Command, OwnDirectory, CgroupSubtree)
}


def to_json(change: Change) -> dict[str, object]:
    """A change as its record keeps it."""
    return {"kind": change.kind, **dataclasses.asdict(change)}  # type: ignore[call-overload]  # each kind is a dataclass


def from_json(entry: dict[str, object]) -> Change:
    """The change that :func:`to_json` wrote. Raises KeyError or TypeError for anything else."""
    fields = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.items()
        if key != "kind"
    }
    return _KINDS[str(entry["kind"])](**fields)


def exists(host: Host, path: str) -> bool:
    """Is there such a path on the machine?"""
    return Path(host.path(path)).exists()
