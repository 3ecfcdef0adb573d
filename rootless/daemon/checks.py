"""Values of the configuration that would only fail later, container by container."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from rootless.api.versions import API_VERSION, MIN_API_VERSION, parse_version
from rootless.cli.nearest import nearest
from rootless.engine import logdrivers
from rootless.errors import InvalidInput
from rootless.model.pools import AddressPool, DefaultBridge
from rootless.model.request import LogConfig, RlimitRequest

if TYPE_CHECKING:
    from rootless.daemon.config import DaemonConfig

LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_WORDS: dict[str, tuple[str, ...]] = {
    "log-level": LOG_LEVELS,
    "log-format": ("text", "json"),
    "userns": ("shared", "auto"),
    "default-network": ("", "slirp4netns", "bridge", "none", "host"),
    "default-ipc-mode": ("private", "shareable"),
    "default-cgroupns-mode": ("private", "host"),
    "default-runtime": ("", "rootless", "runc", "io.containerd.runc.v2"),
    "storage-driver": ("", "overlay", "overlay2", "fuse-overlayfs", "vfs"),
}
_FEATURES = {
    "buildkit": "this engine does not build images yet",
    "containerd-snapshotter": "this engine uses no containerd",
    "cdi": "devices by CDI are not supported",
}
_LEAST = {
    "max-concurrent-downloads": 1,
    "max-concurrent-uploads": 1,
    "max-download-attempts": 1,
    "max-layer-size": 1,
    "max-layer-ratio": 1,
    "default-shm-size": 1,
    "default-stop-timeout": 0,
    "shutdown-timeout": -1,
    "mtu": 1280,
}
_MTU = 65521
"""slirp4netns takes no larger one."""


def check_words(config: DaemonConfig) -> None:
    """Settings that are one word of a few."""
    for key, known in _WORDS.items():
        value = getattr(config, key.replace("-", "_"))
        if value not in known:
            raise InvalidInput(
                f"{key} {value!r} is unknown", hint=f"one of {', '.join(filter(None, known))}"
            )
    if config.bridge not in ("", "none"):
        raise InvalidInput(
            f"bridge {config.bridge!r} is the host's: only root can join containers to it",
            hint="leave it out, or give none for containers without a network",
        )
    if config.seccomp_profile == "unconfined":
        raise InvalidInput(
            "seccomp-profile unconfined: no container is without a system call filter by default",
            hint="let a policy allow it, and ask for it: --security-opt seccomp=unconfined",
        )
    _check_remap(config.userns_remap)


def _check_remap(text: str) -> None:
    name = text.partition(":")[0]
    mine = {"", "default", str(os.getuid())}
    with contextlib.suppress(KeyError):  # a user without an entry has no name to be given
        mine.add(pwd.getpwuid(os.getuid()).pw_name)
    if name not in mine:
        raise InvalidInput(
            f"userns-remap {text!r}: only your own subordinate ids can be given to containers",
            hint="leave it out: the root of a container is never you",
        )


def check_numbers(config: DaemonConfig) -> None:
    """Numbers with a lowest value."""
    for key, least in _LEAST.items():
        value = getattr(config, key.replace("-", "_"))
        if value < least:
            raise InvalidInput(f"{key} must be at least {least}, not {value}")
    if config.mtu > _MTU:
        raise InvalidInput(f"mtu must be at most {_MTU}, not {config.mtu}")


def check_paths(paths: Mapping[str, str]) -> None:
    """Paths by key: a relative one would depend on where the daemon was started."""
    for key, path in paths.items():
        if "\0" in path:
            raise InvalidInput(f"{key} contains NUL")
        if path and not os.path.isabs(os.path.expanduser(path)):
            raise InvalidInput(f"{key} {path!r} is not an absolute path")


def check_addresses(key: str, addresses: Sequence[str]) -> None:
    """IP addresses of a key."""
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InvalidInput(f"{key}: {address!r} is not an IP address") from None


def check_resolver(search: Sequence[str], options: Sequence[str]) -> None:
    """Domains and options of resolv.conf are words: more would be another line of it."""
    if not (search or options):
        return
    from rootless.network.files import check_word

    for key, words in (("dns-search", search), ("dns-opts", options)):
        for word in words:
            check_word(word, key)


def check_gateways(addresses: Sequence[str]) -> None:
    """``host-gateway-ips``: a hosts file has room for one address of each family."""
    check_addresses("host-gateway-ips", addresses)
    versions = [ipaddress.ip_address(address).version for address in addresses]
    if len(set(versions)) != len(versions):
        raise InvalidInput("host-gateway-ips: only one address of each family is allowed")


def _url(text: str) -> SplitResult | None:
    """The parts of a http or https URL; None for what is none."""
    try:
        parts = urlsplit(text)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is no number
        return None
    return parts if whole and not any(c.isspace() for c in text) else None


def check_mirrors(mirrors: Sequence[str]) -> None:
    """Registry mirrors are URLs without a path, as in Docker."""
    for url in mirrors:
        parts = _url(url)
        if parts is None:
            raise InvalidInput(
                f"registry-mirrors: {url!r} is not a URL", hint="https://mirror.example"
            )
        if parts.username is not None:
            raise InvalidInput(
                f"registry-mirrors: {parts.hostname}: user and password do not belong into the URL",
                hint="rootless login " + (parts.hostname or ""),
            )
        if parts.path.strip("/") or parts.query or parts.fragment:
            raise InvalidInput(
                f"registry-mirrors: {url!r}: a mirror has no path, query or fragment",
                hint=f"{parts.scheme}://{parts.netloc}",
            )


def check_registries(names: Sequence[str]) -> None:
    """Insecure registries are HOST[:PORT] or a CIDR block, never a URL."""
    for name in names:
        if "://" in name:
            raise InvalidInput(
                f"insecure-registries: {name!r} should not contain '://'",
                hint=name.partition("://")[2],
            )
        if "/" in name:
            try:
                ipaddress.ip_network(name, strict=False)
            except ValueError as error:
                raise InvalidInput(f"insecure-registries: {name!r}: {error}") from None
        elif not name or name.startswith("-") or name.endswith("-") or any(map(str.isspace, name)):
            raise InvalidInput(f"insecure-registries: {name!r} is not a registry")


def check_labels(labels: Sequence[str]) -> None:
    """``NAME=VALUE``; one name has one value."""
    found: dict[str, str] = {}
    for label in labels:
        name, mark, value = label.partition("=")
        if not mark or not name:
            raise InvalidInput(f"bad attribute format: {label}", hint="labels are NAME=VALUE")
        if found.setdefault(name, value) != value:
            raise InvalidInput(f"conflict labels for {name}={value} and {name}={found[name]}")


def check_features(features: Sequence[tuple[str, bool]]) -> None:
    """Docker's switches, none of which can be on."""
    for name, on in features:
        if name not in _FEATURES:
            near = nearest(name, _FEATURES)
            raise InvalidInput(
                f"features: {name!r} is unknown",
                hint=f"did you mean {near}?" if near else f"known: {', '.join(sorted(_FEATURES))}",
            )
        if on:
            raise InvalidInput(f"features: {name} cannot be on: {_FEATURES[name]}")


def check_exec_options(options: Sequence[str]) -> None:
    """``native.cgroupdriver=cgroupfs`` is the only one, and what is so."""
    for option in options:
        name, mark, value = (part.strip() for part in option.partition("="))
        if not mark or not name or not value:
            raise InvalidInput(f"invalid exec-opt ({option}): must be formatted 'opt=value'")
        if name.lower() != "native.cgroupdriver":
            raise InvalidInput(f"invalid exec-opt ({option}): unknown option: '{name}'")
        if value != "cgroupfs":
            raise InvalidInput(
                f"invalid exec-opt ({option}): containers' cgroups are made by this engine",
                hint="native.cgroupdriver=cgroupfs",
            )


def check_proxies(proxies: Sequence[tuple[str, str]]) -> None:
    """Proxies are URLs; a message shows no password."""
    for name, value in proxies:
        if name == "no-proxy":
            continue
        if _url(value) is None:
            raise InvalidInput(f"{name} is not a URL", hint="http://proxy.example:3128")


def check_pools(pools: Sequence[AddressPool]) -> None:
    """Pools must not overlap: two networks would get the same addresses."""
    seen: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]] = []
    for pool in pools:
        network = ipaddress.ip_network(pool.base)
        for other, text in seen:
            if other.version == network.version and other.overlaps(network):
                raise InvalidInput(f"default-address-pools: {pool.base} and {text} overlap")
        seen.append((network, pool.base))


def check_bridge(wanted: DefaultBridge) -> None:
    """The ranges of the network ``bridge``: CIDR blocks and addresses within them."""
    from rootless.engine.default_bridge import asked

    for version in (4, 6):
        own, cidr, gateway = wanted.of(version)
        suffix = "" if version == 4 else "6"
        names = (f"bip{suffix}", "fixed-cidr" + ("-v6" if suffix else ""))
        for name, text in zip(names, (own, cidr), strict=True):
            if text and (version != _version(text) or "/" not in text):
                raise InvalidInput(
                    f"{name} {text!r} is no IPv{version} block", hint="ADDRESS/LENGTH"
                )
        if gateway and ("/" in gateway or version != _version(gateway)):
            raise InvalidInput(f"default-gateway {gateway!r} is no IPv{version} address")
        asked(wanted, version)


def _version(text: str) -> int:
    """4 or 6 of an address or block, 0 of what is neither."""
    try:
        return ipaddress.ip_interface(text).version
    except ValueError:
        return 0


def check_ulimits(limits: Sequence[RlimitRequest]) -> None:
    """Known names; soft is at most hard; -1 is unlimited (getrlimit(2))."""
    from rootless.engine.resolve_process import RLIMITS

    for limit in limits:
        if limit.name not in RLIMITS:
            near = nearest(limit.name, RLIMITS)
            raise InvalidInput(
                f"default-ulimits: invalid ulimit type: {limit.name}",
                hint=f"did you mean {near}?" if near else f"one of {', '.join(sorted(RLIMITS))}",
            )
        if min(limit.soft, limit.hard) < -1:
            raise InvalidInput(f"default-ulimits.{limit.name}: a limit cannot be below -1")
        if limit.hard != -1 and (limit.soft == -1 or limit.soft > limit.hard):
            raise InvalidInput(
                f"default-ulimits.{limit.name}: soft {limit.soft} is above hard {limit.hard}"
            )


def check_logging(driver: str, options: Sequence[tuple[str, str]]) -> None:
    """Driver and options of every container's log."""
    try:
        logdrivers.check_defaults(LogConfig(driver, tuple(options)))
    except InvalidInput as error:
        key = "log-driver" if "named" in error.message else "log-opts"
        raise InvalidInput(f"{key}: {error.message}", hint=error.hint) from None


def check_api_version(text: str) -> None:
    """The oldest version served: one of those that are."""
    if not text:
        return
    try:
        parse_version(text)
    except InvalidInput as error:
        raise InvalidInput(
            f"min-api-version {text!r}: {error.message}",
            hint=f"a number from {MIN_API_VERSION} to {API_VERSION}",
        ) from None
