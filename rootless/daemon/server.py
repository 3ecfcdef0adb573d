"""The running daemon: start, signals, reload, end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from rootless.daemon import activation
from rootless.daemon.config import DaemonConfig, complete, load_config, reloaded
from rootless.daemon.logging import set_up
from rootless.errors import RootlessError

if TYPE_CHECKING:
    from rootless.engine.engine import LocalEngine

_log = logging.getLogger("rootlessd")


class Daemon:
    """One daemon; ``sockets`` already listen, so that clients wait instead of failing."""

    def __init__(self, config: DaemonConfig, sockets: list[socket.socket]) -> None:
        self._config = config
        self._sockets = sockets
        self._stop = asyncio.Event()
        self._engine: LocalEngine | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        from rootless.api.app import make_app, serve
        from rootless.daemon.compose import build_engine

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        engine = self._engine = build_engine(self._config, os.environ.get("HOME", "/"))
        try:
            await engine.start()
            runner = await serve(make_app(engine), self._sockets)
            try:
                await self._warm(engine)
                # What lives now lives until the end: the collector need not look at it again.
                gc.collect()
                gc.freeze()
                # A request makes some thousand objects, nearly all of them freed by their
                # counts: the default of 700 would look for cycles several times in each.
                gc.set_threshold(5000, 10, 10)
                activation.notify(os.environ, "READY=1", f"MAINPID={os.getpid()}")
                engine.core.events.publish("daemon", "start", "")
                _log.info("ready, data root %s", self._config.data_root)
                await self._stop.wait()
                activation.notify(os.environ, "STOPPING=1")
            finally:
                await runner.close(grace=self._config.shutdown_timeout)
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

    def _reload(self) -> None:
        try:
            new = complete(load_config(Path(self._config.config_file), required=False), os.environ)
        except RootlessError as error:
            _log.error("configuration not reloaded: %s", error)
            return
        self._config, ignored = reloaded(self._config, new)
        set_up(self._config.log_level, debug=self._config.debug)
        if self._engine is not None:
            from rootless.daemon.compose import settings_of

            self._engine.core.settings = settings_of(self._config)
            self._engine.core.events.publish("daemon", "reload", "")
        for key in ignored:
            _log.warning("%s changed in %s: restart to apply it", key, self._config.config_file)
        _log.info("configuration reloaded")
