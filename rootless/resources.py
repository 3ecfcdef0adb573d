"""Where the policies, seccomp profiles and certificate profiles that ship with the engine are.

An installed package carries them below ``rootless/_data``; in a checkout they
are the directories ``policies``, ``profiles`` and ``pki`` beside the package.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from rootless.errors import NotFound

Kind = Literal["policies", "profiles", "pki"]

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_PACKAGE = Path(__file__).resolve().parent


def resource_path(kind: Kind, name: str) -> Path:
    """The path of the shipped file ``name`` (``seccomp/default.json``) of ``kind``.

    Names come from code and from users (``--security-opt seccomp=builtin``), so
    a component that starts with a dot is no name: nothing outside is reachable.
    """
    if _NAME.fullmatch(name):
        for root in (_PACKAGE / "_data", _PACKAGE.parent):
            path = root / kind / name
            if path.is_file():
                return path
    raise NotFound(
        f"no such built-in file: {kind}/{name}",
        hint="the installation is incomplete or the name is wrong; install rootless again",
    )
