"""``rootlessd``: from the command line to a daemon that serves, and its end."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import rootless
from rootless.daemon import activation, commandline, lifecycle
from rootless.daemon.config import DaemonConfig
from rootless.daemon.logging import set_up
from rootless.daemon.sources import Flags, load
from rootless.errors import RootlessError

EXIT_FAILURE = 1


def serve(config: DaemonConfig, flags: Flags) -> None:
    """Lock, listen, then load what is heavy and run. What was made here goes at the end."""
    data_root, exec_root = Path(config.data_root), Path(config.exec_root)
    with ExitStack() as held:
        for directory in (data_root, exec_root):
            lifecycle.private_directory(directory)
        for path, what in (
            (data_root / "daemon.lock", f"the data root {data_root}"),
            (Path(config.pidfile), f"the pid file {config.pidfile}"),
        ):
            held.callback(lifecycle.Lock(path, what=what).release)
        # Each followed log, attached client and shim connection is a descriptor.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))
        os.umask(0o077)
        certificates = authority = None
        if config.uses_tls:
            from rootless.daemon.certificates import Certificates, authority_of, tls_files

            certificates = Certificates(tls_files(config))
            authority = authority_of(config, os.environ)
        listening = activation.listen(config, os.environ)
        for one in listening:
            held.callback(one.close)

        import asyncio

        _load_http()
        from rootless.daemon.server import Daemon

        async def run() -> None:
            await Daemon(config, flags, listening, certificates, authority).run()

        asyncio.run(run())


def _load_http() -> None:
    """Import aiohttp without the authorities of the host.

    It reads them twice when it is imported, 60 ms and a megabyte each; whom this
    engine believes is told to each connection (images.registry.transport).
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")
    before = {name: os.environ.get(name) for name in names}
    try:
        os.environ.update(dict.fromkeys(names, os.devnull))
        import aiohttp  # noqa: F401 - for its effect on sys.modules
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def validate(config: DaemonConfig) -> None:
    """What --validate looks at beyond the values: everything the configuration names."""
    from rootless.daemon.validation import check_files

    check_files(config, os.environ.get("HOME", "/"))
    sys.stderr.write("configuration OK\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, 1 after an error that was told on standard error."""
    # The C parser of aiohttp loses what a client sends right behind an Upgrade.
    os.environ.setdefault("AIOHTTP_NO_EXTENSIONS", "1")
    try:
        given = commandline.read(sys.argv[1:] if arguments is None else arguments, os.environ)
        if given.help:
            from rootless.daemon.manual import manual

            sys.stdout.write(manual())
            return 0
        if given.version:
            sys.stdout.write(f"rootlessd {rootless.__version__}\n")
            return 0
        config = load(given.flags, os.environ)
        if given.validate:
            validate(config)
            return 0
        lifecycle.refuse_root(allow_root=given.allow_root)
        set_up(config.log_level, config.log_format, debug=config.debug)
        serve(config, given.flags)
    except RootlessError as error:
        sys.stderr.write(f"rootlessd: {error}\n")
        raise SystemExit(EXIT_FAILURE) from None
    except OSError as error:
        # A file of the engine's that is not what it should be, or a full disk.
        what = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"rootlessd: {what}{error.strerror or error}\n")
        raise SystemExit(EXIT_FAILURE) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
