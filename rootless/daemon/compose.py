"""The composition root: from a configuration to an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rootless.daemon.config import DaemonConfig
from rootless.engine.engine import LocalEngine
from rootless.engine.gate import Gate
from rootless.engine.settings import EngineSettings
from rootless.linux import probe
from rootless.model.facts import HostFacts
from rootless.network.driver import NetworkDriver
from rootless.policy.load import PolicyFiles, PolicyStore
from rootless.policy.paths import EnginePaths
from rootless.storage import drivers


def settings_of(config: DaemonConfig) -> EngineSettings:
    """The engine's part of the configuration."""
    return EngineSettings(
        data_root=Path(config.data_root),
        exec_root=Path(config.exec_root),
        storage_driver=config.storage_driver,
        default_network=config.default_network or "slirp4netns",
        default_userns=config.userns,
        publish_address=config.ip,
        ipv6=config.ipv6,
        shm_size=config.default_shm_size,
        ulimits=config.default_ulimits,
        dns=config.dns,
        dns_options=config.dns_opts,
        dns_search=config.dns_search,
        host_gateway=config.host_gateway_ip,
        init=config.init,
        init_path=config.init_path,
        cgroup_parent=config.cgroup_parent,
        no_new_privileges=config.no_new_privileges,
        log_driver=config.log_driver,
        log_options=config.log_opts,
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
        debug=config.debug,
    )


def build_gate(config: DaemonConfig, facts: HostFacts, home: str) -> Gate:
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
            Path(host.removeprefix("unix://"))
            for host in config.hosts
            if host.startswith("unix://")
        ),
    )
    return Gate(store, facts, paths)


def build_engine(config: DaemonConfig, home: str) -> LocalEngine:
    """An engine that is not started yet; raises HostUnsupported naming what the host lacks."""
    facts = probe.probe()
    settings = settings_of(config)
    # A driver that cannot work is found now, not at the first container.
    drivers.choose(facts, settings.storage_driver)
    if config.init_path:
        facts = replace(facts, init_binary=config.init_path)
    return LocalEngine(
        settings,
        facts,
        build_gate(config, facts, home),
        NetworkDriver(config.exec_root, default_ip=config.ip),
    )
