"""``ContainerConfig``: what the process is, in both directions."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.decode import Body
from rootless.api.dto.ports import parse_exposed
from rootless.api.fields import ignored, limited
from rootless.errors import InvalidInput
from rootless.model.request import ContainerConfig, Healthcheck

Words = list[str] | str | None


class HealthConfig(Body, frozen=True):
    """A healthcheck; times in nanoseconds, 0 inherits."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    retries: int = 0
    start_period: int = 0
    start_interval: int = 0


class Config(Body, frozen=True):
    """The fields of ``ContainerConfig``."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, object] = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: Words = None
    healthcheck: HealthConfig | None = None
    args_escaped: Annotated[bool, ignored("only Windows has it")] = False
    image: str = ""
    volumes: dict[str, object] = {}
    working_dir: str = ""
    entrypoint: Words = None
    network_disabled: bool = False
    mac_address: Annotated[
        str, limited("for the first network; clients from 1.44 on say it in EndpointsConfig")
    ] = ""
    on_build: Annotated[list[str], limited("kept for images made of the container")] = []
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] = []


def words(value: Words) -> tuple[str, ...] | None:
    """``Cmd`` and ``Entrypoint`` may be one string; ``None`` stays None."""
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)


def _healthcheck(found: HealthConfig) -> Healthcheck:
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(found, name)
        if value < 0 or 0 < value < 10**6:
            title = name.title().replace("_", "")
            raise InvalidInput(f"{title} in Healthcheck cannot be less than 1ms")
    if found.retries < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")
    return Healthcheck(
        test=tuple(found.test),
        interval=found.interval,
        timeout=found.timeout,
        retries=found.retries,
        start_period=found.start_period,
        start_interval=found.start_interval,
    )


def to_config(body: Config) -> ContainerConfig:
    """The model's form."""
    exposed = [
        f"{port}/{protocol}"
        for text in body.exposed_ports
        for port, protocol in parse_exposed(text)
    ]
    return ContainerConfig(
        hostname=body.hostname,
        domainname=body.domainname,
        user=body.user,
        attach_stdin=body.attach_stdin,
        attach_stdout=body.attach_stdout,
        attach_stderr=body.attach_stderr,
        exposed_ports=tuple(exposed),
        tty=body.tty,
        open_stdin=body.open_stdin,
        stdin_once=body.stdin_once,
        env=tuple(body.env),
        cmd=words(body.cmd),
        entrypoint=words(body.entrypoint),
        healthcheck=None if body.healthcheck is None else _healthcheck(body.healthcheck),
        args_escaped=body.args_escaped,
        image=body.image,
        volumes=tuple(body.volumes),
        working_dir=body.working_dir,
        network_disabled=body.network_disabled,
        labels=tuple(body.labels.items()),
        stop_signal=body.stop_signal,
        stop_timeout=body.stop_timeout,
        shell=tuple(body.shell),
        on_build=tuple(body.on_build),
    )


def from_healthcheck(check: Healthcheck) -> dict[str, object]:
    """Only what is set, as Go's omitempty."""
    body = {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "Retries": check.retries,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
    }
    return {key: value for key, value in body.items() if value}


def from_config(config: ContainerConfig, *, image: bool = False) -> dict[str, object]:
    """The JSON of a config; ``image`` leaves out what only containers have."""
    body: dict[str, object] = {
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach_stdin,
        "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr,
        "ExposedPorts": {port: {} for port in config.exposed_ports},
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": list(config.env),
        "Cmd": None if config.cmd is None else list(config.cmd),
        "Healthcheck": None if config.healthcheck is None else from_healthcheck(config.healthcheck),
        "ArgsEscaped": config.args_escaped,
        "Image": config.image,
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": None if config.entrypoint is None else list(config.entrypoint),
        "NetworkDisabled": config.network_disabled,
        "OnBuild": list(config.on_build) or None,
        "Labels": dict(config.labels),
        "StopSignal": config.stop_signal,
        "StopTimeout": config.stop_timeout,
        "Shell": list(config.shell),
    }
    for key in ("ExposedPorts", "Healthcheck", "ArgsEscaped", "StopSignal", "StopTimeout", "Shell"):
        if (not body[key] and body[key] != 0) or body[key] is False:
            del body[key]
    if not config.network_disabled:
        del body["NetworkDisabled"]
    if image:
        for key in _CONTAINER_ONLY:
            body.pop(key, None)
        body["Labels"] = body["Labels"] or None
    return body


_CONTAINER_ONLY = (
    "Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin",
    "StdinOnce", "Image", "NetworkDisabled", "StopTimeout",
)  # fmt: skip
