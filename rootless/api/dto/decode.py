"""JSON bodies to structs, as Go's decoder takes them, but nothing vanishes.

Go matches field names without regard to case and takes null for the zero value.
Fields it does not know it drops in silence; here they become warnings, so that a
client that asks for a protection by a wrong name is told. A field whose annotation
holds a :class:`~rootless.api.fields.Treatment` is ignored with a warning, or refused,
when it asks for anything.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from rootless.api.fields import SUPPORTED, Treatment
from rootless.errors import InvalidInput

T = TypeVar("T")
_MIN_INT, _MAX_INT = -(1 << 63), (1 << 63) - 1
_decoder = msgspec.json.Decoder()


_WIRE = {
    "container_id_file": "ContainerIDFile",
    "device_ids": "DeviceIDs",
    "dns_names": "DNSNames",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "endpoint_id": "EndpointID",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "io_maximum_i_ops": "IOMaximumIOps",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "ip_range": "IPRange",
    "ipam": "IPAM",
    "ipam_config": "IPAMConfig",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "ipv6_gateway": "IPv6Gateway",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "link_local_ips": "LinkLocalIPs",
    "network_id": "NetworkID",
    "uts_mode": "UTSMode",
}
"""Names whose initials Docker writes in capitals."""


def _wire_name(field: str) -> str:
    return _WIRE.get(field) or field.title().replace("_", "")


class Body(msgspec.Struct, frozen=True, kw_only=True, rename=_wire_name):
    """A struct of Docker's API: fields are snake case here and Pascal case on the wire."""


class Field(NamedTuple):
    """A field of a struct: its name on the wire, its type without ``None``, its treatment."""

    name: str
    kind: Any
    treatment: Treatment


Known = Mapping[str, Field]


def decode(body: bytes, kind: type[T]) -> tuple[T, tuple[str, ...]]:
    """The struct in ``body``, and warnings about what of it has no effect.

    InvalidInput names the path and the type of what does not fit, or what is refused.
    """
    try:
        raw = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if "trailing characters" in str(error):
            raise InvalidInput("unexpected content after JSON") from None
        raise InvalidInput(f"invalid JSON: {error}") from None
    except RecursionError:
        raise InvalidInput("invalid JSON: nested too deeply") from None
    if b"\\u0000" in body:
        _refuse_nul(raw, "")
    warnings: list[str] = []
    tidy = _tidy(raw, kind, "", warnings)
    try:
        return msgspec.convert({} if tidy is None else tidy, kind), tuple(warnings)
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
def struct_fields(kind: type[Any]) -> Known:
    """The fields of a struct by their lower-case wire names."""
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for field in msgspec.structs.fields(kind):
        hint, treatment = hints[field.name], SUPPORTED
        if get_origin(hint) is Annotated:
            hint, *rest = get_args(hint)
            treatment = next((one for one in rest if isinstance(one, Treatment)), SUPPORTED)
        name = field.encode_name
        found[name.lower()] = Field(name, _plain(hint), treatment)
    return found


def _plain(kind: Any) -> Any:
    """The type without ``| None``."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not types.NoneType]
        return rest[0] if len(rest) == 1 else Any
    return kind


@lru_cache(maxsize=256)
def shape(kind: Any) -> tuple[str, Any]:
    """``struct``, ``map`` or ``list`` with what it is or holds, or ``leaf``."""
    origin = get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "struct", kind
    if origin is dict:
        return "map", _plain(get_args(kind)[1])
    if origin in (list, tuple):
        return "list", _plain(get_args(kind)[0])
    return "leaf", None


def _tidy(value: Any, kind: Any, path: str, warnings: list[str]) -> Any:
    """Canonical names, no nulls where a zero value is meant."""
    form, inner = shape(kind)
    if form == "struct" and isinstance(value, dict):
        known = struct_fields(inner)
        tidy = {}
        for key, item in value.items():
            found = known.get(key.lower())
            if found is None:
                warnings.append(f"field {path}{key} is not known and was ignored")
            elif item is not None:
                if (
                    found.treatment.how != "supported"
                    and _asks(item, found.kind)
                    and not (found.treatment.beside and value.get(found.treatment.beside))
                ):
                    warnings.append(_without_effect(found.treatment, f"{path}{found.name}"))
                tidy[found.name] = _tidy(item, found.kind, f"{path}{key}.", warnings)
        return tidy
    if form == "map" and isinstance(value, dict):
        return {k: _item(v, inner, f"{path}{k}.", warnings) for k, v in value.items()}
    if form == "list" and isinstance(value, list):
        return [_item(v, inner, f"{path[:-1]}[{i}].", warnings) for i, v in enumerate(value)]
    if type(value) is int and not _MIN_INT <= value <= _MAX_INT:
        raise InvalidInput(f"invalid JSON: {path[:-1]}: {value} does not fit into 64 bits")
    return value


def _asks(value: Any, kind: Any) -> bool:
    """False for Go's zero value, which clients send for a field they do not use."""
    if isinstance(value, dict) and shape(kind)[0] == "struct":
        return any(_asks(item, None) for item in value.values())
    return bool(value)


def _without_effect(treatment: Treatment, path: str) -> str:
    """The warning for an ignored field; raises InvalidInput for a refused one."""
    if treatment.how == "refused":
        raise InvalidInput(f"{path} is not supported: {treatment.note}")
    return f"field {path} was ignored: {treatment.note}"


def _item(value: Any, kind: Any, path: str, warnings: list[str]) -> Any:
    if value is not None:
        return _tidy(value, kind, path, warnings)
    form, _ = shape(kind)
    zero: dict[str, Any] = {"struct": {}, "map": {}, "list": []}
    return zero.get(form, "" if kind is str else None)
