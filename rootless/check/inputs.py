"""Inputs of a command line: files, standard input, a ``run`` command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from errno import EBADF

from rootless.policy.inputs.detect import units_of
from rootless.policy.inputs.read import MAX_BYTES, InputDocument, NotUnderstood, read_documents
from rootless.policy.inputs.unit import Unit


def read_bytes(name: str) -> bytes:
    """What is in a file (``-``: standard input), and a byte more than is allowed at most.

    Raises OSError with the file's name.
    """
    return read_some(name, MAX_BYTES)


def read_some(name: str, most: int) -> bytes:
    """At most ``most`` bytes of a file (``-``: standard input), and one to tell of more."""
    try:
        if name == "-":
            if sys.stdin is None:
                raise OSError(EBADF, os.strerror(EBADF))
            return sys.stdin.buffer.read(most + 1)
        with open(name, "rb") as file:
            return file.read(most + 1)
    except OSError as error:
        if error.filename is None:
            error.filename = "standard input" if name == "-" else name
        raise


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
