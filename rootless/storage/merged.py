"""The union of layers as an overlay would show it, without mounting one.

Layers are given topmost first as directory descriptors with the form of their
whiteouts. Nothing follows a symlink by the kernel; :func:`resolve` does it
itself, inside the union.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rootless.errors import InvalidInput, SyscallError
from rootless.storage.whiteouts import LayerWhiteouts, Whiteouts

MAX_LINKS = 40
"""Symlinks followed before ELOOP, as path_resolution(7)."""
_O_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Level:
    """One layer's directory."""

    fd: int
    form: Whiteouts


Directory = tuple[Level, ...]
"""One directory of the union: the same directory in each layer that shows through."""


@dataclass(frozen=True, slots=True)
class Found:
    """A name of the union: its status and the layer's directory (``parent``) it is in."""

    status: os.stat_result
    parent: int
    levels: tuple[Level, ...]
    """The parents of all layers that take part, when it is a directory."""


def lookup(directory: Directory, name: bytes) -> Found | None:
    """What the union shows as ``name`` in ``directory``; None when nothing."""
    found: Found | None = None
    for level in directory:
        if level.form.is_mark(name):
            continue
        try:
            status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if level.form.is_removed(level.fd, name, status):
            break
        is_dir = stat.S_ISDIR(status.st_mode)
        if found is None:
            found = Found(status, level.fd, (level,) if is_dir else ())
            if not is_dir:
                break
        elif is_dir:
            found = Found(found.status, found.parent, (*found.levels, level))
        else:
            break
    return found


def enter(found: Found, name: bytes, stack: ExitStack) -> Directory:
    """The directory ``name`` that :func:`lookup` found; ``stack`` closes its descriptors."""
    levels: list[Level] = []
    for parent in found.levels:
        fd = os.open(name, _O_DIR, dir_fd=parent.fd)
        stack.callback(os.close, fd)
        levels.append(Level(fd, parent.form))
        if parent.form.is_opaque(fd):
            break
    return tuple(levels)


def names(directory: Directory) -> list[bytes]:
    """The names the union shows in ``directory``, sorted."""
    shown: set[bytes] = set()
    hidden: set[bytes] = set()
    for level in directory:
        here: set[bytes] = set()
        with os.scandir(level.fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if name in shown or name in hidden or level.form.is_mark(name):
                    continue
                status = entry.stat(follow_symlinks=False)
                (hidden if level.form.is_removed(level.fd, name, status) else here).add(name)
        shown |= here
    return sorted(shown)


@contextmanager
def open_union(paths: Iterable[str], form: Whiteouts | None = None) -> Iterator[Directory]:
    """The root of the union of ``paths``, topmost first.

    ``form`` is that of the topmost; all others are layers.
    """
    with ExitStack() as stack:
        levels: list[Level] = []
        for path in paths:
            try:
                fd = os.open(path, _O_DIR)
            except OSError as error:
                raise SyscallError("open", path, error.errno or 0) from None
            stack.callback(os.close, fd)
            use = form if form is not None and not levels else LayerWhiteouts()
            levels.append(Level(fd, use))
            if use.is_opaque(fd):
                break
        yield tuple(levels)


def resolve(root: Directory, path: str, stack: ExitStack) -> tuple[Found, bytes] | None:
    """Where ``path`` leads in the union, following symlinks inside it; None when nowhere.

    Returns what was found and its name in ``found.parent``. ``..`` at the root
    stays there, as after chroot(2). The root itself is not a result.
    """
    pending = _split(os.fsencode(path))
    chain: list[Directory] = [root]
    links = 0
    while pending:
        name = pending.pop()
        if name == b"..":
            if len(chain) > 1:
                chain.pop()
            continue
        found = lookup(chain[-1], name)
        if found is None:
            return None
        if stat.S_ISLNK(found.status.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise InvalidInput(f"too many symbolic links in the image: {path}")
            target = os.readlink(name, dir_fd=found.parent)
            if target.startswith(b"/"):
                del chain[1:]
            pending.extend(_split(target))
            continue
        if not pending:
            return found, name
        if not found.levels:
            return None
        chain.append(enter(found, name, stack))
    return None


def _split(path: bytes) -> list[bytes]:
    """Components in reverse order, so that the next one is popped from the end."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
