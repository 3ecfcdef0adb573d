"""What a container changed, as ``docker diff`` tells it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from rootless.storage import merged, walk
from rootless.storage.merged import Directory

Kind = Literal["C", "A", "D"]


@dataclass(frozen=True, slots=True)
class Change:
    """``path`` is absolute in the container; ``kind`` C changed, A added, D deleted."""

    path: bytes
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Mark:
    kind: Kind
    only_time: bool = False
    """A directory of which nothing but the modification time differs."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One directory being compared; ``pending`` are its names still to be looked at."""

    path: bytes
    upper: Directory
    lower: Directory
    pending: Iterator[tuple[bytes, os.stat_result]]
    scope: ExitStack


def changes(upper: Directory, lower: Directory, ignore: Collection[bytes] = ()) -> list[Change]:
    """The difference between a container and its image, sorted by path.

    ``upper`` is the container's own directory (one level), ``lower`` its image.
    A file that was copied up counts as changed. A directory is C when its owner,
    mode or time differ or something below it changed. ``ignore`` are absolute
    paths (mount points the engine made): they are left out, and so is the time
    of their parents when nothing else changed there.
    """
    found: dict[bytes, _Mark] = {}
    stack = [_step(b"", upper, lower, ExitStack())]
    _deleted(stack[0], found)
    try:
        while stack:
            step = stack[-1]
            for name, status in step.pending:
                below = _compare(step, name, status, found)
                if below is not None:
                    _deleted(below, found)
                    stack.append(below)
                    break
            else:
                stack.pop().scope.close()
    finally:
        for step in stack:
            step.scope.close()
    _add_parents(found)
    _forget(found, ignore)
    return [Change(path, found[path].kind) for path in sorted(found)]


def _step(path: bytes, upper: Directory, lower: Directory, scope: ExitStack) -> _Step:
    return _Step(path, upper, lower, iter(walk.entries(upper[0].fd)), scope)


def _deleted(step: _Step, found: dict[bytes, _Mark]) -> None:
    """What an opaque directory hides is deleted."""
    level = step.upper[0]
    if not step.lower or not level.form.is_opaque(level.fd):
        return
    own = {name for name, _ in walk.entries(level.fd)}
    for name in merged.names(step.lower):
        if name not in own:
            found[step.path + b"/" + name] = _Mark("D")


def _compare(
    step: _Step, name: bytes, status: os.stat_result, found: dict[bytes, _Mark]
) -> _Step | None:
    """Record what became of ``name``; the step into it when it is a directory."""
    level = step.upper[0]
    if level.form.is_mark(name):
        return None
    path = step.path + b"/" + name
    before = merged.lookup(step.lower, name)
    if level.form.is_removed(level.fd, name, status):
        if before is not None:
            found[path] = _Mark("D")
        return None
    is_dir = stat.S_ISDIR(status.st_mode)
    was_dir = before is not None and stat.S_ISDIR(before.status.st_mode)
    if before is None:
        found[path] = _Mark("A")
    elif is_dir and was_dir:
        if _metadata(status) != _metadata(before.status):
            found[path] = _Mark("C")
        elif status.st_mtime_ns != before.status.st_mtime_ns:
            found[path] = _Mark("C", only_time=True)
    elif not level.form.complete or _differs(status, before.status):
        found[path] = _Mark("C")
    if not is_dir:
        return None
    scope = ExitStack()
    fd = walk.open_dir(level.fd, name)
    if fd is None:
        return None
    scope.callback(os.close, fd)
    inner: Directory = ()
    if before is not None and was_dir:
        inner = merged.enter(before, name, scope)
    return _step(path, (merged.Level(fd, level.form),), inner, scope)


def _metadata(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _differs(now: os.stat_result, before: os.stat_result) -> bool:
    same = _metadata(now) == _metadata(before) and now.st_size == before.st_size
    return not same or now.st_mtime_ns != before.st_mtime_ns


def _add_parents(found: dict[bytes, _Mark]) -> None:
    for path in list(found):
        parent = path.rpartition(b"/")[0]
        while parent and parent not in found:
            found[parent] = _Mark("C", only_time=True)
            parent = parent.rpartition(b"/")[0]


def _forget(found: dict[bytes, _Mark], ignore: Collection[bytes]) -> None:
    for path in sorted(ignore, key=len, reverse=True):
        if not _has_below(found, path):
            found.pop(path, None)
        parent = path.rpartition(b"/")[0]
        while parent:
            mark = found.get(parent)
            if mark is None or not mark.only_time or _has_below(found, parent):
                break
            del found[parent]
            parent = parent.rpartition(b"/")[0]


def _has_below(found: dict[bytes, _Mark], path: bytes) -> bool:
    prefix = path + b"/"
    return any(other.startswith(prefix) for other in found)
