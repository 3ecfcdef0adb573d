"""daemon.json and the command line of ``rootlessd``: one frozen configuration.

The keys are Docker's where Docker has one. An unknown key is an error: a
misspelt protection must not be silently absent.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from rootless.daemon import checks
from rootless.daemon.lifecycle import private_directory
from rootless.errors import InvalidInput
from rootless.model.request import RlimitRequest
from rootless.units import parse_size

LOG_LEVELS = ("debug", "info", "warn", "error")


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Everything configurable. Paths are absolute; sizes in bytes."""

    data_root: str = ""
    exec_root: str = ""
    config_file: str = ""
    hosts: tuple[str, ...] = ()
    pidfile: str = ""
    storage_driver: str = ""
    """'' chooses the best this host has."""
    storage_opts: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    log_driver: str = "json-file"
    log_opts: tuple[tuple[str, str], ...] = ()
    log_level: str = "info"
    debug: bool = False
    default_ulimits: tuple[RlimitRequest, ...] = ()
    default_shm_size: int = 64 << 20
    default_network: str = ""
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ip: str = ""
    """The address that ``--add-host NAME:host-gateway`` stands for; '' refuses it."""
    ip: str = "127.0.0.1"
    """Address that published ports bind to when none is given."""
    ipv6: bool = True
    userns: str = "shared"
    """Default user namespace mode: shared or auto."""
    init: bool = False
    init_path: str = ""
    cgroup_parent: str = ""
    seccomp_profile: str = ""
    """Path of the default profile; '' is the built-in one."""
    no_new_privileges: bool = True
    policy: tuple[str, ...] = ()
    """Policy files beside the built-in one."""
    labels: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    max_layer_size: int = 64 << 30
    """Bytes a layer may unpack to."""
    max_layer_ratio: int = 300
    """Unpacked bytes per compressed byte, above which a large layer is refused."""
    shutdown_timeout: int = 15
    live_restore: bool = True
    proxies: tuple[tuple[str, str], ...] = ()
    """http-proxy, https-proxy, no-proxy for pulls."""
    allow_root: bool = False


_KIND = {
    "data-root": str, "exec-root": str, "pidfile": str, "storage-driver": str, "log-driver": str,
    "log-level": str, "default-network": str, "ip": str, "host-gateway-ip": str, "userns": str,
    "init-path": str,
    "cgroup-parent": str, "seccomp-profile": str,
    "debug": bool, "ipv6": bool, "init": bool, "no-new-privileges": bool, "live-restore": bool,
    "max-concurrent-downloads": int, "max-concurrent-uploads": int, "max-download-attempts": int,
    "shutdown-timeout": int, "max-layer-ratio": int,
    "hosts": list, "storage-opts": list, "insecure-registries": list, "registry-mirrors": list,
    "dns": list, "dns-opts": list, "dns-search": list, "labels": list, "policy": list,
    "log-opts": dict, "proxies": dict, "default-ulimits": dict,
}  # fmt: skip
_SIZES = ("default-shm-size", "max-layer-size")
_RELOADABLE = (
    "debug", "log_level", "labels", "insecure_registries", "registry_mirrors",
    "max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts",
    "shutdown_timeout", "live_restore",
)  # fmt: skip
_KIND_NAME = {
    str: "a string", bool: "true or false", int: "a number", list: "a list of strings",
    dict: "an object",
}  # fmt: skip


def default_paths(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """(data root, run-time directory) by the XDG base directory rules.

    Without XDG_RUNTIME_DIR it is /run/user/UID, and where that is missing
    /tmp/rootless-UID, which the command line knows as well; the daemon refuses
    one that is not the user's own.
    """
    home = Path(environ.get("HOME") or os.path.expanduser("~"))
    data = Path(environ.get("XDG_DATA_HOME") or home / ".local/share")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if not runtime:
        uid = os.getuid()
        runtime = f"/run/user/{uid}"
        if not os.access(runtime, os.W_OK):
            runtime = f"/tmp/rootless-{uid}"
            private_directory(Path(runtime))
    return data / "rootless", Path(runtime) / "rootless"


def load_config(path: Path, *, required: bool) -> DaemonConfig:
    """The configuration of one daemon.json; defaults when it is absent and not required."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise InvalidInput(f"no such configuration file: {path}") from None
        return DaemonConfig(config_file=str(path))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
    return replace(parse_config(text, str(path)), config_file=str(path))


def parse_config(text: str, origin: str = "daemon.json") -> DaemonConfig:
    """Check and convert the JSON text of a daemon.json."""
    try:
        body = json.loads(text or "{}", object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{origin}:{error.lineno}:{error.colno}: {error.msg}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{origin}: {error.message}", hint=error.hint) from error
    if not isinstance(body, dict):
        raise InvalidInput(f"{origin}: must be a JSON object")
    values: dict[str, object] = {}
    for key, value in body.items():
        values[key.replace("-", "_")] = _convert(key, value, origin)
    try:
        return check_config(DaemonConfig(**values))  # type: ignore[arg-type]
    except InvalidInput as error:
        raise InvalidInput(f"{origin}: {error.message}", hint=error.hint) from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInput(f"key {key!r} is given twice")
        found[key] = value
    return found


def _convert(key: str, value: object, origin: str) -> object:
    if key in _SIZES:
        return _size(key, value, origin)
    kind = _KIND.get(key)
    if kind is None:
        known = sorted((*_KIND, *_SIZES))
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
        raise InvalidInput(
            f"{origin}: unknown key {key!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}",
        )
    right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if kind is list:
        right = right and all(isinstance(v, str) for v in value)  # type: ignore[attr-defined]
    if not right:
        raise InvalidInput(f"{origin}: {key} must be {_KIND_NAME[kind]}, not {json.dumps(value)}")
    if key == "default-ulimits":
        return _ulimits(value, origin)
    if kind is dict:
        return tuple((str(k), str(v)) for k, v in value.items())  # type: ignore[attr-defined]
    return tuple(value) if kind is list else value  # type: ignore[arg-type]


def _size(key: str, value: object, origin: str) -> int:
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        return parse_size(value if isinstance(value, str) else "")
    except InvalidInput:
        raise InvalidInput(
            f"{origin}: {key} must be a size, not {json.dumps(value)}",
            hint="bytes, or text such as 64m",
        ) from None


def _ulimits(value: object, origin: str) -> tuple[RlimitRequest, ...]:
    """Docker's form: ``{"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}``."""
    assert isinstance(value, dict)
    limits = []
    for name, body in value.items():
        if not isinstance(body, dict) or not {"Soft", "Hard"} <= body.keys():
            raise InvalidInput(f"{origin}: default-ulimits.{name} needs Soft and Hard")
        for word in ("Soft", "Hard"):
            if not isinstance(body[word], int) or isinstance(body[word], bool):
                raise InvalidInput(f"{origin}: default-ulimits.{name}.{word} must be a number")
        limits.append(RlimitRequest(name, int(body["Soft"]), int(body["Hard"])))
    return tuple(limits)


def check_config(config: DaemonConfig) -> DaemonConfig:
    """Refuse values nothing could work with; returns the configuration."""
    if config.log_level not in LOG_LEVELS:
        raise InvalidInput(
            f"log-level {config.log_level!r} is unknown", hint=f"one of {', '.join(LOG_LEVELS)}"
        )
    if config.userns not in ("shared", "auto"):
        raise InvalidInput(f"userns {config.userns!r} is unknown", hint="shared or auto")
    checks.check_logging(config.log_driver, config.log_opts)
    checks.check_network(config.default_network)
    checks.check_addresses("dns", config.dns)
    checks.check_addresses("ip", (config.ip,))
    checks.check_addresses("host-gateway-ip", tuple(filter(None, (config.host_gateway_ip,))))
    checks.check_mirrors(config.registry_mirrors)
    checks.check_ulimits(config.default_ulimits)
    checks.check_paths(
        {
            "data-root": config.data_root,
            "exec-root": config.exec_root,
            "pidfile": config.pidfile,
            "init-path": config.init_path,
        }
    )
    if config.storage_driver not in ("", "overlay", "overlay2", "fuse-overlayfs", "vfs"):
        raise InvalidInput(
            f"storage-driver {config.storage_driver!r} is unknown",
            hint="overlay, fuse-overlayfs or vfs",
        )
    for host in config.hosts:
        scheme, separator, rest = host.partition("://")
        if not separator or scheme not in ("unix", "fd") or (scheme == "unix" and not rest):
            raise InvalidInput(
                f"host {host!r} is not supported", hint="unix:///absolute/path or fd://"
            )
    for name in (
        "max_concurrent_downloads", "max_concurrent_uploads", "max_download_attempts",
        "max_layer_size", "max_layer_ratio",
    ):  # fmt: skip
        if getattr(config, name) < 1:
            raise InvalidInput(f"{name.replace('_', '-')} must be at least 1")
    if config.storage_driver == "overlay2":
        return replace(config, storage_driver="overlay")
    return config


def complete(config: DaemonConfig, environ: Mapping[str, str]) -> DaemonConfig:
    """Fill in the paths and the default socket."""
    data = exec_root = ""
    if not (config.data_root and config.exec_root):
        data_path, exec_path = default_paths(environ)
        data, exec_root = str(data_path), str(exec_path)
    data = os.path.abspath(os.path.expanduser(config.data_root or data))
    exec_root = os.path.abspath(os.path.expanduser(config.exec_root or exec_root))
    hosts = config.hosts or (f"unix://{exec_root}/rootless.sock",)
    pidfile = config.pidfile or f"{exec_root}/rootlessd.pid"
    return replace(config, data_root=data, exec_root=exec_root, hosts=hosts, pidfile=pidfile)


def reloaded(running: DaemonConfig, new: DaemonConfig) -> tuple[DaemonConfig, tuple[str, ...]]:
    """The configuration after SIGHUP, and the keys that changed but need a restart."""
    taken = replace(running, **{name: getattr(new, name) for name in _RELOADABLE})
    ignored = tuple(
        f.name.replace("_", "-")
        for f in fields(DaemonConfig)
        if f.name not in _RELOADABLE and getattr(new, f.name) != getattr(running, f.name)
    )
    return taken, ignored
