"""``rootlessd --validate``: what a configuration names, looked at without changing anything."""

from __future__ import annotations

from rootless.daemon import activation, hosts
from rootless.daemon.certificates import load, tls_files
from rootless.daemon.compose import build_gate, check_host
from rootless.daemon.config import DaemonConfig
from rootless.linux import probe


def check_files(config: DaemonConfig, home: str) -> None:
    """Files, groups, policies, and whether this host can do what is asked; raises as a start would.

    Addresses are not bound, and no directory is made.
    """
    activation.group_id(config.group)
    remote = [h for text in config.hosts if isinstance(h := hosts.parse(text), hosts.TcpHost)]
    activation.require_tls(config, [str(host) for host in remote])
    if config.uses_tls:
        load(tls_files(config))
    facts = probe.probe()
    check_host(config, facts)
    build_gate(config, facts, home)
