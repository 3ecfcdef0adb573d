"""Unprivileged accounts: creating one, and what a login of it needs."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from lib.say import SetupFailed, note, run


@dataclass(frozen=True)
class Account:
    """A user to run as. ``switch`` is False when that is who we are already."""

    name: str
    uid: int
    gid: int
    home: str
    switch: bool

    @property
    def runtime_dir(self) -> str:
        """XDG_RUNTIME_DIR as logind would make it."""
        return f"/run/user/{self.uid}"


def current() -> Account:
    """Ourselves; refused for root."""
    entry = pwd.getpwuid(os.getuid())
    if entry.pw_uid == 0:
        raise SetupFailed("an unprivileged user is needed, not root")
    home = os.environ.get("HOME") or entry.pw_dir
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, home, switch=False)


def ensure(name: str) -> Account:
    """The named account, created when absent; its home and runtime directory exist."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        note(f"creating the unprivileged user {name}")
        run(["useradd", "--create-home", "--shell", "/bin/bash", "--user-group", name])
        entry = pwd.getpwnam(name)
    if entry.pw_uid == 0:
        raise SetupFailed(f"user {name} is root; an unprivileged user is needed")
    account = Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, switch=True)
    for path in (account.home, account.runtime_dir):
        ensure_directory(Path(path), account)
    return account


def ensure_directory(path: Path, account: Account) -> None:
    """``path`` exists, is the account's own and closed to others."""
    if path.is_dir():
        if path.stat().st_uid != account.uid:
            raise SetupFailed(f"{path} belongs to uid {path.stat().st_uid}, not to {account.name}")
        return
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    os.chown(path, account.uid, account.gid)
