"""An image's config: JSON to the model and back.

OCI image spec, config.md, and Docker's additions to it (Healthcheck, OnBuild,
Shell …).  The JSON is untrusted: bounded, typed, and what is not known is
ignored here but kept in the blob, which is what the image's id is made of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from rootless.errors import InvalidInput
from rootless.ids import is_digest
from rootless.images.platform import Platform, normalise
from rootless.model.request import ContainerConfig, Healthcheck

MAX_CONFIG = 8 << 20
_MAX_LAYERS = 512
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class History:
    """One step of how an image was made."""

    created_ns: int = 0
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What an image's config blob says. ``created_ns`` is Unix time in nanoseconds, 0 unknown."""

    platform: Platform
    config: ContainerConfig
    diff_ids: tuple[str, ...]
    """Lowest layer first."""
    history: tuple[History, ...] = ()
    created_ns: int = 0
    author: str = ""
    docker_version: str = ""
    os_version: str = ""


_Words = list[str] | str | None


class _Health(msgspec.Struct):
    Test: list[str] | None = None
    Interval: int | None = None
    Timeout: int | None = None
    Retries: int | None = None
    StartPeriod: int | None = None
    StartInterval: int | None = None


class _Config(msgspec.Struct):
    Hostname: str | None = None
    Domainname: str | None = None
    User: str | None = None
    ExposedPorts: dict[str, Any] | None = None
    Tty: bool | None = None
    OpenStdin: bool | None = None
    StdinOnce: bool | None = None
    Env: list[str] | None = None
    Cmd: _Words = None
    Entrypoint: _Words = None
    Healthcheck: _Health | None = None
    ArgsEscaped: bool | None = None
    Volumes: dict[str, Any] | None = None
    WorkingDir: str | None = None
    Labels: dict[str, str] | None = None
    StopSignal: str | None = None
    StopTimeout: int | None = None
    Shell: _Words = None
    OnBuild: list[str] | None = None


class _Step(msgspec.Struct):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _RootFs(msgspec.Struct):
    diff_ids: list[str] | None = None
    type: str = "layers"


class _Image(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str | None = None
    created: str | None = None
    author: str | None = None
    docker_version: str | None = None
    os_version: str | None = msgspec.field(default=None, name="os.version")
    config: _Config | None = None
    rootfs: _RootFs | None = None
    history: list[_Step] | None = None


def parse_time(text: str | None) -> int:
    """RFC 3339 as nanoseconds of Unix time; 0 for nothing and Go's zero time."""
    match = _TIME.fullmatch(text or "")
    if match is None:
        return 0
    zone = (match[3] or "Z").upper().replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(match[1].upper().replace(" ", "T") + zone)
    except ValueError:
        return 0  # a 13th month; the time is information only
    if moment.year <= 1:
        return 0
    whole = int(moment.timestamp())
    return whole * 10**9 + int((match[2] or "0").ljust(9, "0")[:9])


def format_time(nanoseconds: int) -> str:
    """Unix time in nanoseconds as RFC 3339 in UTC."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    head = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{head}{tail}Z"


def _words(value: _Words) -> tuple[str, ...] | None:
    if value is None:
        return None
    # Docker's StrSlice: images of its first years have a plain string here.
    return (value,) if isinstance(value, str) else tuple(value)


def _health(value: _Health | None) -> Healthcheck | None:
    if value is None:
        return None
    return Healthcheck(
        test=tuple(value.Test or ()),
        interval=value.Interval or 0,
        timeout=value.Timeout or 0,
        retries=value.Retries or 0,
        start_period=value.StartPeriod or 0,
        start_interval=value.StartInterval or 0,
    )


def _container(raw: _Config) -> ContainerConfig:
    return ContainerConfig(
        hostname=raw.Hostname or "",
        domainname=raw.Domainname or "",
        user=raw.User or "",
        exposed_ports=tuple(sorted(raw.ExposedPorts or ())),
        tty=bool(raw.Tty),
        open_stdin=bool(raw.OpenStdin),
        stdin_once=bool(raw.StdinOnce),
        env=tuple(raw.Env or ()),
        cmd=_words(raw.Cmd),
        entrypoint=_words(raw.Entrypoint),
        healthcheck=_health(raw.Healthcheck),
        args_escaped=bool(raw.ArgsEscaped),
        volumes=tuple(sorted(raw.Volumes or ())),
        working_dir=raw.WorkingDir or "",
        labels=tuple(sorted((raw.Labels or {}).items())),
        stop_signal=raw.StopSignal or "",
        stop_timeout=raw.StopTimeout,
        shell=_words(raw.Shell) or (),
        on_build=tuple(raw.OnBuild or ()),
    )


def parse(data: bytes, what: str = "image config") -> ImageConfig:
    """The config blob ``data``; InvalidInput when it is not one."""
    if len(data) > MAX_CONFIG:
        raise InvalidInput(f"{what} refused: it is larger than {MAX_CONFIG} bytes")
    try:
        raw = msgspec.json.decode(data, type=_Image)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} refused: {error}") from error
    if raw.rootfs is None or raw.rootfs.type != "layers":
        raise InvalidInput(f"{what} refused: it has no rootfs of type 'layers'")
    diff_ids = tuple(raw.rootfs.diff_ids or ())
    if len(diff_ids) > _MAX_LAYERS:
        raise InvalidInput(f"{what} refused: it has more than {_MAX_LAYERS} layers")
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise InvalidInput(f"{what} refused: '{diff_id[:100]}' is not a diff id")
    steps = tuple(
        History(
            parse_time(step.created),
            step.created_by or "",
            step.author or "",
            step.comment or "",
            bool(step.empty_layer),
        )
        for step in raw.history or ()
    )
    return ImageConfig(
        platform=normalise(Platform(raw.os or "linux", raw.architecture, raw.variant or "")),
        config=_container(raw.config or _Config()),
        diff_ids=diff_ids,
        history=steps,
        created_ns=parse_time(raw.created),
        author=raw.author or "",
        docker_version=raw.docker_version or "",
        os_version=raw.os_version or "",
    )


def container_json(config: ContainerConfig) -> dict[str, object]:
    """``config`` as the ``config`` object of an image, with Docker's keys; empty ones left out."""
    health: dict[str, object] | None = None
    if config.healthcheck is not None:
        check = config.healthcheck
        health = _compact(
            {
                "Test": list(check.test),
                "Interval": check.interval,
                "Timeout": check.timeout,
                "StartPeriod": check.start_period,
                "StartInterval": check.start_interval,
                "Retries": check.retries,
            }
        )
    body: dict[str, object] = {
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": list(config.env),
        "Cmd": None if config.cmd is None else list(config.cmd),
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "Healthcheck": health,
        "ArgsEscaped": config.args_escaped,
        "Volumes": {path: {} for path in config.volumes},
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "Shell": list(config.shell),
        "OnBuild": list(config.on_build),
    }
    found = _compact(body)
    if config.stop_timeout is not None:
        found["StopTimeout"] = config.stop_timeout  # 0 means something here
    return found


def _compact(body: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in body.items() if value}


def encode(image: ImageConfig) -> bytes:
    """``image`` as a config blob; the same value gives the same bytes."""
    body: dict[str, object] = {"architecture": image.platform.architecture}
    if image.platform.variant:
        body["variant"] = image.platform.variant
    if image.author:
        body["author"] = image.author
    body["config"] = container_json(image.config)
    if image.created_ns:
        body["created"] = format_time(image.created_ns)
    body["history"] = [_step(step) for step in image.history]
    body["os"] = image.platform.os
    if image.os_version:
        body["os.version"] = image.os_version
    body["rootfs"] = {"type": "layers", "diff_ids": list(image.diff_ids)}
    return msgspec.json.encode(body)


def _step(step: History) -> dict[str, object]:
    body: dict[str, object] = {}
    if step.created_ns:
        body["created"] = format_time(step.created_ns)
    for key in ("created_by", "author", "comment"):
        if value := getattr(step, key):
            body[key] = value
    if step.empty_layer:
        body["empty_layer"] = True
    return body
