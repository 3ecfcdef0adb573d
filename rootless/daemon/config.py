"""The daemon's configuration: one frozen value, checked as a whole, with every path filled in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from rootless.daemon import checks, hosts
from rootless.daemon.lifecycle import private_directory
from rootless.errors import InvalidInput
from rootless.model.pools import AddressPool, DefaultBridge
from rootless.model.request import RlimitRequest


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """Everything configurable; the keys of daemon.json with underscores, see ``options.py``.

    '' leaves the choice to the engine. Paths are absolute; sizes in bytes; times in seconds.
    """

    config_file: str = ""
    hosts: tuple[str, ...] = ()
    group: str = ""
    tls: bool | None = None
    tlsverify: bool | None = None
    tlscacert: str = ""
    tlscert: str = ""
    tlskey: str = ""
    tlscrl: str = ""
    pki_dir: str = ""
    min_api_version: str = ""
    experimental: bool = False
    data_root: str = ""
    exec_root: str = ""
    pidfile: str = ""
    deprecated_key_path: str = ""
    policy: tuple[str, ...] = ()
    userns: str = "shared"
    userns_remap: str = ""
    init: bool = False
    init_path: str = ""
    seccomp_profile: str = ""
    selinux_enabled: bool = False
    no_new_privileges: bool = True
    cgroup_parent: str = ""
    default_ulimits: tuple[RlimitRequest, ...] = ()
    default_shm_size: int = 64 << 20
    default_ipc_mode: str = "private"
    default_cgroupns_mode: str = "private"
    default_runtime: str = "rootless"
    exec_opts: tuple[str, ...] = ()
    default_stop_timeout: int = 10
    log_driver: str = "json-file"
    log_opts: tuple[tuple[str, str], ...] = ()
    shutdown_timeout: int = 15
    live_restore: bool = True
    default_network: str = ""
    bridge: str = ""
    icc: bool = False
    bip: str = ""
    bip6: str = ""
    fixed_cidr: str = ""
    fixed_cidr_v6: str = ""
    default_gateway: str = ""
    default_gateway_v6: str = ""
    ip: str = "127.0.0.1"
    ipv6: bool = True
    mtu: int = 65520
    dns: tuple[str, ...] = ()
    dns_opts: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateway_ips: tuple[str, ...] = ()
    default_address_pools: tuple[AddressPool, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    allow_nondistributable_artifacts: tuple[str, ...] = ()
    max_layer_size: int = 64 << 30
    max_layer_ratio: int = 300
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    storage_driver: str = ""
    debug: bool = False
    log_level: str = "info"
    log_format: str = "text"
    labels: tuple[str, ...] = ()
    features: tuple[tuple[str, bool], ...] = ()

    @property
    def proxies(self) -> tuple[tuple[str, str], ...]:
        """``http-proxy``, ``https-proxy`` and ``no-proxy`` that are set."""
        return tuple(
            (name, value)
            for name, value in (
                ("http-proxy", self.http_proxy),
                ("https-proxy", self.https_proxy),
                ("no-proxy", self.no_proxy),
            )
            if value
        )

    @property
    def default_bridge(self) -> DefaultBridge:
        """What is said of the network ``bridge``."""
        return DefaultBridge(
            **{field.name: getattr(self, field.name) for field in fields(DefaultBridge)}
        )

    @property
    def uses_tls(self) -> bool:
        """Whether clients come in by TLS, which here means with a certificate of their own."""
        return bool(self.tls or self.tlsverify)


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
    for name, directory in (("XDG_DATA_HOME", data), ("XDG_RUNTIME_DIR", Path(runtime))):
        if not directory.is_absolute():
            raise InvalidInput(
                f"{name} is {str(directory)!r}, which is not an absolute path",
                hint=f"export {name} with an absolute path, or unset it",
            )
    return data / "rootless", Path(runtime) / "rootless"


def check_config(config: DaemonConfig) -> DaemonConfig:
    """Refuse values nothing could work with; returns the configuration, overlay2 as overlay."""
    if config.seccomp_profile == "builtin":  # Docker's word for its own
        config = replace(config, seccomp_profile="")
    checks.check_words(config)
    checks.check_numbers(config)
    checks.check_logging(config.log_driver, config.log_opts)
    checks.check_addresses("dns", config.dns)
    checks.check_addresses("ip", (config.ip,))
    checks.check_resolver(config.dns_search, config.dns_opts)
    checks.check_gateways(config.host_gateway_ips)
    checks.check_mirrors(config.registry_mirrors)
    checks.check_registries(config.insecure_registries)
    checks.check_ulimits(config.default_ulimits)
    checks.check_labels(config.labels)
    checks.check_features(config.features)
    checks.check_exec_options(config.exec_opts)
    checks.check_proxies(config.proxies)
    checks.check_api_version(config.min_api_version)
    checks.check_pools(config.default_address_pools)
    checks.check_bridge(config.default_bridge)
    checks.check_paths(
        {
            name: getattr(config, name.replace("-", "_"))
            for name in (
                "data-root", "exec-root", "pidfile", "init-path", "seccomp-profile",
                "tlscacert", "tlscert", "tlskey", "tlscrl", "pki-dir",
                "deprecated-key-path",
            )
        }
    )  # fmt: skip
    if config.bridge and config.default_network:
        raise InvalidInput("bridge and default-network contradict each other", hint="give one")
    if config.pki_dir and not config.uses_tls:
        raise InvalidInput(
            "pki-dir renews certificates of clients that come over TLS, and nobody does",
            hint="give --tlsverify and --host tcp://ADDRESS, or leave pki-dir out",
        )
    for host in config.hosts:
        hosts.parse(host)
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
    directory = os.path.dirname(config.config_file)

    def path(given: str, default: str) -> str:
        return os.path.abspath(os.path.expanduser(given or default))

    authorities = path(config.tlscacert, f"{directory}/tls/ca.pem")
    return replace(
        config,
        data_root=data,
        exec_root=exec_root,
        pidfile=path(config.pidfile, f"{exec_root}/rootlessd.pid"),
        tlscacert=authorities,
        tlscert=path(config.tlscert, f"{directory}/tls/cert.pem"),
        tlskey=path(config.tlskey, f"{directory}/tls/key.pem"),
        tlscrl=path(config.tlscrl, f"{os.path.dirname(authorities)}/crl.pem"),
        pki_dir=path(config.pki_dir, "") if config.pki_dir else "",
        deprecated_key_path=path(config.deprecated_key_path, f"{directory}/key.json"),
    )
