"""Which daemon a command speaks to.

In this order: ``--host`` or ``--context``; ``$ROOTLESS_HOST``; Docker's own
``$DOCKER_HOST``, ``$DOCKER_CONTEXT`` and ``currentContext`` of its configuration; the
user's own daemon, which is started on demand.
"""

from __future__ import annotations

from rootless.client import clientconfig, paths
from rootless.client import lightos as os
from rootless.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT = "default"


class Where:
    """The global flags that say where the daemon is."""

    __slots__ = ("context", "host", "tls", "tlscacert", "tlscert", "tlskey", "tlsverify")

    def __init__(self, host: str = "", context: str = "") -> None:
        self.host = host
        self.context = context
        self.tls = False
        self.tlsverify = False
        self.tlscacert = ""
        self.tlscert = ""
        self.tlskey = ""


class Tls:
    """Files of a TLS client; '' is none. Without ``verify`` nobody checks who answers."""

    __slots__ = ("ca", "cert", "key", "verify")

    def __init__(self, ca: str, cert: str, key: str, *, verify: bool) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify


class Endpoint:
    """A daemon. ``source`` is who chose it when the command line did not; '' is nobody."""

    __slots__ = ("headers", "host", "own", "path", "source", "tls")

    def __init__(
        self, host: str, *, own: bool = False, tls: Tls | None = None, source: str = ""
    ) -> None:
        self.host = host
        self.own = own
        self.tls = tls
        self.source = source
        self.headers = ""
        self.path = "" if _is_remote(host) else paths.socket_of(host)
        """The socket's path; '' for a daemon on another machine."""
        if not self.path:
            from rootless.client.remote import check

            check(self)


def _is_remote(host: str) -> bool:
    return host.startswith(("tcp://", "ssh://"))


def choose(where: Where | None = None) -> Endpoint:
    """The endpoint for these flags, the environment and the configuration."""
    where = where or Where()
    config = clientconfig.read()
    found = _choose(where, config)
    found.headers = clientconfig.headers(config)
    return found


def _choose(where: Where, config: dict[str, Any]) -> Endpoint:
    if where.host and where.context:
        raise InvalidInput(
            "conflicting options: cannot specify both --host and --context", hint="leave one out"
        )
    host = where.host or ("" if where.context else os.environ.get("ROOTLESS_HOST") or "")
    if host:
        return at_host(host, where)
    name, source = context_name(where, config)
    if name != DEFAULT:
        from rootless.client.contexts import endpoint_of

        return endpoint_of(name, source=source)
    return default_endpoint(where)


def context_name(where: Where, config: dict[str, Any]) -> tuple[str, str]:
    """The context in use, and who chose it: '' for the command line."""
    if where.context:
        return where.context, ""
    if where.host or os.environ.get("DOCKER_HOST"):
        return DEFAULT, ""
    if name := os.environ.get("DOCKER_CONTEXT"):
        return name, "DOCKER_CONTEXT"
    name = config.get("currentContext")
    if isinstance(name, str) and name:
        return name, f"currentContext in {clientconfig.path()}"
    return DEFAULT, ""


def default_endpoint(where: Where) -> Endpoint:
    """The context ``default``: ``$DOCKER_HOST``, else the user's own daemon."""
    if host := os.environ.get("DOCKER_HOST"):
        return at_host(host, where, source="DOCKER_HOST")
    return Endpoint(f"unix://{paths.default_socket()}", own=True)


def at_host(host: str, where: Where, *, source: str = "") -> Endpoint:
    """A daemon by its address, with the TLS that flags and environment ask for."""
    tls = None
    if host.startswith("tcp://"):
        from rootless.client.remote import tls_of

        tls = tls_of(where)
    elif not host.startswith("ssh://"):
        host = f"unix://{paths.socket_of(host)}"
    return Endpoint(host, tls=tls, source=source)
