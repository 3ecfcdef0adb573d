"""What the daemon's configuration means to the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rootless.model.pools import AddressPool, DefaultBridge
from rootless.model.request import RlimitRequest


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Paths are absolute; sizes in bytes; '' leaves the choice to the engine."""

    data_root: Path
    exec_root: Path
    storage_driver: str = ""
    default_network: str = "bridge"
    bridge: bool = True
    """False: there is no network called bridge (``bridge: none``)."""
    default_bridge: DefaultBridge = DefaultBridge()
    mtu: int = 65520
    """Bytes, of that bridge."""
    default_userns: str = "shared"
    default_ipc: str = "private"
    default_cgroupns: str = "private"
    stop_timeout: int = 10
    """Seconds between the stop signal and SIGKILL."""
    address_pools: tuple[AddressPool, ...] = ()
    publish_address: str = "127.0.0.1"
    ipv6: bool = True
    shm_size: int = 64 << 20
    ulimits: tuple[RlimitRequest, ...] = ()
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    host_gateways: tuple[str, ...] = ()
    """What ``--add-host NAME:host-gateway`` stands for; none refuses it."""
    init: bool = False
    init_path: str = ""
    cgroup_parent: str = ""
    no_new_privileges: bool = True
    log_driver: str = "json-file"
    log_options: tuple[tuple[str, str], ...] = ()
    selinux_enabled: bool = False
    """Containers get SELinux labels unless they ask for none."""
    seccomp_profile: str = ""
    """Path of the default profile; '' for the built-in one."""
    policies: tuple[Path, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    max_layer_size: int = 64 << 30
    """Bytes a layer or image archive may unpack to."""
    max_layer_ratio: int = 300
    """Unpacked bytes per compressed byte, above which a large layer is taken for a bomb."""
    labels: tuple[str, ...] = ()
    debug: bool = False
    live_restore: bool = True
    experimental: bool = False
    engine_id: str = ""
    """This engine's identity: the thumbprint of its key."""

    @property
    def containers_dir(self) -> Path:
        """Where containers' directories are."""
        return self.data_root / "containers"

    @property
    def volumes_dir(self) -> Path:
        """Where volumes are."""
        return self.data_root / "volumes"
