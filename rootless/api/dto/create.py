"""The body of ``POST /containers/create``, of ``exec`` and of ``update``."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.config import Config, Words, to_config, words
from rootless.api.dto.decode import Body
from rootless.api.dto.endpoint import EndpointBody, to_endpoint
from rootless.api.dto.host_config import Host, to_host_config
from rootless.api.fields import limited
from rootless.errors import InvalidInput
from rootless.model.request import ContainerRequest, EndpointRequest, ExecRequest


class Networking(Body, frozen=True):
    """``NetworkingConfig``."""

    endpoints_config: dict[str, EndpointBody] = {}


class CreateBody(Config, frozen=True):
    """A container's config with its sandbox and networks."""

    host_config: Host = Host()
    networking_config: Networking = Networking()


class ExecBody(Body, frozen=True):
    """``ExecConfig``."""

    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    console_size: list[int] = []
    detach_keys: str = ""
    tty: bool = False
    env: list[str] = []
    cmd: Words = None
    privileged: bool = False
    user: str = ""
    working_dir: str = ""
    detach: Annotated[bool, limited("the one given at the start counts")] = False
    """Sent by the docker CLI, which repeats it on start."""


class ExecStartBody(Body, frozen=True):
    """How an exec is started."""

    detach: bool = False
    tty: Annotated[bool, limited("whether the output comes in frames")] = False
    console_size: list[int] = []


def console_size(size: list[int]) -> tuple[int, int]:
    """Height and width, or zeros."""
    return (size[0], size[1]) if len(size) == 2 and min(size) >= 0 else (0, 0)


def to_request(
    body: CreateBody, *, name: str, platform: str, warnings: tuple[str, ...]
) -> ContainerRequest:
    """One create request."""
    endpoints = [
        to_endpoint(found, network, body.mac_address)
        for network, found in body.networking_config.endpoints_config.items()
    ]
    if body.mac_address and not endpoints:
        network = body.host_config.network_mode or "default"
        endpoints.append(EndpointRequest(network=network, mac_address=body.mac_address))
    return ContainerRequest(
        name=name,
        platform=platform,
        config=to_config(body),
        host=to_host_config(body.host_config),
        endpoints=tuple(endpoints),
        warnings=warnings,
    )


def to_exec(body: ExecBody) -> ExecRequest:
    """One exec request."""
    command = words(body.cmd) or ()
    if not command:
        raise InvalidInput("No exec command specified")
    return ExecRequest(
        cmd=command,
        env=tuple(body.env),
        working_dir=body.working_dir,
        user=body.user,
        privileged=body.privileged,
        tty=body.tty,
        attach_stdin=body.attach_stdin,
        attach_stdout=body.attach_stdout,
        attach_stderr=body.attach_stderr,
        detach_keys=body.detach_keys,
        console_size=console_size(body.console_size),
    )
