"""Inputs of a command line: files, standard input, a ``run`` command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from rootless.policy.inputs.detect import units_of
from rootless.policy.inputs.read import MAX_BYTES, InputDocument, NotUnderstood, read_documents
from rootless.policy.inputs.unit import Unit


def read_bytes(name: str) -> bytes:
    """What is in a file (``-``: standard input), and a byte more than is allowed at most."""
    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    with open(name, "rb") as file:
        return file.read(MAX_BYTES + 1)


def units(name: str, form: str | None) -> Iterator[Unit]:
    """Everything in an input; raises OSError when it cannot be read."""
    directory = None if name == "-" else os.path.dirname(name) or "."
    yield from units_of_text(read_bytes(name), form, directory)


def units_of_text(data: bytes, form: str | None, directory: str | None = None) -> Iterator[Unit]:
    """Everything in these bytes; ``directory`` is where files beside them are."""
    try:
        if form == "run" or (form is None and _is_command(data)):
            from rootless.check.runline import run_unit

            yield run_unit(data)
            return
        documents = read_documents(data)
    except NotUnderstood as problem:
        yield Unit(InputDocument(0, None), "Unknown", "", problems=(problem,))
        return
    yield from units_of(documents, form, directory)


def _is_command(data: bytes) -> bool:
    words = data[:4096].split(None, 3)
    engines = {b"rootless", b"docker", b"podman"}
    return len(words) > 1 and words[0] in engines and words[1] in {b"run", b"create", b"container"}
