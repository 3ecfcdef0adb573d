"""``rootlessd``: command line and process set-up."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import rootless
from rootless.daemon import activation, lifecycle
from rootless.daemon.config import (
    LOG_LEVELS,
    DaemonConfig,
    check_config,
    complete,
    load_config,
)
from rootless.daemon.logging import set_up
from rootless.errors import RootlessError

EXIT_FAILURE = 1

_DESCRIPTION = """\
The daemon of the rootless container engine. It serves Docker's Engine API on a
Unix socket and needs no privileges of its own. Running containers survive its
end and are found again when it starts (live restore).

Settings come from daemon.json ($XDG_CONFIG_HOME/rootless/daemon.json); options
given here win over it. Usually nothing needs to be started by hand: the command
line starts the daemon on demand, and `rootless system service install` makes it
a systemd user service with socket activation.
"""
_EPILOG = """\
signals:  SIGTERM, SIGINT  stop; containers go on
          SIGHUP           read daemon.json again (debug, log-level, labels,
                           registries, limits of transfers)
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="rootlessd",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add(
        "-H", "--host", action="append", metavar="unix://PATH",
        help="socket to listen on; may be repeated (default: "
        "unix://$XDG_RUNTIME_DIR/rootless/rootless.sock)",
    )  # fmt: skip
    add("--config", "--config-file", metavar="FILE", help="another daemon.json")
    add("--data-root", metavar="DIR", help="images, containers, volumes and state")
    add("--exec-root", metavar="DIR", help="sockets and pid files")
    add("-p", "--pidfile", metavar="FILE", help="where the process id is written")
    add(
        "-s", "--storage-driver", metavar="NAME",
        help="overlay, fuse-overlayfs or vfs (default: the best this host has)",
    )  # fmt: skip
    add("--userns", choices=("shared", "auto"), help="default user namespace mode")
    add("--insecure-registry", action="append", metavar="HOST", help="registry without TLS")
    add("--registry-mirror", action="append", metavar="URL", help="mirror of Docker Hub")
    add("--seccomp-profile", metavar="FILE", help="default seccomp profile")
    add("--policy", action="append", metavar="FILE", help="a further policy; may be repeated")
    add("--ip", metavar="ADDRESS", help="address published ports bind to (default: 127.0.0.1)")
    add("--init", action="store_true", default=None, help="run an init in every container")
    add("-l", "--log-level", choices=LOG_LEVELS, help="default: info")
    add("-D", "--debug", action="store_true", default=None, help="log everything")
    add("--validate", action="store_true", help="check the configuration and end")
    add("--allow-root", action="store_true", help="run although you are root (dangerous)")
    add("-v", "--version", action="version", version=f"rootlessd {rootless.__version__}")
    return made


def configure(arguments: argparse.Namespace) -> DaemonConfig:
    """daemon.json with the options over it, complete."""
    if arguments.config:
        file, required = Path(os.path.abspath(arguments.config)), True
    else:
        home = os.environ.get("HOME", "/")
        base = Path(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config")
        file, required = base / "rootless/daemon.json", False
    config = load_config(file, required=required)
    given = {
        "hosts": arguments.host,
        "data_root": arguments.data_root,
        "exec_root": arguments.exec_root,
        "pidfile": arguments.pidfile,
        "storage_driver": arguments.storage_driver,
        "userns": arguments.userns,
        "insecure_registries": arguments.insecure_registry,
        "registry_mirrors": arguments.registry_mirror,
        "seccomp_profile": arguments.seccomp_profile,
        "policy": arguments.policy,
        "ip": arguments.ip,
        "init": arguments.init,
        "log_level": arguments.log_level,
        "debug": arguments.debug,
    }
    changes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in given.items()
        if value is not None
    }
    config = replace(config, **changes, allow_root=arguments.allow_root)
    return complete(check_config(config), os.environ)


def serve(config: DaemonConfig) -> None:
    """Lock, listen, then load what is heavy and run."""
    lifecycle.refuse_root(allow_root=config.allow_root)
    data_root, exec_root = Path(config.data_root), Path(config.exec_root)
    for directory in (data_root, exec_root):
        lifecycle.private_directory(directory)
    locks = [
        lifecycle.Lock(data_root / "daemon.lock", what=f"the data root {data_root}"),
        lifecycle.Lock(Path(config.pidfile), what=f"the pid file {config.pidfile}"),
    ]
    # Each followed log, attached client and shim connection is a descriptor.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))
    os.umask(0o077)
    listening = activation.listen(config.hosts, os.environ)

    import asyncio

    from rootless.daemon.server import Daemon

    async def run() -> None:
        await Daemon(config, [one.socket for one in listening]).run()

    try:
        asyncio.run(run())
    finally:
        for one in listening:
            one.withdraw()
    for lock in locks:
        lock.release()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, 1 after an error that was told on standard error."""
    # The C parser of aiohttp loses what a client sends right behind an Upgrade.
    os.environ.setdefault("AIOHTTP_NO_EXTENSIONS", "1")
    options = parser().parse_args(arguments)
    try:
        config = configure(options)
        set_up(config.log_level, debug=config.debug)
        if options.validate:
            sys.stdout.write("configuration OK\n")
            return 0
        serve(config)
    except RootlessError as error:
        sys.stderr.write(f"rootlessd: {error}\n")
        raise SystemExit(EXIT_FAILURE) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
