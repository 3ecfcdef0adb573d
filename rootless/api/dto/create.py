"""The body of ``POST /containers/create``, of ``exec`` and of ``update``."""

# ruff: noqa: RUF012 - msgspec makes a new list or dict for each struct

from __future__ import annotations

from typing import Annotated

from rootless.api.dto.config import Config, Words, to_config, words
from rootless.api.dto.decode import Body
from rootless.api.dto.host_config import Host, to_host_config
from rootless.api.fields import ignored, limited, refused
from rootless.errors import InvalidInput
from rootless.model.request import ContainerRequest, EndpointRequest, ExecRequest

# Docker's words. An address that is not given is a lie to who asked for it.
_ADDRESS = refused(
    "user specified IP address is supported on user defined networks only, and this engine "
    "has none yet"
)
_ALIASES = refused(
    "network-scoped aliases are only supported for user-defined networks, and this engine "
    "has none yet"
)


class IpamConfig(Body, frozen=True):
    """Addresses an endpoint asks for."""

    ipv4_address: Annotated[str, _ADDRESS] = ""
    ipv6_address: Annotated[str, _ADDRESS] = ""
    link_local_ips: Annotated[list[str], _ADDRESS] = []


_ANSWER = ignored("it is what answers tell, not what is asked for")


class Endpoint(Body, frozen=True):
    """One of ``EndpointsConfig``."""

    ipam_config: IpamConfig | None = None
    links: Annotated[list[str], refused("links between containers are not supported")] = []
    aliases: Annotated[list[str], _ALIASES] = []
    mac_address: str = ""
    driver_opts: Annotated[
        dict[str, str], refused("the networks of this engine take no options")
    ] = {}
    gw_priority: Annotated[
        int, ignored("a container has one network, and its gateway is the only one")
    ] = 0
    network_id: Annotated[str, _ANSWER] = ""
    endpoint_id: Annotated[str, _ANSWER] = ""
    gateway: Annotated[str, _ANSWER] = ""
    ip_address: Annotated[str, _ANSWER] = ""
    ip_prefix_len: Annotated[int, _ANSWER] = 0
    ipv6_gateway: Annotated[str, _ANSWER] = ""
    global_ipv6_address: Annotated[str, _ANSWER] = ""
    global_ipv6_prefix_len: Annotated[int, _ANSWER] = 0
    dns_names: Annotated[list[str], _ANSWER] = []


class Networking(Body, frozen=True):
    """``NetworkingConfig``."""

    endpoints_config: dict[str, Endpoint] = {}


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
    endpoints = []
    for network, found in body.networking_config.endpoints_config.items():
        ipam = found.ipam_config or IpamConfig()
        endpoints.append(
            EndpointRequest(
                network=network,
                aliases=tuple(found.aliases),
                links=tuple(found.links),
                ipv4_address=ipam.ipv4_address,
                ipv6_address=ipam.ipv6_address,
                link_local_ips=tuple(ipam.link_local_ips),
                mac_address=found.mac_address or body.mac_address,
                driver_opts=tuple(found.driver_opts.items()),
            )
        )
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
