"""JSON without the ``json`` package's import cost.

``import json`` pulls in ``re`` and ``enum`` for 6 ms, which is a third of a
whole ``rootless version``. CPython's C scanner can be used without them; where
it is missing or differs, the standard package does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Context:
    """What the C scanner reads its settings from (json/decoder.py, JSONDecoder)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float

    def __init__(self) -> None:
        self.memo: dict[str, str] = {}


try:
    from _json import encode_basestring_ascii as _quote
    from _json import make_scanner as _make_scanner

    _scan: Callable[[str, int], tuple[Any, int]] | None = _make_scanner(_Context())  # type: ignore[arg-type]  # typed as a JSONDecoder, reads these names
except (ImportError, TypeError, AttributeError):
    from json.encoder import encode_basestring_ascii as _quote

    _scan = None

_SPACE = " \t\r\n"


def loads(text: str | bytes) -> Any:
    """Decode one JSON document; ``ValueError`` when it is not one."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogatepass")
    text = text.strip(_SPACE)
    if _scan is None:
        import json

        return json.loads(text)
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"not JSON at character {stop.value}") from None
    except SystemError:
        # Python 3.11's scanner has no exception to raise while json.decoder is not imported.
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError(f"extra data at character {end}")
    return value


def loads_prefix(text: str) -> tuple[Any, str]:
    """Decode the document at the beginning of ``text``; also return what follows it.

    Raises ``ValueError`` when the document is not complete yet.
    """
    text = text.lstrip(_SPACE)
    try:
        if _scan is None:
            import json

            value, end = json.JSONDecoder().raw_decode(text)
        else:
            value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(f"not JSON at character {stop.value}") from None
    except SystemError:
        raise ValueError("not JSON, or not all of it") from None
    return value, text[end:].lstrip(_SPACE)


def dumps(value: object) -> str:
    """Encode in the compact form. Takes what JSON knows, tuples as arrays."""
    if isinstance(value, str):
        return _quote(value)
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{_quote(str(k))}:{dumps(v)}" for k, v in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    raise TypeError(f"cannot encode {type(value).__name__} as JSON")


def pretty(value: object, *, indent: int | str = 4) -> str:
    """Encode as Go's ``MarshalIndent`` does: not ASCII-only, HTML characters kept."""
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False)


def pretty_line(value: object) -> str:
    """On one line, not ASCII-only."""
    import json

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
