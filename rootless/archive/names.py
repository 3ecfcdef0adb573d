"""Names in archives: which are accepted, and how they are shown in messages."""

from __future__ import annotations

from rootless.archive.limits import Limits
from rootless.errors import InvalidInput

_SHOWN = 200


def show(name: bytes) -> str:
    """``name`` for a message: printable, bounded, and reversible enough to find it."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def refuse(name: bytes, why: str, *, hint: str | None = None) -> InvalidInput:
    """The error for an archive entry that is not accepted."""
    return InvalidInput(
        f"archive entry '{show(name)}' refused: {why}", hint=hint, context={"entry": show(name)}
    )


def clean(name: bytes, limits: Limits, *, entry: bytes | None = None) -> bytes:
    """``name`` relative to the archive's root, without ``.`` and doubled slashes.

    The root itself (``.``, ``./`` or a bare ``/``, which kaniko writes) gives an
    empty result. Absolute names and every ``..`` are refused, even those that a
    lexical clean-up would keep inside: no honest tool writes them. ``entry``
    names the entry in messages when ``name`` is a link's target.
    """
    shown = name if entry is None else entry
    if not name:
        raise refuse(shown, "its name is empty")
    if len(name) > limits.max_path:
        raise refuse(shown, f"its name is longer than {limits.max_path} bytes")
    if b"\0" in name:
        raise refuse(shown, "its name contains a NUL byte")
    if name.startswith(b"/") and name.strip(b"/"):
        raise refuse(shown, "its name is absolute")
    if b"//" not in name and b"/." not in name and not name.startswith(b".") and name[-1:] != b"/":
        parts = name.split(b"/")
    else:
        parts = [part for part in name.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise refuse(shown, "its name contains '..'")
    if max(map(len, parts), default=0) > limits.max_component:
        raise refuse(shown, f"a component of its name is longer than {limits.max_component} bytes")
    return b"/".join(parts)
