"""Unpacking layers as a program, started by the launcher's ``spawn`` in the engine's namespace.

``unpack DIFF_ID DIRECTORY MAX_SIZE MAX_RATIO`` are its arguments (:func:`command`), with
the blob on standard input. Reports are lines of JSON on descriptor 3: ``{"consumed": N}``
while it works, then ``{"result": …}`` or ``{"error": …, "code": …, "hint": …}``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from rootless.archive.limits import Limits
from rootless.errors import RootlessError, in_words
from rootless.images.unpack import unpack_blob
from rootless.linux import isolated
from rootless.storage import tree, walk
from rootless.storage.whiteouts import LayerWhiteouts

REPORT_FD = 3


def command(diff_id: str, directory: str, *, max_size: int, max_ratio: int) -> list[str]:
    """The argument vector for ``spawn``; the bounds are ``EngineSettings``'."""
    arguments = ["unpack", diff_id, directory, str(max_size), str(max_ratio)]
    return isolated.command("rootless.engine.worker", arguments, site_packages=True)


def _report(message: dict[str, object]) -> None:
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[os.write(REPORT_FD, line) :]


def unpack(diff_id: str, directory: str, limits: Limits) -> dict[str, object]:
    """Unpack standard input into ``directory/fs`` and make it durable."""
    path = f"{directory}/fs"
    os.mkdir(path, 0o755)
    # Image root; the archive's own entry for the root directory may say otherwise.
    os.chown(path, 1, 1)
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        marks = LayerWhiteouts()
        done = unpack_blob(
            0,
            diff_id,
            root,
            marks,
            limits=limits,
            consumed=lambda count: _report({"consumed": count}),
        )
        marks.finish(root)
    finally:
        os.close(root)
    tree.sync_layer(path)
    return asdict(done)


def main(arguments: list[str]) -> int:
    """Run one operation and report it; given up when nobody reads the reports any more."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        return 1  # the daemon is gone; the next one removes what is half unpacked


def _run(arguments: list[str]) -> int:
    walk.raise_open_limit()
    os.umask(0o022)
    try:
        operation, diff_id, directory, max_size, max_ratio = arguments
        assert operation == "unpack"
        limits = Limits.of_layer(int(max_size), int(max_ratio))
        _report({"result": unpack(diff_id, directory, limits)})
    except (RootlessError, OSError) as error:
        if isinstance(error, OSError):
            error = in_words(error, "the data root")
        _report({"error": error.message, "code": error.code, "hint": error.hint})
        return 1
    return 0
