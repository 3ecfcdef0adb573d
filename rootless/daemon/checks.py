"""Values of daemon.json that would only fail later, container by container."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from rootless.engine.logoptions import check_log_options
from rootless.errors import InvalidInput
from rootless.model.request import RlimitRequest

_NETWORKS = ("", "slirp4netns", "bridge", "none", "host")


def check_paths(paths: Mapping[str, str]) -> None:
    """Paths by key: a relative one would depend on where the daemon was started."""
    for key, path in paths.items():
        if path and not os.path.isabs(os.path.expanduser(path)):
            raise InvalidInput(f"{key} {path!r} is not an absolute path")


def check_addresses(key: str, addresses: tuple[str, ...]) -> None:
    """IP addresses of a key; an empty one means the default."""
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidInput(f"{key}: {address!r} is not an IP address") from None


def check_mirrors(mirrors: tuple[str, ...]) -> None:
    """Registry mirrors are URLs, as in Docker."""
    for url in mirrors:
        scheme, _, rest = url.partition("://")
        if scheme not in ("http", "https") or not rest or any(c.isspace() for c in url):
            raise InvalidInput(
                f"registry-mirrors: {url!r} is not a URL", hint="https://mirror.example"
            )


def check_network(name: str) -> None:
    """The default network is one that a container can be in without another."""
    if name not in _NETWORKS:
        raise InvalidInput(
            f"default-network {name!r} is unknown", hint=f"one of {', '.join(_NETWORKS[1:])}"
        )


def check_ulimits(limits: tuple[RlimitRequest, ...]) -> None:
    """Soft is at most hard; -1 is unlimited (getrlimit(2))."""
    for limit in limits:
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidInput(
                f"default-ulimits.{limit.name}: soft {limit.soft} is above hard {limit.hard}"
            )


def check_logging(driver: str, options: tuple[tuple[str, str], ...]) -> None:
    """Driver and options of every container's log."""
    if driver not in ("json-file", "none"):
        raise InvalidInput(f"log-driver {driver!r} is not supported", hint="json-file or none")
    try:
        check_log_options(dict(options))
    except InvalidInput as error:
        raise InvalidInput(f"log-opts: {error.message}", hint=error.hint) from None
