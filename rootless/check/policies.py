"""The policy that a command line names: files, built-ins, or what is in force."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from rootless.check.inputs import read_some
from rootless.policy.clauses import check_defaults
from rootless.policy.documents import MAX_SIZE, InvalidPolicy
from rootless.policy.lint import Written
from rootless.policy.load import PolicyFiles, PolicyStore, load_named, load_parts, load_policy
from rootless.policy.policy import Policy, meet

_OURS = re.compile(rb"""^\s*["']?apiVersion["']?\s*:\s*["']?rootless\.dev/""", re.MULTILINE)
_LOOK = 1 << 16
"""Bytes in which a policy says that it is one."""


def home() -> str:
    """The user's home directory."""
    return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir


def in_force() -> Policy:
    """What the user's daemon would decide by (without the files of daemon.json)."""
    return PolicyStore(_files(), home=home()).current()


def _files() -> PolicyFiles:
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home(), ".config")
    return PolicyFiles(user=Path(config) / "rootless" / "policy.yaml")


def written(names: Sequence[str]) -> list[Written]:
    """The files among these policies (of none: those in force), each with what binds it.

    The policies are known to be valid.
    """
    files = [name for name in names if not name.startswith("builtin:")]
    if not names:
        admin, user = _files().admin, _files().user
        files = [str(path) for path in (admin, user) if path.exists()]
    found = []
    for file in files:
        own, bases = load_parts(read_text(file), file, home=home())
        others = [load_policies([other]) for other in (names or files) if other != file]
        found.append(Written(own, reduce(meet, [*bases, *others]) if bases or others else None))
    return found


def looks_like_policy(name: str) -> bool:
    """Whether an argument is a policy: a built-in's name, or a file that says so."""
    if name.startswith("builtin:"):
        return True
    if name == "-" or not os.path.isfile(name):
        return False
    try:
        return _OURS.search(read_some(name, _LOOK)) is not None
    except OSError:
        return False  # it is an input then, and told when it is read


def read_text(name: str) -> str:
    """A policy file's text; raises InvalidPolicy when it is none, OSError when unreadable."""
    data = read_some(name, MAX_SIZE)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidPolicy([f"{name}:1:1: not UTF-8 at byte {error.start}"]) from error


def load_policies(names: Sequence[str]) -> Policy:
    """The meet of policies; InvalidPolicy has the complaints about all of them."""
    policies: list[Policy] = []
    complaints: list[str] = []
    for name in names:
        try:
            if name.startswith("builtin:"):
                policies.append(load_named(name, home=home(), where="command line"))
            else:
                policies.append(load_policy(read_text(name), name, home=home()))
        except InvalidPolicy as error:
            found = error.context["complaints"]
            assert isinstance(found, list)
            complaints += found
    if complaints:
        raise InvalidPolicy(complaints)
    policy = reduce(meet, policies)
    check_defaults(policy)
    return policy
