"""The composition root: from a configuration to an engine."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rootless import __version__
from rootless.api.call import ApiConfig
from rootless.api.versions import MIN_API_VERSION
from rootless.daemon.activation import group_id
from rootless.daemon.config import DaemonConfig
from rootless.daemon.hosts import UnixHost, parse
from rootless.daemon.identity import engine_key
from rootless.engine.decisions import DecisionLog
from rootless.engine.engine import LocalEngine
from rootless.engine.gate import Gate
from rootless.engine.resolve import default_seccomp_profile
from rootless.engine.resolve_labels import SelinuxHost, check_types
from rootless.engine.resolve_limits import check_cgroup_parent
from rootless.engine.settings import EngineSettings
from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import nftables, probe, selinux
from rootless.model.facts import HostFacts
from rootless.model.request import HostConfig
from rootless.network import slirp
from rootless.network.driver import NetworkDriver
from rootless.policy.load import PolicyFiles, PolicyStore
from rootless.policy.paths import EnginePaths
from rootless.seccomp.profile import parse_profile
from rootless.storage import drivers

if TYPE_CHECKING:
    from rootless.pki.online import OnlineAuthority


def settings_of(config: DaemonConfig) -> EngineSettings:
    """The engine's part of the configuration."""
    return EngineSettings(
        data_root=Path(config.data_root),
        exec_root=Path(config.exec_root),
        storage_driver=config.storage_driver,
        default_network=_default_network(config),
        bridge=config.bridge != "none",
        default_bridge=config.default_bridge,
        mtu=min(config.mtu, slirp.MTU),
        default_userns=config.userns,
        default_ipc=config.default_ipc_mode,
        default_cgroupns=config.default_cgroupns_mode,
        stop_timeout=config.default_stop_timeout,
        address_pools=config.default_address_pools,
        publish_address=config.ip,
        ipv6=config.ipv6,
        shm_size=config.default_shm_size,
        ulimits=config.default_ulimits,
        dns=config.dns,
        dns_options=config.dns_opts,
        dns_search=config.dns_search,
        host_gateways=config.host_gateway_ips,
        init=config.init,
        init_path=config.init_path,
        cgroup_parent=config.cgroup_parent,
        no_new_privileges=config.no_new_privileges,
        log_driver=config.log_driver,
        log_options=config.log_opts,
        selinux_enabled=config.selinux_enabled,
        seccomp_profile=config.seccomp_profile,
        policies=tuple(Path(path) for path in config.policy),
        insecure_registries=config.insecure_registries,
        registry_mirrors=config.registry_mirrors,
        proxies=config.proxies,
        max_concurrent_downloads=config.max_concurrent_downloads,
        max_concurrent_uploads=config.max_concurrent_uploads,
        max_download_attempts=config.max_download_attempts,
        max_layer_size=config.max_layer_size,
        max_layer_ratio=config.max_layer_ratio,
        labels=config.labels,
        live_restore=config.live_restore,
        experimental=config.experimental,
        debug=config.debug,
    )


def _default_network(config: DaemonConfig) -> str:
    if config.bridge == "none":
        return "none"
    if config.default_network:
        return config.default_network
    return "bridge" if nftables.is_installed() else "slirp4netns"


def api_config(config: DaemonConfig, facts: HostFacts) -> ApiConfig:
    """The API's part of the configuration."""
    return ApiConfig(
        server=f"Rootless/{__version__} (linux)",
        storage_driver=drivers.choose(facts, config.storage_driver).name,
        experimental=config.experimental,
        min_version=config.min_api_version or MIN_API_VERSION,
        group=group_id(config.group),
    )


def build_gate(
    config: DaemonConfig, facts: HostFacts, home: str, log: DecisionLog | None = None
) -> Gate:
    """The policy of the administrator, the user and daemon.json; a wrong file is an error now."""
    config_dir = Path(config.config_file).parent
    store = PolicyStore(
        PolicyFiles(user=config_dir / "policy.yaml", extra=tuple(Path(p) for p in config.policy)),
        home=home,
    )
    store.current()
    paths = EnginePaths(
        data_root=Path(config.data_root),
        exec_root=Path(config.exec_root),
        config_dir=config_dir,
        sockets=tuple(
            Path(host.path)
            for host in map(parse, config.hosts)
            if isinstance(host, UnixHost) and host.path
        ),
        keys=tuple(
            Path(path)
            for path in (
                config.deprecated_key_path,
                *((config.tlskey,) if config.uses_tls else ()),
                *((config.pki_dir,) if config.pki_dir else ()),
            )
        ),
    )
    return Gate(store, facts, paths, log)


def check_host(config: DaemonConfig, facts: HostFacts) -> None:
    """Refuse now what would fail at each container: a driver, a cgroup, an init, a profile."""
    drivers.choose(facts, config.storage_driver)
    if config.cgroup_parent:
        check_cgroup_parent(HostConfig(cgroup_parent=config.cgroup_parent), facts)
    if config.init_path and not os.access(config.init_path, os.X_OK):
        raise InvalidInput(
            f"init-path {config.init_path} is not a program", hint="sudo apt-get install tini"
        )
    if config.init_path and not probe.is_static(config.init_path):
        raise InvalidInput(
            f"init-path {config.init_path} needs libraries, which images may lack",
            hint="give one that is statically linked: tini-static or catatonit",
        )
    _check_own_limits(config)
    if config.selinux_enabled:
        _check_selinux(facts)
    if config.seccomp_profile:
        parse_profile(default_seccomp_profile(config.seccomp_profile))


def _check_selinux(facts: HostFacts) -> None:
    if not facts.selinux:
        raise HostUnsupported(
            "selinux-enabled cannot be true here: this host does not run SELinux",
            hint="leave it out, or enable SELinux; what this host has: rootless doctor",
        )
    check_types(SelinuxHost(selinux.own_label(), selinux.is_valid))


def _check_own_limits(config: DaemonConfig) -> None:
    """No container can have more than the daemon may give (setrlimit(2))."""
    for limit in config.default_ulimits:
        # "locks" is 10 (asm-generic/resource.h), which the module has no name for.
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", 10)
        _, mine = resource.getrlimit(number)
        if mine != resource.RLIM_INFINITY and not 0 <= limit.hard <= mine:
            raise InvalidInput(
                f"default-ulimits.{limit.name}: hard {limit.hard} is above your own, {mine}",
                hint="raise the user's limit in limits.conf(5), or that of the systemd unit",
            )


def build_engine(
    config: DaemonConfig, home: str, authority: OnlineAuthority | None = None
) -> LocalEngine:
    """An engine that is not started yet; raises HostUnsupported naming what the host lacks."""
    facts = probe.probe()
    check_host(config, facts)
    key = engine_key(Path(config.deprecated_key_path))
    settings = replace(settings_of(config), engine_id=key.id)
    if config.init_path:
        facts = replace(facts, init_binary=config.init_path)
    return LocalEngine(
        settings,
        facts,
        build_gate(config, facts, home, DecisionLog(Path(config.data_root) / "audit", key.path)),
        NetworkDriver(
            config.exec_root, data_root=config.data_root, default_ip=config.ip, mtu=config.mtu
        ),
        authority,
    )
