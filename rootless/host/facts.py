"""The machine as doctor and setup look at it: files below a root, a user, a way to run programs.

Tests give another root; nothing here reads an absolute path past it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rootless.errors import InvalidInput

Runner = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a program; its exit status and its output (both streams)."""


def run_program(command: Sequence[str]) -> tuple[int, str]:
    """Run a program without input, at most a minute; 127 when it cannot be started."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]}: no answer within 60 s"
    return done.returncode, done.stdout.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Host:
    """One machine seen for one user. ``live`` is False for a tree of fakes: nothing is executed."""

    user: str
    uid: int
    gid: int
    home: str
    root: Path = Path("/")
    environ: dict[str, str] = field(default_factory=dict)
    run: Runner = run_program
    live: bool = True

    def path(self, absolute: str) -> Path:
        """An absolute path of the machine, below the root."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        """A file's text, '' when it is absent or may not be read."""
        try:
            return self.path(absolute).read_text(errors="replace")
        except OSError:
            return ""

    def sysctl(self, name: str) -> str:
        """The value of ``kernel.…`` or ``user.…``, '' when the kernel has no such setting."""
        return self.read(f"/proc/sys/{name.replace('.', '/')}").strip()

    def program(self, name: str) -> str:
        """The machine's path of a program, '' when it is not installed."""
        where = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        if self.live:
            return shutil.which(name) or shutil.which(name, path=where) or ""
        for directory in where.split(":"):
            if self.path(f"{directory}/{name}").exists():
                return f"{directory}/{name}"
        return ""

    @property
    def systemd(self) -> bool:
        """Is systemd the running init (sd_booted(3))?"""
        return self.path("/run/systemd/system").is_dir()

    @property
    def runtime_dir(self) -> str:
        """The user's XDG_RUNTIME_DIR: as told by the environment, else logind's place."""
        return self.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{self.uid}"

    @property
    def data_home(self) -> str:
        """The user's XDG_DATA_HOME."""
        return self.environ.get("XDG_DATA_HOME") or f"{self.home}/.local/share"

    def may_open(self, absolute: str) -> bool:
        """May the user open this device for reading and writing?

        For ourselves the kernel answers, which knows of ACLs; for another user
        the mode bits do.
        """
        path = self.path(absolute)
        if self.uid == os.geteuid():
            return os.access(path, os.R_OK | os.W_OK)
        try:
            found = path.stat()
        except OSError:
            return False
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid == self.gid else 0
        return found.st_mode >> shift & 6 == 6


def host_for(name: str | None) -> Host:
    """The machine for the named user, or for whoever called (through sudo too)."""
    if name is None and os.geteuid() == 0:
        name = os.environ.get("SUDO_USER")
    try:
        entry = pwd.getpwnam(name) if name else pwd.getpwuid(os.getuid())
    except KeyError:
        raise InvalidInput(
            f"no such user: {name or os.getuid()}", hint=f"sudo useradd --create-home {name}"
        ) from None
    own = entry.pw_uid == os.getuid()
    return Host(
        user=entry.pw_name,
        uid=entry.pw_uid,
        gid=entry.pw_gid,
        home=entry.pw_dir,
        environ=dict(os.environ) if own else {},
    )
