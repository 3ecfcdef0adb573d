"""``rootlessd --validate``: what a configuration names, looked at without changing anything."""

from __future__ import annotations

import os
from pathlib import Path

from rootless.daemon import activation, hosts
from rootless.daemon.certificates import authority_of, load, tls_files
from rootless.daemon.compose import build_gate, check_host
from rootless.daemon.config import DaemonConfig
from rootless.errors import RootlessError
from rootless.linux import probe


def check_files(config: DaemonConfig, home: str) -> None:
    """Files, groups, policies, and whether this host can do what is asked; raises as a start would.

    Addresses are not bound, and no directory is made.
    """
    for path in (config.data_root, config.exec_root):
        _check_can_be_made(Path(path))
    activation.group_id(config.group)
    remote = [h for text in config.hosts if isinstance(h := hosts.parse(text), hosts.TcpHost)]
    activation.require_tls(config, [str(host) for host in remote])
    if config.uses_tls:
        load(tls_files(config))
        authority_of(config, dict(os.environ))
    facts = probe.probe()
    check_host(config, facts)
    build_gate(config, facts, home)


def _check_can_be_made(path: Path) -> None:
    """Refuse a directory that a start could neither use nor make."""
    found = next(parent for parent in (path, *path.parents) if parent.exists())
    if not found.is_dir() or not os.access(found, os.W_OK | os.X_OK):
        why = "not writable" if found.is_dir() else "not a directory"
        raise RootlessError(
            f"cannot make {path}: {found} is {why}",
            hint="choose another --data-root or --exec-root",
        )
