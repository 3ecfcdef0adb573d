"""The functions of Go templates (Go's own and Docker's), and how Go prints values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_MAX_WIDTH = 10**6
"""Columns of a padded value, as in Go's fmt."""


class CallError(Exception):
    """A function was called with what it does not take."""


class _Missing:
    def __repr__(self) -> str:
        return "<no value>"


MISSING = _Missing()
NO_VALUE = _Missing()


class NilList(list):  # type: ignore[type-arg]  # items of any type
    """A list that is absent: Go prints a nil slice as ``[]`` and marshals it as null."""

    def json(self) -> str:
        """As encoding/json has it."""
        return "null"


class NilMap(dict):  # type: ignore[type-arg]  # values of any type, as above
    """A map that is absent: Go prints ``map[]``, an index of it is the empty text."""

    def json(self) -> str:
        """As encoding/json has it."""
        return "null"


class _NilPointer:
    """An object that is absent: false, and ``<nil>`` when printed."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<nil>"

    def json(self) -> str:
        """As encoding/json has it."""
        return "null"


NIL = _NilPointer()
_NIL_LISTS = frozenset(
    "Args Binds BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps "
    "BlkioWeightDevice CapAdd CapDrop Cmd DeviceCgroupRules DeviceRequests Devices Dns DnsOptions "
    "DnsSearch Entrypoint Env ExecIDs ExtraHosts GroupAdd Links Log MaskedPaths Mounts OnBuild "
    "ReadonlyPaths RepoDigests RepoTags SecurityOpt Shell Ulimits VolumesFrom".split()
)
_NIL_MAPS = frozenset(
    "Annotations ExposedPorts Labels Networks Options PortBindings Ports StorageOpt Sysctls Tmpfs "
    "Volumes".split()
)
MAPS = _NIL_MAPS | {"Attributes"}
"""Fields that are maps with any key, among them those of events."""
_NIL_POINTERS = frozenset(
    "Health Healthcheck Init MemorySwappiness OomKillDisable PidsLimit SizeRootFs SizeRw "
    "StopTimeout UsageData".split()
)


def absent(name: str, otherwise: object) -> object:
    """What Docker's typed objects have for a field that the JSON leaves out or has as null.

    Docker evaluates ``inspect --format`` on its own types first, so that
    ``{{if .State.Health}}`` works for a container without a health check.
    """
    if name in _NIL_LISTS:
        return NilList()
    if name in _NIL_MAPS:
        return NilMap()
    return NIL if name in _NIL_POINTERS else otherwise


def lookup(value: dict[str, Any], name: str) -> Any:
    """A key; without an exact one, the key that differs in case only (Go's ID is JSON's Id)."""
    if name in value:
        return value[name]
    lower = name.lower()
    for key, found in value.items():
        if isinstance(key, str) and key.lower() == lower:
            return found
    return MISSING


def truth(value: object) -> bool:
    """False for Go's zero values and empty collections."""
    return bool(value) and value is not NO_VALUE


def display(value: object) -> str:
    """A value as fmt.Print shows it at the top of a template."""
    if value is None or value is NO_VALUE:
        return "<no value>"
    return plain(value)


def plain(value: object) -> str:
    """A value as fmt's %v shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        inner = " ".join(f"{key}:{plain(value[key])}" for key in sorted(value, key=str))
        return f"map[{inner}]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(plain(item) for item in value) + "]"
    return str(value)


def _float(value: float) -> str:
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def type_name(value: object) -> str:
    """What Go would call the type of a decoded value."""
    names = {bool: "bool", int: "int", float: "float64", str: "string"}
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    return names.get(type(value), "interface {}")


def unquote(text: str) -> str:
    """A Go string literal's value."""
    if text[0] == "`":
        return text[1:-1]
    out = []
    index = 1
    simple = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a"}
    simple |= {"b": "\b", "f": "\f", "v": "\v"}
    while index < len(text) - 1:
        char = text[index]
        index += 1
        if char != "\\":
            out.append(char)
            continue
        char = text[index]
        index += 1
        width = {"x": 2, "u": 4, "U": 8}.get(char)
        if char in simple:
            out.append(simple[char])
        elif width:
            try:
                out.append(chr(int(text[index : index + width], 16)))
            except (ValueError, OverflowError):
                raise CallError(f"invalid escape in {text}") from None
            index += width
        else:
            raise CallError(f"unknown escape \\{char} in {text}")
    return "".join(out)


_ESCAPES = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}
_ESCAPES |= {"\\": "\\", '"': '"'}


def quoted(text: str) -> str:
    """A Go string literal, as strconv.Quote writes it."""
    out = []
    for char in text:
        if char in _ESCAPES:
            out.append("\\" + _ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


def go_json(value: object) -> str:
    """encoding/json without HTML escaping, as Docker's ``json`` function."""
    import json

    if value is NO_VALUE:
        value = None
    own = getattr(value, "json", None)
    if own is not None:
        return str(own())
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _want_string(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise CallError(f"error calling {name}: wrong type: want string, got {type_name(value)}")
    return value


def _join(items: object, separator: object = "") -> str:
    if not isinstance(items, (list, tuple)):
        raise CallError("error calling join: the first argument must be a list")
    return _want_string(separator, "join").join(plain(item) for item in items)


def _split(text: object, separator: object) -> list[str]:
    text, separator = _want_string(text, "split"), _want_string(separator, "split")
    return text.split(separator) if separator else list(text)


def _title(text: object) -> str:
    words = _want_string(text, "title")
    out = []
    start = True
    for char in words:
        out.append(char.upper() if start else char)
        start = not (char.isalnum() or char in "_'")
    return "".join(out)


def _pad(text: object, before: object, after: object) -> str:
    text = _want_string(text, "pad")
    if not text:
        return text
    before, after = _integer(before), _integer(after)
    if max(before, after) > _MAX_WIDTH:
        raise CallError(f"error calling pad: more than {_MAX_WIDTH} spaces")
    return " " * before + text + " " * after


def _truncate(text: object, length: object) -> str:
    return _want_string(text, "truncate")[: _integer(length)]


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CallError(f"expected integer; found {plain(value)}")
    return value


def _len(value: object) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    raise CallError(f"error calling len: len of type {type_name(value)}")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, dict):
            value = value[key] if key in value else _zero(value)
        elif isinstance(value, (list, tuple)):
            position = _integer(key)
            if not 0 <= position < len(value):
                raise CallError(f"error calling index: index out of range: {position}")
            value = value[position]
        elif isinstance(value, str):
            value = value.encode()[_integer(key)]
        elif value is None or value is NO_VALUE:
            raise CallError("error calling index: index of untyped nil")
        else:
            raise CallError(f"error calling index: can't index item of type {type_name(value)}")
    return value


def _zero(value: dict[str, Any]) -> object:
    """What a map has for a key that is not there: the zero value of what it holds."""
    if all(isinstance(item, str) for item in value.values()):
        return ""
    if all(item is None or isinstance(item, list) for item in value.values()):
        return NilList()
    return NO_VALUE


def _slice(value: object, *bounds: object) -> object:
    if not isinstance(value, (str, list, tuple)):
        raise CallError(f"error calling slice: can't slice item of type {type_name(value)}")
    low, high = 0, len(value)
    if bounds:
        low = _integer(bounds[0])
    if len(bounds) > 1:
        high = _integer(bounds[1])
    if not 0 <= low <= high <= len(value):
        raise CallError(f"error calling slice: index out of range: {high}")
    return value[low:high]


def _print(*values: object) -> str:
    """fmt.Sprint: a space between operands when neither is a string."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += plain(value)
    return out


def _println(*values: object) -> str:
    return " ".join(plain(value) for value in values) + "\n"


def _printf(form: object, *values: object) -> str:
    import re

    rest = list(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if any(int(width) > _MAX_WIDTH for width in re.findall(r"\d+", flags)):
            return "%!(BADWIDTH)" + plain(value)
        try:
            return _verb(flags, verb, value)
        except (TypeError, ValueError):
            return f"%!{verb}({type_name(value)}={plain(value)})"

    text = re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([a-zA-Z%])", one, _want_string(form, "printf"))
    if rest:
        extra = ", ".join(f"{type_name(value)}={plain(value)}" for value in rest)
        text += f"%!(EXTRA {extra})"
    return text


def _verb(flags: str, verb: str, value: object) -> str:
    if verb in ("v", "s"):
        return f"%{flags}s" % plain(value)
    if verb == "q":
        return f"%{flags}s" % quoted(plain(value))
    if verb == "T":
        return type_name(value)
    if verb == "t":
        if not isinstance(value, bool):
            raise TypeError
        return plain(value)
    if verb in "dxXoc":
        if isinstance(value, str) and verb in "xX":
            digits = value.encode().hex()
            return digits.upper() if verb == "X" else digits
        return str(f"%{flags}{verb}" % _integer(value))
    if verb in "feEgG":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError
        return str(f"%{flags}{verb}" % value)
    if verb == "b":
        return format(_integer(value), "b")
    raise ValueError


def _comparable(name: str, left: object, right: object) -> None:
    numbers = (int, float)
    same = type(left) is type(right) or (
        isinstance(left, numbers)
        and isinstance(right, numbers)
        and not isinstance(left, bool)
        and not isinstance(right, bool)
    )
    if not same and None not in (left, right):
        raise CallError(f"error calling {name}: incompatible types for comparison")


def _eq(first: object, *others: object) -> bool:
    if not others:
        raise CallError("error calling eq: missing argument for comparison")
    for other in others:
        _comparable("eq", first, other)
        if first == other:
            return True
    return False


def _ne(left: object, right: object) -> bool:
    _comparable("ne", left, right)
    return left != right


def _order(name: str, test: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    def compare(left: object, right: object) -> bool:
        _comparable(name, left, right)
        if left is None or right is None:
            raise CallError(f"error calling {name}: invalid type for comparison")
        return test(left, right)

    return compare


def _escape_html(*values: object) -> str:
    text = _print(*values)
    pairs = (("&", "&amp;"), ("'", "&#39;"), ('"', "&#34;"), ("<", "&lt;"), (">", "&gt;"))
    for char, entity in pairs:
        text = text.replace(char, entity)
    return text


def _urlquery(*values: object) -> str:
    from urllib.parse import quote_plus

    return quote_plus(_print(*values))


FUNCTIONS: dict[str, Callable[..., object]] = {
    "eq": _eq,
    "ge": _order("ge", lambda a, b: a >= b),
    "gt": _order("gt", lambda a, b: a > b),
    "html": _escape_html,
    "index": _index,
    "join": _join,
    "json": go_json,
    "js": lambda *values: go_json(_print(*values))[1:-1],
    "le": _order("le", lambda a, b: a <= b),
    "len": _len,
    "lower": lambda text: _want_string(text, "lower").lower(),
    "lt": _order("lt", lambda a, b: a < b),
    "ne": _ne,
    "not": lambda value: not truth(value),
    "pad": _pad,
    "print": _print,
    "printf": _printf,
    "println": _println,
    "slice": _slice,
    "split": _split,
    "title": _title,
    "truncate": _truncate,
    "upper": lambda text: _want_string(text, "upper").upper(),
    "urlquery": _urlquery,
}


def call(name: str, values: list[object]) -> object:
    """Call a function by name; a wrong number of arguments has Go's words."""
    return invoke(name, FUNCTIONS[name], values)


def invoke(name: str, function: Callable[..., object], values: list[object]) -> object:
    """Call a function, or a method of the data such as ``.Label``."""
    import inspect

    try:
        inspect.signature(function).bind(*values)
    except TypeError:
        raise CallError(f"wrong number of args for {name}: got {len(values)}") from None
    return function(*values)
