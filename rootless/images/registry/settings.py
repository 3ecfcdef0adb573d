"""What the daemon's configuration says about registries."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import InvalidInput
from rootless.images.reference import DEFAULT_DOMAIN

HUB_HOST = "registry-1.docker.io"
HUB_AUTH_KEY = "https://index.docker.io/v1/"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Docker's daemon.json keys, and where certificates and credentials are."""

    insecure: tuple[str, ...] = ()
    """``insecure-registries``: HOST[:PORT] or a CIDR block."""
    mirrors: tuple[str, ...] = ()
    """``registry-mirrors``: base URLs, tried in order for docker.io."""
    certificate_dirs: tuple[Path, ...] = (
        Path("/etc/docker/certs.d"),
        Path("~/.config/rootless/certs.d"),
    )
    docker_config: Path = Path("~/.docker/config.json")
    max_downloads: int = 3
    """``max-concurrent-downloads``, per pull."""
    max_uploads: int = 5
    attempts: int = 5
    """``max-download-attempts`` per blob."""
    retry_delay: float = 0.5
    """Seconds before the second attempt; doubled each time, at most 10."""
    user_agent: str = "rootless"
    proxies: tuple[tuple[str, str], ...] = ()
    """daemon.json's ``proxies`` (http-proxy, https-proxy, no-proxy), before the environment's."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One base URL a registry is reached at."""

    scheme: str
    host: str
    """With the port."""
    verify: bool = True
    """False: the certificate is not checked (an insecure registry)."""
    mirror: bool = False

    @property
    def base(self) -> str:
        """``https://host:port``."""
        return f"{self.scheme}://{self.host}"


def hostname(host: str) -> str:
    """``host`` without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _in_block(host: str, block: str) -> bool:
    try:
        return ipaddress.ip_address(hostname(host)) in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """True for localhost and loopback address literals.

    Names are not looked up: whoever answers DNS must not decide that a
    registry may be spoken to without TLS.
    """
    name = hostname(host)
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_insecure(host: str, settings: RegistrySettings) -> bool:
    """True when ``host`` may be reached by plain HTTP or with an unchecked certificate."""
    return is_loopback(host) or any(
        host == entry or hostname(host) == entry or _in_block(host, entry)
        for entry in settings.insecure
    )


def _of_host(host: str, settings: RegistrySettings, *, mirror: bool = False) -> list[Endpoint]:
    if not is_insecure(host, settings):
        return [Endpoint("https", host, mirror=mirror)]
    return [
        Endpoint("https", host, verify=False, mirror=mirror),
        Endpoint("http", host, verify=False, mirror=mirror),
    ]


def endpoints(domain: str, settings: RegistrySettings, *, push: bool = False) -> list[Endpoint]:
    """Where to try ``domain``, in order; mirrors only serve pulls from docker.io."""
    if domain != DEFAULT_DOMAIN:
        return _of_host(domain, settings)
    found: list[Endpoint] = []
    for mirror in () if push else settings.mirrors:
        scheme, separator, rest = mirror.rstrip("/").partition("://")
        if not separator or scheme not in ("http", "https") or not rest or "/" in rest:
            raise InvalidInput(
                f"invalid mirror '{mirror}': it must be http(s)://HOST[:PORT]",
                hint="mend registry-mirrors in daemon.json",
            )
        if scheme == "http":
            found.append(Endpoint("http", rest, verify=False, mirror=True))
        else:
            verify = not is_insecure(rest, settings)
            found.append(Endpoint("https", rest, verify=verify, mirror=True))
    return [*found, *_of_host(HUB_HOST, settings)]


def tls_context(host: str, settings: RegistrySettings, *, verify: bool) -> ssl.SSLContext:
    """The TLS settings for ``host``: system CAs, plus certs.d/HOST as Docker reads it.

    ``*.crt`` are CAs, ``X.cert`` with ``X.key`` a client certificate.
    """
    context = ssl.create_default_context()
    for directory in settings.certificate_dirs:
        folder = directory.expanduser() / host
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir()):
            try:
                if file.suffix == ".crt":
                    context.load_verify_locations(cafile=file)
                elif file.suffix == ".cert":
                    context.load_cert_chain(file, file.with_suffix(".key"))
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(
                    f"cannot use certificate {file}: {error}",
                    hint="it must be PEM; a .cert needs its .key beside it",
                ) from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
