"""Kinds of values: from the JSON of daemon.json, and from the words of a flag."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rootless.cli import command
from rootless.errors import InvalidInput
from rootless.model.pools import AddressPool
from rootless.model.request import RlimitRequest
from rootless.units import MAX_NUMBER, parse_size, whole_number

_MOST = (1 << 31) - 1
"""Above it a number of seconds, tries or bytes of a packet is a slip."""
_TRUE = ("1", "t", "true", "y", "yes", "on")


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one kind are written. Both functions raise InvalidInput without naming the key.

    ``flag`` is the kind of the command line's parser, which says what it gives to ``word``.
    """

    name: str
    """For complaints: ``a string``."""
    flag: str
    meta: str
    """Stands for the value in the manual."""
    json: Callable[[object], object]
    word: Callable[[object], object]


def _text(value: object) -> object:
    return _of(str, value)


def _of(kind: type, value: object) -> object:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidInput("")
    return value


def _number(value: object) -> object:
    if type(value) is not int or abs(value) > _MOST:
        raise InvalidInput(f"{str(value)[:40]} is not a number of 32 bits")
    return value


def _list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput("")
    return tuple(value)


def _words(value: object) -> tuple[str, ...]:
    assert isinstance(value, list)
    return tuple(value)


def _map(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InvalidInput("")
    return tuple(value.items())


def _pairs(value: object) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for text in _words(value):
        name, _, given = text.partition("=")
        found[name] = given
    return tuple(found.items())


def _size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value <= MAX_NUMBER:
        return value
    return parse_size(value if isinstance(value, str) else "")


def _switches(value: object) -> tuple[tuple[str, bool], ...]:
    if not isinstance(value, dict) or not all(isinstance(item, bool) for item in value.values()):
        raise InvalidInput("")
    return tuple(value.items())


def _switch_words(value: object) -> tuple[tuple[str, bool], ...]:
    """Docker's ``--feature NAME[=BOOL]``."""
    found: dict[str, bool] = {}
    for text in _words(value):
        name, mark, given = text.partition("=")
        if mark and given.lower() not in (*_TRUE, "0", "f", "false", "n", "no", "off"):
            raise InvalidInput(f"{text!r} is not NAME=true or NAME=false")
        found[name] = not mark or given.lower() in _TRUE
    return tuple(found.items())


def _ulimits(value: object) -> tuple[RlimitRequest, ...]:
    """Docker's form: ``{"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}``."""
    if not isinstance(value, dict):
        raise InvalidInput("")
    limits = []
    for name, body in value.items():
        if not isinstance(body, dict) or not {"Soft", "Hard"} <= body.keys():
            raise InvalidInput(f"{name} needs Soft and Hard")
        if unknown := body.keys() - {"Name", "Soft", "Hard"}:
            raise InvalidInput(f"{name} has the unknown key {min(unknown)!r}")
        if body.get("Name", name) != name:
            raise InvalidInput(f"{name} is named {body['Name']!r} inside")
        for word in ("Soft", "Hard"):
            if type(body[word]) is not int or body[word] > MAX_NUMBER:
                raise InvalidInput(f"{name}.{word} must be a number")
        limits.append(RlimitRequest(name, body["Soft"], body["Hard"]))
    return tuple(limits)


def _ulimit_words(value: object) -> tuple[RlimitRequest, ...]:
    """``NAME=SOFT[:HARD]``, -1 for unlimited."""
    limits: dict[str, RlimitRequest] = {}
    for text in _words(value):
        name, mark, numbers = text.partition("=")
        soft, colon, hard = numbers.partition(":")
        found = [_limit(number) for number in (soft, hard if colon else soft)]
        if not mark or None in found:
            raise InvalidInput(f"{text!r} is not NAME=SOFT[:HARD]")
        limits[name] = RlimitRequest(name, found[0] or 0, found[1] or 0)
    return tuple(limits.values())


def _limit(text: str) -> int | None:
    return -1 if text == "-1" else whole_number(text)


def _pools(value: object) -> tuple[AddressPool, ...]:
    """``[{"base": "10.10.0.0/16", "size": 24}]``."""
    if not isinstance(value, list):
        raise InvalidInput("")
    return tuple(_pool(item) for item in value)


def _pool_words(value: object) -> tuple[AddressPool, ...]:
    """``base=10.10.0.0/16,size=24``, once for each pool."""
    found = []
    for text in _words(value):
        fields: dict[str, object] = dict(part.partition("=")[::2] for part in text.split(","))
        size = whole_number(str(fields.get("size", "")))
        found.append(_pool(fields if size is None else {**fields, "size": size}))
    return tuple(found)


def _pool(body: object) -> AddressPool:
    if not isinstance(body, Mapping) or body.keys() != {"base", "size"}:
        raise InvalidInput(f"{json.dumps(body)} is not a pool: it needs base and size")
    base, size = body["base"], body["size"]
    try:
        network = ipaddress.ip_network(base)
    except ValueError as error:
        raise InvalidInput(f"invalid base pool {base!r}: {error}") from None
    if not isinstance(size, int) or isinstance(size, bool):
        raise InvalidInput(f"invalid pool size: {json.dumps(size)} is not a number")
    if not network.prefixlen <= size <= network.max_prefixlen:
        raise InvalidInput(
            f"invalid pool size: {size}: networks of {base} have {network.prefixlen} "
            f"to {network.max_prefixlen} bits"
        )
    return AddressPool(str(network), size)


def _object(value: object) -> object:
    return _of(dict, value)


TEXT = Kind("a string", command.STRING, "TEXT", _text, _text)
PATH = Kind("a string", command.STRING, "FILE", _text, _text)
SWITCH = Kind("true or false", command.BOOL, "", lambda v: _of(bool, v), lambda v: v)
NUMBER = Kind("a number of 32 bits", command.INT, "NUMBER", _number, _number)
SIZE = Kind("a size: bytes, or text such as 64m", command.STRING, "SIZE", _size, _size)
LIST = Kind("a list of strings", command.LIST, "TEXT", _list, _words)
MAP = Kind("an object of strings", command.MAP, "NAME=VALUE", _map, _pairs)
SWITCHES = Kind(
    "an object of true and false", command.LIST, "NAME[=BOOL]", _switches, _switch_words
)
ULIMITS = Kind("an object", command.LIST, "NAME=SOFT[:HARD]", _ulimits, _ulimit_words)
POOLS = Kind("a list", command.LIST, "base=CIDR,size=BITS", _pools, _pool_words)
OBJECT = Kind("an object", command.LIST, "TEXT", _object, _words)


def from_json(name: str, kind: Kind, value: object) -> object:
    """The value of the key ``name`` in daemon.json."""
    try:
        return kind.json(value)
    except InvalidInput as error:
        if error.message and kind not in (SIZE, NUMBER):
            raise InvalidInput(f"{name}: {error.message}", hint=error.hint) from None
        raise InvalidInput(f"{name} must be {kind.name}, not {json.dumps(value)[:200]}") from None


def from_flag(name: str, kind: Kind, value: object) -> object:
    """The value that the parser of the command line gave for the flag ``name``."""
    try:
        return kind.word(value)
    except InvalidInput as error:
        raise InvalidInput(f"invalid argument for --{name}: {error.message}") from None


def shown(value: object) -> str:
    """A value as Docker's conflict message has it, which is Go's ``%v``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{shown(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{' '.join(map(shown, value))}]"
    return str(value)
