"""``--change`` of commit and import: a few Dockerfile instructions applied to a config."""

from __future__ import annotations

import dataclasses
import json
import posixpath
import re
from collections.abc import Callable, Iterable

from rootless.errors import InvalidInput
from rootless.model.request import ContainerConfig, Healthcheck
from rootless.units import parse_duration, whole_number

_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE | re.ASCII)
_FLAG = re.compile(r"--([a-z-]+)=(\S+)\s*", re.ASCII)
_MAX_PORTS = 65_536


def apply(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """``config`` after ``changes``; InvalidInput naming the instruction that is wrong."""
    for change in changes:
        for line in change.splitlines():
            if line.strip():
                config = _one(config, line.strip())
    return config


def _one(config: ContainerConfig, line: str) -> ContainerConfig:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    handler = _HANDLERS.get(word.upper())
    if handler is None:
        raise InvalidInput(
            f"{word[:40].lower()} is not a valid change command",
            hint=f"one of {', '.join(sorted(_HANDLERS))}",
        )
    if not rest:
        raise InvalidInput(f"{word.upper()} requires an argument")
    return handler(config, rest)


def _array(text: str) -> tuple[str, ...] | None:
    """A JSON array of strings, or None: then it is the shell form."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)


def _command(config: ContainerConfig, text: str) -> tuple[str, ...]:
    words = _array(text)
    return words if words is not None else (*(config.shell or _SHELL), text)


def _cmd(config: ContainerConfig, text: str) -> ContainerConfig:
    return dataclasses.replace(config, cmd=_command(config, text))


def _entrypoint(config: ContainerConfig, text: str) -> ContainerConfig:
    return dataclasses.replace(config, entrypoint=_command(config, text))


def words(text: str) -> list[str]:
    """Words with Dockerfile quoting: single and double quotes, backslash escapes."""
    found: list[str] = []
    current: list[str] | None = None
    quote = ""
    letters = iter(text)
    for letter in letters:
        if letter == "\\" and quote != "'":
            current = [*(current or []), next(letters, "\\")]
        elif quote:
            current = current or []
            if letter == quote:
                quote = ""
            else:
                current.append(letter)
        elif letter in "'\"":
            quote = letter
            current = current or []
        elif letter.isspace():
            if current is not None:
                found.append("".join(current))
            current = None
        else:
            current = [*(current or []), letter]
    if quote:
        raise InvalidInput(f"unbalanced quote in '{text[:100]}'")
    if current is not None:
        found.append("".join(current))
    return found


def _pairs(what: str, text: str) -> list[tuple[str, str]]:
    """``key=value …``, or the old form ``key rest of the line``."""
    items = words(text)
    if "=" not in items[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise InvalidInput(f"{what} must have two arguments", hint=f"{what} key=value")
        return [(key, value.strip())]
    pairs = []
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise InvalidInput(f"{what} '{item[:100]}' is not key=value")
        pairs.append((key, value))
    return pairs


def _env(config: ContainerConfig, text: str) -> ContainerConfig:
    env = dict(entry.partition("=")[::2] for entry in config.env)
    env.update(_pairs("ENV", text))
    return dataclasses.replace(config, env=tuple(f"{k}={v}" for k, v in env.items()))


def _label(config: ContainerConfig, text: str) -> ContainerConfig:
    labels = {**dict(config.labels), **dict(_pairs("LABEL", text))}
    return dataclasses.replace(config, labels=tuple(sorted(labels.items())))


def _expose(config: ContainerConfig, text: str) -> ContainerConfig:
    ports = set(config.exposed_ports)
    for word in words(text):
        match = _PORT.fullmatch(word)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if match is None or not 0 < first <= last < _MAX_PORTS:
            raise InvalidInput(f"invalid containerPort: {word[:40]}")
        protocol = (match[3] or "tcp").lower()
        ports.update(f"{port}/{protocol}" for port in range(first, last + 1))
    return dataclasses.replace(config, exposed_ports=tuple(sorted(ports)))


def _on_build(config: ContainerConfig, text: str) -> ContainerConfig:
    trigger = text.partition(" ")[0].upper()
    if trigger in ("ONBUILD", "FROM", "MAINTAINER"):
        raise InvalidInput(f"{trigger} isn't allowed as an ONBUILD trigger")
    return dataclasses.replace(config, on_build=(*config.on_build, text))


def _user(config: ContainerConfig, text: str) -> ContainerConfig:
    return dataclasses.replace(config, user=text)


def _volume(config: ContainerConfig, text: str) -> ContainerConfig:
    paths = _array(text)
    named = set(paths if paths is not None else words(text))
    if "" in named:
        raise InvalidInput("VOLUME specified can not be an empty string")
    return dataclasses.replace(config, volumes=tuple(sorted({*config.volumes, *named})))


def _workdir(config: ContainerConfig, text: str) -> ContainerConfig:
    path = posixpath.normpath(posixpath.join("/", config.working_dir, text))
    return dataclasses.replace(config, working_dir="/" + path.lstrip("/"))


def _stop_signal(config: ContainerConfig, text: str) -> ContainerConfig:
    return dataclasses.replace(config, stop_signal=text)


def _shell(config: ContainerConfig, text: str) -> ContainerConfig:
    shell = _array(text)
    if not shell:
        raise InvalidInput("SHELL requires the arguments to be in JSON form")
    return dataclasses.replace(config, shell=shell)


def _health(config: ContainerConfig, text: str) -> ContainerConfig:
    flags: dict[str, str] = {}
    while match := _FLAG.match(text):
        flags[match[1]] = match[2]
        text = text[match.end() :]
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE" and not rest.strip() and not flags:
        return dataclasses.replace(config, healthcheck=Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD" or not rest.strip():
        raise InvalidInput(f"unknown type '{kind[:40]}' in HEALTHCHECK (try CMD)")
    listed = _array(rest.strip())
    test = ("CMD-SHELL", rest.strip()) if listed is None else ("CMD", *listed)
    known = {"interval", "timeout", "start-period", "start-interval", "retries"}
    if unknown := flags.keys() - known:
        raise InvalidInput(f"unknown flag '--{min(unknown)}' of HEALTHCHECK")
    retries = flags.get("retries", "0")
    count = whole_number(retries)
    if count is None:
        raise InvalidInput(f"HEALTHCHECK --retries must be a number, not '{retries[:40]}'")
    check = Healthcheck(
        test=test,
        interval=parse_duration(flags.get("interval", "0")),
        timeout=parse_duration(flags.get("timeout", "0")),
        start_period=parse_duration(flags.get("start-period", "0")),
        start_interval=parse_duration(flags.get("start-interval", "0")),
        retries=count,
    )
    return dataclasses.replace(config, healthcheck=check)


_HANDLERS: dict[str, Callable[[ContainerConfig, str], ContainerConfig]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
