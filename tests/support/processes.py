"""Which processes belong to this test run, so that leftovers are found by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rootless.linux import procfs


def supervisor() -> int:
    """The pid of ci/test, which adopts every orphan of the tests; 0 in a bare pytest run."""
    return int(os.environ.get("ROOTLESS_TEST_SUPERVISOR", "0"))


def ours() -> dict[int, str]:
    """pid → command line of every living process of this run; zombies do not count.

    In a bare pytest run orphans belong to init and cannot be told from a
    colleague's, so only pytest's own descendants are seen.
    """
    found = {}
    for pid in procfs.descendants(supervisor() or os.getpid()):
        try:
            state = procfs.stat(pid)
            words = " ".join(procfs.cmdline(pid)) or f"[{state.comm}]"
        except ProcessLookupError:
            continue
        if state.state not in "ZX":
            found[pid] = f"{pid} (parent {state.ppid}) {words}"
    return found


_SPARE = "rootless-spare"
_OF_A_SPARE = 3
"""Its shim, its builder and its init."""


def _is_spare(pid: int) -> bool:
    """Its builder and init carry the name; its shim is their parent."""
    for candidate in (pid, *procfs.descendants(pid)):
        try:
            if procfs.stat(candidate).comm == _SPARE:
                return procfs.stat(pid).comm in (_SPARE, "rootless-shim")
        except ProcessLookupError:
            continue
    return False


_OF_BRIDGES = ("rootless-net", "rootless-dns", "rootless-ports", "slirp4netns")
"""What an engine keeps that has had containers on bridge networks."""


def serves_bridges(pid: int) -> bool:
    """The network holder, its children and slirp4netns: a container's own has an address."""
    try:
        name, words = procfs.stat(pid).comm, procfs.cmdline(pid)
    except ProcessLookupError:
        return False
    return name in _OF_BRIDGES and not any(word.startswith("--macaddress") for word in words)


def new_since(before: dict[int, str], *, seconds: float = 30.0, spare: bool = False) -> list[str]:
    """What runs now and did not ``before``, once it had ``seconds`` to end.

    With ``spare`` one sandbox that waits for the next container is no leftover, nor
    are the four processes that serve bridge networks: an engine that runs keeps
    them. The wait is a bound on how long clean-up may
    take, not a condition to reach: it returns as soon as nothing is left. Ten
    seconds were too few for removing a distribution's files on a busy disk.
    """
    deadline = time.monotonic() + seconds
    while True:
        new = {pid: text for pid, text in ours().items() if pid not in before}
        waiting = [pid for pid in new if spare and _is_spare(pid)]
        for pid in waiting[:_OF_A_SPARE]:
            del new[pid]
        serving = [pid for pid in new if spare and serves_bridges(pid)]
        for pid in serving[: len(_OF_BRIDGES)]:
            del new[pid]
        left = list(new.values())
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def written(pid: int) -> int:
    """Bytes the process ``pid`` has written so far."""
    text = Path(f"/proc/{pid}/io").read_text()
    return int(text.partition("wchar: ")[2].split()[0])


def until_stalled(shim: int) -> None:
    """Wait until the shim passes nothing on any more."""
    seen, same = -1, 0
    while same < 10:
        now = written(shim)
        same = same + 1 if now == seen else 0
        seen = now
        time.sleep(0.02)
