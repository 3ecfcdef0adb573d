"""The running daemon: start, signals, reload, end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rootless.daemon import activation
from rootless.daemon.activation import Listening
from rootless.daemon.config import DaemonConfig
from rootless.daemon.logging import set_up
from rootless.daemon.reload import attributes, reloaded
from rootless.daemon.sources import Flags, load
from rootless.errors import RootlessError

if TYPE_CHECKING:
    from rootless.api.http import Runner
    from rootless.daemon.certificates import Certificates
    from rootless.engine.engine import LocalEngine
    from rootless.pki.online import OnlineAuthority

_log = logging.getLogger("rootlessd")


_LOOK_SECONDS = 2.0
"""Between looks at the TLS files, where none tells that it changed."""
_KEEP_SECONDS = 3600.0
"""Between two looks at which certificates end soon."""
_REQUESTS = 15.0
"""Seconds that requests under way have at the end when containers have any time they want."""


def _grace(timeout: int) -> float:
    """Seconds for requests; aiohttp takes 0 for no limit."""
    return _REQUESTS if timeout < 0 else max(timeout, 0.01)


class Complaints:
    """What nobody caught, as asyncio logs it; but without descriptors one line a minute.

    asyncio tries to accept each waiting client once a second, and tells of each failure
    with a traceback.
    """

    def __init__(self) -> None:
        self._last = -60.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log ``context``."""
        message = context.get("message", "")
        if "._start_serving(" in message and isinstance(context.get("exception"), ValueError):
            return  # asyncio's next try at accept(2), a second after the last: the socket is closed
        if not message.startswith("socket.accept() out of"):
            loop.default_exception_handler(context)
        elif loop.time() >= self._last + 60:
            self._last = loop.time()
            _log.error(
                "clients wait: %s (hint: raise the limit of open files)", context.get("exception")
            )


class Daemon:
    """One daemon; ``sockets`` already listen, so that clients wait instead of failing."""

    def __init__(
        self,
        config: DaemonConfig,
        flags: Flags,
        sockets: Sequence[Listening],
        certificates: Certificates | None = None,
        authority: OnlineAuthority | None = None,
    ) -> None:
        self._authority = authority
        self._config = config
        self._flags = flags
        self._sockets = sockets
        self._certificates = certificates
        self._stop = asyncio.Event()
        self._engine: LocalEngine | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        from rootless.api.app import make_app, serve
        from rootless.daemon.compose import api_config, build_engine

        loop = asyncio.get_running_loop()
        loop.set_exception_handler(Complaints())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        engine = self._engine = build_engine(
            self._config, os.environ.get("HOME", "/"), self._authority
        )
        try:
            await engine.start()
            app = make_app(engine, config=api_config(self._config, engine.core.facts))
            certificates = self._certificates
            runner = await serve(
                app,
                [one.socket for one in self._sockets],
                tls=certificates,
            )
            if certificates is not None:
                engine.core.background(
                    self._follow(certificates, runner), "following the TLS certificates"
                )
            if self._authority is not None:
                engine.core.background(
                    self._keep(self._authority), "renewing certificates whose end is near"
                )
            try:
                await self._warm(engine)
                # What lives now lives until the end: the collector need not look at it again.
                gc.collect()
                gc.freeze()
                # A request makes some thousand objects, nearly all of them freed by their
                # counts: the default of 700 would look for cycles several times in each.
                gc.set_threshold(5000, 10, 10)
                activation.notify(os.environ, "READY=1", f"MAINPID={os.getpid()}")
                self._publish("start", {})
                _log.info("ready, data root %s", self._config.data_root)
                await self._stop.wait()
                activation.notify(os.environ, "STOPPING=1")
            finally:
                await runner.close(grace=_grace(self._config.shutdown_timeout))
            if not self._config.live_restore:
                await engine.stop_all(self._config.shutdown_timeout)
        finally:
            await engine.close()

    @staticmethod
    async def _warm(engine: LocalEngine) -> None:
        try:
            await engine.warm()
        except RootlessError as error:
            # Listing, logs and removal work without a launcher; starting will say this again.
            _log.error("%s", error)

    async def _follow(self, certificates: Certificates, runner: Runner) -> None:
        """Take new certificates as they come, and end whom a new revocation list names."""
        assert self._engine is not None
        path = certificates.files.revocations
        generation = certificates.generation
        with ExitStack() as held:
            try:
                changed = held.enter_context(
                    self._engine.core.watcher.watch(path.parent, path.name)
                )
            except RootlessError as error:
                _log.warning("a revocation takes up to %.0f s: %s", _LOOK_SECONDS, error)
                changed = asyncio.Event()
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _LOOK_SECONDS)
                changed.clear()
                # A connection that was made meanwhile has taken the files already.
                certificates.refresh()
                if certificates.generation != generation:
                    generation = certificates.generation
                    runner.recheck()

    @staticmethod
    async def _keep(authority: OnlineAuthority) -> None:
        """Renew this daemon's certificate and the revocation list before they end."""
        while True:
            try:
                for what in await asyncio.to_thread(authority.renew_due):
                    _log.info("renewed %s", what)
            except (RootlessError, OSError) as error:  # a full disk: the next hour's try may do
                _log.error("certificates are not renewed: %s", error)
            await asyncio.sleep(_KEEP_SECONDS)

    def _publish(self, action: str, details: dict[str, str]) -> None:
        assert self._engine is not None
        core = self._engine.core
        name = {"name": socket.gethostname()}
        core.events.publish("daemon", action, core.settings.engine_id, {**details, **name})

    def _reload(self) -> None:
        """Take what can be taken of a right configuration, nothing of a wrong one."""
        since = f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"
        activation.notify(os.environ, "RELOADING=1", since)
        try:
            self._take(load(self._flags, os.environ))
        except RootlessError as error:
            _log.error("configuration not reloaded: %s", error)
        if self._certificates is not None:
            self._certificates.refresh()
        activation.notify(os.environ, "READY=1")

    def _take(self, new: DaemonConfig) -> None:
        self._config, ignored = reloaded(self._config, new)
        set_up(self._config.log_level, self._config.log_format, debug=self._config.debug)
        if self._engine is not None:
            from rootless.daemon.compose import settings_of

            core = self._engine.core
            core.settings = replace(settings_of(self._config), engine_id=core.settings.engine_id)
            self._publish("reload", attributes(self._config))
        for key in ignored:
            _log.warning("%s changed in %s: restart to apply it", key, self._config.config_file)
        _log.info("configuration reloaded")
