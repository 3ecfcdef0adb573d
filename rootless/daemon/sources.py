"""Where the configuration comes from: daemon.json and flags, never both for one setting.

An unknown key is an error: a misspelt protection must not be silently absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rootless.cli.nearest import nearest
from rootless.daemon.config import DaemonConfig, check_config, complete
from rootless.daemon.options import OPTIONS, Option
from rootless.daemon.refusals import REFUSALS, Refusal, check_refusal
from rootless.daemon.values import from_flag, from_json, shown
from rootless.errors import InvalidInput

_ENTRIES: tuple[Option | Refusal, ...] = (*OPTIONS, *REFUSALS)
_BY_KEY = {entry.key: entry for entry in _ENTRIES}
_BY_FLAG = {entry.name: entry for entry in _ENTRIES if entry.name}
_OLD_KEYS = {"host-gateway-ip": "host-gateway-ips"}
"""Keys that stand for a list of one."""
_GROUPS = frozenset(option.inside for option in OPTIONS if option.inside)
_SECRET = frozenset(("http-proxy", "https-proxy"))
"""Their values may hold a password."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line gave: values of the parser by flag, and where daemon.json is."""

    values: Mapping[str, object] = field(default_factory=dict)
    config_file: str = ""
    required: bool = False
    """The file was named, so that it has to exist."""


def load(flags: Flags, environ: Mapping[str, str]) -> DaemonConfig:
    """The whole configuration, checked and complete; raises InvalidInput."""
    origin = flags.config_file
    found = parse_file(read_file(Path(origin), required=flags.required), origin)
    given: dict[str, object] = {}
    for name, value in flags.values.items():
        entry = _BY_FLAG[name]
        given[entry.key] = from_flag(name, entry.kind, value)
        if isinstance(entry, Refusal):
            check_refusal(entry, given[entry.key])
    _refuse_conflicts(found, given, origin)
    config = configuration({**found.values, **given})
    return complete(replace(check_config(config), config_file=origin), environ)


@dataclass(frozen=True, slots=True)
class FileValues:
    """Of a daemon.json: converted values by key, and as they stand there, by the written key."""

    values: Mapping[str, object]
    raw: Mapping[str, object]


def read_file(path: Path, *, required: bool) -> str:
    """The text of a daemon.json, '' when it is absent and not required."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        if required:
            raise InvalidInput(
                f"unable to configure the daemon with file {path}: no such configuration file"
            ) from None
        return ""
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: {error.reason}") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error


def parse_file(text: str, origin: str = "daemon.json") -> FileValues:
    """Check and convert the JSON text of a daemon.json; complaints name ``origin``."""
    try:
        body = json.loads(text if text.strip() else "{}", object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{origin}:{error.lineno}:{error.colno}: {error.msg}") from error
    except RecursionError:
        raise InvalidInput(f"{origin}: nested too deeply") from None
    except InvalidInput as error:
        raise InvalidInput(f"{origin}: {error.message}", hint=error.hint) from error
    except ValueError:
        raise InvalidInput(f"{origin}: a number is too long") from None
    if not isinstance(body, dict):
        raise InvalidInput(f"{origin}: must be a JSON object")
    try:
        _refuse_unwritable(body)
        return _convert(body)
    except InvalidInput as error:
        raise InvalidInput(f"{origin}: {error.message}", hint=error.hint) from error


def _refuse_unwritable(body: object) -> None:
    """No path, name or address holds NUL or half a character, and system calls take neither."""
    try:
        text = json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput("a text holds half of a surrogate pair, which is no character") from None
    if rb"\u0000" in text.replace(rb"\\", b""):
        raise InvalidInput("a text holds NUL")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInput(f"key {key!r} is given twice")
        found[key] = value
    return found


def _convert(body: Mapping[str, object]) -> FileValues:
    raw = _flattened(body)
    _refuse_unknown(raw)
    values: dict[str, object] = {}
    for key, value in raw.items():
        if key in _OLD_KEYS:
            if _OLD_KEYS[key] in raw:
                raise InvalidInput(
                    f"{key} and {_OLD_KEYS[key]} must not both be specified in the config file"
                )
            entry = _BY_KEY[_OLD_KEYS[key]]
            values[entry.key] = from_json(key, entry.kind, [value] if value else [])
            continue
        entry = _BY_KEY[key]
        values[key] = from_json(key, entry.kind, value)
        if isinstance(entry, Refusal):
            check_refusal(entry, values[key])
    return FileValues(values, raw)


def _flattened(body: Mapping[str, object]) -> dict[str, object]:
    """Keys with those of ``proxies`` among them, which mean nothing outside of it."""
    found: dict[str, object] = {}
    for key, value in body.items():
        entry = _BY_KEY.get(key)
        if key in _GROUPS:
            found.update(_members(key, value))
        elif isinstance(entry, Option) and entry.inside:
            raise InvalidInput(
                f"{key} belongs into the object {entry.inside}",
                hint=f'"{entry.inside}": {{"{key}": …}}',
            )
        else:
            found[key] = value
    return found


def _members(group: str, value: object) -> dict[str, object]:
    known = [option.key for option in OPTIONS if option.inside == group]
    if not isinstance(value, dict):
        raise InvalidInput(f"{group} must be an object, not {json.dumps(value)[:200]}")
    for key in value:
        if key not in known:
            raise InvalidInput(f"{group} has no key {key!r}", hint=f"it has {', '.join(known)}")
    return value


def _refuse_unknown(raw: Mapping[str, object]) -> None:
    known = (*_BY_KEY, *_OLD_KEYS, *_GROUPS)
    unknown = [key for key in raw if key not in known]
    if not unknown:
        return
    near = ((key, nearest(key, known)) for key in unknown)
    meant = [f"{key} looks like {found}" for key, found in near if found]
    raise InvalidInput(
        "the following directives don't match any configuration option: " + ", ".join(unknown),
        hint="; ".join(meant) or "rootlessd --help lists them all",
    )


def _refuse_conflicts(found: FileValues, given: Mapping[str, object], origin: str) -> None:
    conflicts = []
    for key, value in given.items():
        old = next((old for old, new in _OLD_KEYS.items() if new == key and old in found.raw), key)
        if old not in found.raw:
            continue
        texts = ["xxxxx" if key in _SECRET else _plain(v) for v in (value, found.raw[old])]
        conflicts.append(f"{old}: (from flag: {texts[0]}, from file: {texts[1]})")
    if conflicts:
        raise InvalidInput(
            f"unable to configure the daemon with file {origin}: the following directives are "
            f"specified both as a flag and in the configuration file: {', '.join(conflicts)}",
            hint="give each in one place",
        )


def _plain(value: object) -> str:
    """A value as :func:`shown`; pairs of a map as the file has them."""
    if isinstance(value, tuple) and value and all(isinstance(item, tuple) for item in value):
        value = dict(value)
    return shown(value)


def configuration(values: Mapping[str, object]) -> DaemonConfig:
    """Converted values by key as a configuration, the rest at its defaults."""
    fields = {
        entry.field: values[key] for key in values if isinstance(entry := _BY_KEY[key], Option)
    }
    return DaemonConfig(**fields)  # type: ignore[arg-type]  # converted by each option
