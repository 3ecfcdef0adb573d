"""A daemon that kills itself (SIGKILL) at one point, for tests of recovery.

``python crashing.py MODULE CLASS METHOD before|after COUNT`` runs rootlessd; the
COUNT-th call of the method kills it right before or right after its body.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sys
from typing import Any


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(module: str, owner: str, method: str, moment: str, count: int) -> None:
    """Replace the method by one that kills the process."""
    target: Any = importlib.import_module(module)
    if owner:
        target = getattr(target, owner)
    original = getattr(target, method)
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == count

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def crash_async(*args: Any, **kwargs: Any) -> Any:
            now = due()
            if now and moment == "before":
                _die()
            result = await original(*args, **kwargs)
            if now:
                _die()
            return result

        setattr(target, method, crash_async)
        return

    @functools.wraps(original)
    def crash(*args: Any, **kwargs: Any) -> Any:
        now = due()
        if now and moment == "before":
            _die()
        result = original(*args, **kwargs)
        if now:
            _die()
        return result

    setattr(target, method, crash)


if __name__ == "__main__":
    arm(*sys.argv[1:5], int(sys.argv[5]))
    from rootless.daemon.main import main

    sys.exit(main([]))
