"""Running test code inside a user namespace like the engine's."""

from __future__ import annotations

import os
import pickle
import pwd
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import process

InEngine = Callable[..., Any]


def _subids(path: str) -> list[tuple[int, int]]:
    user = pwd.getpwuid(os.getuid()).pw_name
    found = []
    for line in Path(path).read_text().splitlines():
        name, start, count = line.split(":")
        if name in (user, str(os.getuid())):
            found.append((int(start), int(count)))
    return found


def _map(tool: str, pid: int, own: int, path: str) -> None:
    arguments, inside = ["0", str(own), "1"], 1
    for start, count in _subids(path):
        arguments += [str(inside), str(start), str(count)]
        inside += count
    subprocess.run([tool, str(pid), *arguments], check=True)


def _child(ready: int, go: int, results: int, function: Callable[..., Any], args: Any) -> None:
    process.unshare(process.CLONE_NEWUSER)
    os.write(ready, b"x")
    os.read(go, 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    process.unshare(process.CLONE_NEWNS)
    # After the ids, whose change clears it (prctl(2)): nothing outlives a test that was killed.
    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        outcome = (True, function(*args))
    except BaseException as error:
        outcome = (False, (error, traceback.format_exc()))
    with open(results, "wb") as file:
        try:
            data = pickle.dumps(outcome)
            pickle.loads(data)
        except Exception:
            data = pickle.dumps((False, (RuntimeError(repr(outcome[1])), str(outcome[1]))))
        file.write(data)


def run_in_engine(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` in a child that is root of a namespace mapped like the engine's.

    0 is the user, 1… are all of its subordinate ids. Raises what the function raised.
    """
    ready, ready_w = os.pipe()
    go, go_w = os.pipe()
    results, results_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in (ready, go_w, results):
                os.close(fd)
            _child(ready_w, go, results_w, function, args)
        finally:
            os._exit(0)
    for fd in (ready_w, go, results_w):
        os.close(fd)
    try:
        assert os.read(ready, 1) == b"x", "no user namespace could be made"
        _map("newuidmap", pid, os.getuid(), "/etc/subuid")
        _map("newgidmap", pid, os.getgid(), "/etc/subgid")
        os.write(go_w, b"x")
        with open(results, "rb") as file:
            good, value = pickle.load(file)
    finally:
        os.close(ready)
        os.close(go_w)
        os.waitpid(pid, 0)
    if good:
        return value
    error, text = value
    error.add_note(text)
    raise error


@pytest.fixture(scope="session")
def in_engine() -> InEngine:
    """Run a function in a user namespace like the engine's; see :func:`run_in_engine`."""
    return run_in_engine


def _wipe(path: str) -> None:
    from rootless.storage import tree

    for name in os.listdir(path):
        tree.remove_tree(f"{path}/{name}")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    """A directory for trees of subordinate ids, emptied by root of the namespace at the end."""
    yield tmp_path
    run_in_engine(_wipe, str(tmp_path))
