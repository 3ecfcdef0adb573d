"""JSON bodies to structs, as Go's decoder takes them, but nothing vanishes.

Go matches field names without regard to case and takes null for the zero value.
Fields it does not know it drops in silence; here their paths are returned, so
that a client that asks for a protection by a wrong name is told.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from rootless.errors import InvalidInput

T = TypeVar("T")
Known = Mapping[str, tuple[str, Any]]
_MIN_INT, _MAX_INT = -(1 << 63), (1 << 63) - 1
_decoder = msgspec.json.Decoder()


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A struct of Docker's API: fields are snake case here and Pascal case on the wire."""


def decode(body: bytes, kind: type[T]) -> tuple[T, tuple[str, ...]]:
    """The struct in ``body`` and the JSON paths of fields it does not have.

    InvalidInput names the path and the type of what does not fit.
    """
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"invalid JSON: {error}") from None
    except RecursionError:
        raise InvalidInput("invalid JSON: nested too deeply") from None
    if b"\\u0000" in body:
        _refuse_nul(raw, "")
    unknown: list[str] = []
    tidy = _tidy(raw, kind, "", unknown)
    try:
        return msgspec.convert({} if tidy is None else tidy, kind), tuple(unknown)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid JSON: {_wording(str(error))}") from None


def _refuse_nul(value: Any, path: str) -> None:
    """No system call takes a string with a NUL; it would be cut there by whoever does not look."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_nul(key, path)
            _refuse_nul(item, f"{path}{key}.")
    elif isinstance(value, list):
        for item in value:
            _refuse_nul(item, path)
    elif isinstance(value, str) and "\0" in value:
        raise InvalidInput(f"invalid JSON: {path[:-1] or 'body'}: text must not contain NUL")


def _wording(text: str) -> str:
    """msgspec's complaint with Docker's path: ``HostConfig.Memory: expected int, got str``."""
    complaint, _, path = text.partition(" - at ")
    complaint = (complaint[:1].lower() + complaint[1:]).replace("`", "")
    path = path.strip("`").removeprefix("$").removeprefix(".")
    return f"{path}: {complaint}" if path else complaint


@lru_cache(maxsize=256)
def _fields(kind: type[Any]) -> Known:
    """Lower-case wire name → (wire name, type)."""
    hints = get_type_hints(kind)
    return {
        field.encode_name.lower(): (field.encode_name, _plain(hints[field.name]))
        for field in msgspec.structs.fields(kind)
    }


def _plain(kind: Any) -> Any:
    """The type without ``| None``."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not types.NoneType]
        return rest[0] if len(rest) == 1 else Any
    return kind


@lru_cache(maxsize=256)
def _shape(kind: Any) -> tuple[str, Any]:
    origin = get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "struct", kind
    if origin is dict:
        return "map", _plain(get_args(kind)[1])
    if origin in (list, tuple):
        return "list", _plain(get_args(kind)[0])
    return "leaf", None


def _tidy(value: Any, kind: Any, path: str, unknown: list[str]) -> Any:
    """Canonical names, no nulls where a zero value is meant."""
    shape, inner = _shape(kind)
    if shape == "struct" and isinstance(value, dict):
        known = _fields(inner)
        tidy = {}
        for key, item in value.items():
            found = known.get(key.lower())
            if found is None:
                unknown.append(f"{path}{key}")
            elif item is not None:
                tidy[found[0]] = _tidy(item, found[1], f"{path}{key}.", unknown)
        return tidy
    if shape == "map" and isinstance(value, dict):
        return {k: _item(v, inner, f"{path}{k}.", unknown) for k, v in value.items()}
    if shape == "list" and isinstance(value, list):
        return [_item(v, inner, f"{path[:-1]}[{i}].", unknown) for i, v in enumerate(value)]
    if type(value) is int and not _MIN_INT <= value <= _MAX_INT:
        raise InvalidInput(f"invalid JSON: {path[:-1]}: {value} does not fit into 64 bits")
    return value


def _item(value: Any, kind: Any, path: str, unknown: list[str]) -> Any:
    if value is not None:
        return _tidy(value, kind, path, unknown)
    shape, _ = _shape(kind)
    zero: dict[str, Any] = {"struct": {}, "map": {}, "list": []}
    return zero.get(shape, "" if kind is str else None)
