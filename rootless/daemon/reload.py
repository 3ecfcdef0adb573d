"""SIGHUP: which settings a running daemon takes, and how its ``reload`` event tells of them."""

from __future__ import annotations

import json
from dataclasses import fields, replace

from rootless.daemon.config import DaemonConfig
from rootless.daemon.options import OPTIONS

_FIELDS = frozenset(option.field for option in OPTIONS if option.reload)


def reloaded(running: DaemonConfig, new: DaemonConfig) -> tuple[DaemonConfig, tuple[str, ...]]:
    """The configuration from now on, and the keys that changed but need a restart."""
    taken = replace(running, **{name: getattr(new, name) for name in _FIELDS})
    ignored = tuple(
        f.name.replace("_", "-")
        for f in fields(DaemonConfig)
        if f.name not in _FIELDS and getattr(new, f.name) != getattr(running, f.name)
    )
    return taken, ignored


def attributes(config: DaemonConfig) -> dict[str, str]:
    """The attributes of Docker's ``daemon reload`` event."""
    features = " ".join(f"{name}:{_go(on)}" for name, on in sorted(config.features))
    return {
        "debug": _go(config.debug),
        "default-cgroupns-mode": config.default_cgroupns_mode,
        "default-ipc-mode": config.default_ipc_mode,
        "default-runtime": "rootless",
        "default-shm-size": str(config.default_shm_size),
        "default-stop-timeout": str(config.default_stop_timeout),
        "features": f"map[{features}]",
        "insecure-registries": _json(config.insecure_registries),
        "labels": _json(config.labels),
        "live-restore": _go(config.live_restore),
        "max-concurrent-downloads": str(config.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.max_concurrent_uploads),
        "max-download-attempts": str(config.max_download_attempts),
        "registry-mirrors": _json(config.registry_mirrors),
        "runtimes": "rootless:rootless-oci",
        "shutdown-timeout": str(config.shutdown_timeout),
    }


def _go(value: bool) -> str:  # noqa: FBT001 - a value to write
    return "true" if value else "false"


def _json(values: tuple[str, ...]) -> str:
    return json.dumps(list(values), separators=(",", ":"))
