"""What ``--log-driver`` and ``--log-opt`` mean: Docker's drivers, options, defaults and complaints.

Values are read when a container is made, not when it starts, so that a wrong
one is refused where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from rootless.engine import goformats
from rootless.errors import InvalidInput
from rootless.model.request import LogConfig
from rootless.units import parse_size

T = TypeVar("T")

DRIVERS = ("journald", "json-file", "local", "syslog")
"""Those that write something, sorted; ``none`` is beside them."""
_ELSEWHERE = frozenset("awslogs etwlogs fluentd gcplogs gelf logentries splunk".split())
_ATTRIBUTES = ("labels", "labels-regex", "env", "env-regex", "tag")
_FILE = ("max-size", "max-file", "compress")
_CACHE = frozenset(f"cache-{key}" for key in ("disabled", *_FILE, *_ATTRIBUTES))
_OWN = {
    "json-file": frozenset(_FILE),
    "local": frozenset(_FILE),
    "journald": frozenset[str](),
    "syslog": frozenset(
        f"syslog-{key}"
        for key in (
            "address", "facility", "format", "tls-ca-cert", "tls-cert", "tls-key",
            "tls-skip-verify",
        )
    ),
}  # fmt: skip
_FACILITIES = {
    name: number
    for number, name in enumerate(
        "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp".split()
    )
} | {f"local{number}": 16 + number for number in range(8)}
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_SYSLOG_PORT = "514"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s/]+)?(:(\d*))?")
_BUFFER = 10**6
"""Bytes that wait in mode non-blocking when nothing else is said, as in Docker."""
_BACKLOG = 1 << 20
"""Bytes that wait for a sink that is slow, in mode blocking."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """A log in files. ``max_size`` in bytes, 0 for no bound."""

    max_size: int = 0
    max_files: int = 1
    compress: bool = False


@dataclass(frozen=True, slots=True)
class SyslogOptions:
    """``network`` and ``address`` as ``runtime.shim_syslog`` takes them; paths are of files."""

    network: str = ""
    address: str = ""
    facility: int = _FACILITIES["daemon"]
    format: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True)
class LogOptions:
    """A driver's options, read. ``copy`` is the readable copy of what is sent away."""

    driver: str
    drop: bool = False
    """Mode non-blocking."""
    buffer: int = _BACKLOG
    file: FileOptions | None = None
    copy: FileOptions | None = None
    syslog: SyslogOptions | None = None


_LOCAL_DEFAULT = FileOptions(20 << 20, 5, compress=True)


def merge(wanted: LogConfig, driver: str, options: Mapping[str, str]) -> LogConfig:
    """What a container asks for over the daemon's defaults.

    Those are for containers with the default driver only, apart from the options of the copy.
    """
    kind = wanted.type or driver
    given = dict(wanted.config)
    for key, value in options.items():
        if kind == driver or key in _CACHE:
            given.setdefault(key, value)
    return LogConfig(kind, tuple(given.items()))


def read(config: LogConfig) -> LogOptions:
    """The options of a container's log; InvalidInput, in Docker's words, for what is wrong."""
    driver, options = config.type, dict(config.config)
    if driver == "none":
        return LogOptions("none")
    drop, buffer = _mode(options)
    cache = options.get("cache-disabled", "")
    if cache and goformats.boolean(cache) is None:
        raise InvalidInput(f"invalid value for option cache-disabled: {cache}")
    _check_keys(driver, options)
    if driver == "json-file":
        return LogOptions(driver, drop, buffer, file=_json_file(options))
    if driver == "local":
        return LogOptions(driver, drop, buffer, file=_local(options))
    copy = None
    if not goformats.boolean(cache):
        copy = _local({key.removeprefix("cache-"): value for key, value in options.items()})
    syslog = _syslog(options) if driver == "syslog" else None
    return LogOptions(driver, drop, buffer, copy=copy, syslog=syslog)


def warnings(config: LogConfig) -> tuple[str, ...]:
    """What of the options has no effect."""
    options = dict(config.config)
    if config.type == "none" and options:
        return ("log options have no effect with log driver none",)
    if config.type == "json-file" and "max-file" in options and "max-size" not in options:
        return ("log option max-file has no effect without max-size",)
    return ()


def _mode(options: Mapping[str, str]) -> tuple[bool, int]:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidInput(f"logger: logging mode not supported: {mode}")
    size = options.get("max-buffer-size")
    if size is not None and mode != "non-blocking":
        raise InvalidInput(
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        )
    if mode != "non-blocking":
        return False, _BACKLOG
    if size is None:
        return True, _BUFFER
    try:
        return True, parse_size(size)
    except InvalidInput as error:
        raise InvalidInput(
            f"error parsing option max-buffer-size: {error.message}", hint=error.hint
        ) from None


def _check_keys(driver: str, options: Mapping[str, str]) -> None:
    known = _OWN.get(driver)
    if known is None:
        # Docker's words and no more for a name that nobody has: its clients compare them.
        known_here = f"this engine has no {driver}; one of {', '.join(DRIVERS)}, none"
        hint = known_here if driver in _ELSEWHERE else None
        raise InvalidInput(f"logger: no log driver named '{driver}' is registered", hint=hint)
    for key in options:
        if key in known or key in _ATTRIBUTES or key in _CACHE or key in _MODE:
            continue
        where = "log driver local" if driver == "local" else f"{driver} log driver"
        raise InvalidInput(
            f"unknown log opt '{key}' for {where}",
            hint=f"it knows {', '.join(sorted((*known, *_ATTRIBUTES, *_MODE)))}",
        )


_MODE = ("mode", "max-buffer-size")


def _json_file(options: Mapping[str, str]) -> FileOptions:
    size = 0
    if options.get("max-size", "-1") != "-1":  # what Docker documents as its default
        size = _value(options, "max-size", goformats.decimal_size, 0)
        if size <= 0:
            raise InvalidInput("max-size must be a positive number")
    files = _value(options, "max-file", goformats.integer, 1)
    if files < 1:
        raise InvalidInput("max-file cannot be less than 1")
    compress = _value(options, "compress", goformats.required_boolean, False)
    if compress and (files == 1 or not size):
        raise InvalidInput(
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        )
    return FileOptions(size, files, compress)


def _local(options: Mapping[str, str]) -> FileOptions:
    default = _LOCAL_DEFAULT
    size = _value(options, "max-size", goformats.decimal_size, default.max_size)
    files = _value(options, "max-file", goformats.integer, default.max_files)
    compress = _value(options, "compress", goformats.required_boolean, default.compress)
    if files < 0:
        raise InvalidInput("max-file must not be negative")
    if compress and files <= 1:
        raise InvalidInput(
            "compression cannot be enabled when max file count is 1",
            hint="--log-opt compress=false",
        )
    return FileOptions(max(size, 1), max(files, 1), compress)


def _value(options: Mapping[str, str], key: str, read: Callable[[str], T], default: T) -> T:
    if key not in options:
        return default
    try:
        return read(options[key])
    except InvalidInput as error:
        raise InvalidInput(error.message, hint=f"correct log option {key}") from None


def _syslog(options: Mapping[str, str]) -> SyslogOptions:
    network, address = _syslog_address(options.get("syslog-address", ""))
    form = options.get("syslog-format", "")
    facility = options.get("syslog-facility") or "daemon"
    number = _FACILITIES.get(facility)
    if number is None:
        number = int(facility) if facility.isascii() and facility.isdigit() else 24
        if len(facility) > 2 or number > 23:
            raise InvalidInput(
                "invalid syslog facility", hint=f"0 to 23, {', '.join(sorted(_FACILITIES))}"
            )
    if form not in _FORMATS:
        raise InvalidInput("Invalid syslog format", hint=", ".join(_FORMATS[1:]))
    ca, cert, key = (options.get(f"syslog-tls-{name}", "") for name in ("ca-cert", "cert", "key"))
    if network == "tcp+tls":
        if bool(cert) != bool(key):
            raise InvalidInput("syslog-tls-cert and syslog-tls-key go together")
        for path in filter(None, (ca, cert, key)):
            if not Path(path).is_absolute() or not Path(path).is_file():
                raise InvalidInput(f"could not read {path}: no such file")
    verify = "syslog-tls-skip-verify" not in options
    return SyslogOptions(network, address, number, form, ca, cert, key, verify=verify)


def _syslog_address(text: str) -> tuple[str, str]:
    if not text:
        return "", ""
    try:
        url = urlsplit(text)
    except ValueError as error:
        raise InvalidInput(f'parse "{text}": {error}') from None
    if url.scheme in ("unix", "unixgram"):
        if not Path(url.path).exists():
            raise InvalidInput(f"stat {url.path}: no such file or directory")
        return url.scheme, url.path
    if url.scheme not in ("udp", "tcp", "tcp+tls"):
        raise InvalidInput(
            f"unsupported scheme: '{url.scheme}'",
            hint="udp://HOST:PORT, tcp://, tcp+tls://, unix:///PATH or unixgram:///PATH",
        )
    match = _HOST.fullmatch(url.netloc)
    port = match[3] or _SYSLOG_PORT if match else ""
    if match is None or len(port) > 5 or int(port) > 65535:
        raise InvalidInput(f"address {url.netloc}: not a host and a port")
    return url.scheme, f"{match[1] or 'localhost'}:{port}"
