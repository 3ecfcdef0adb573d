"""The logs of containers that ask for more than plain json-file: composed as the plan says.

The plan is the JSON object that ``engine.logdrivers`` makes:

``driver``, ``drop`` (mode non-blocking), ``buffer`` (bytes that may wait)
``file``
    ``path``, ``size``, ``files``, ``compress`` and ``attrs`` (JSON text, '' for
    none) of a log that is a file
``copy``
    the same for the readable copy of one that is sent away, if there is one
``sink``
    what the driver that sends it needs
"""

from __future__ import annotations

import json
import os
from collections import deque
from typing import Any, Protocol

from rootless.runtime.shim_io import READ, Pump
from rootless.runtime.shim_lines import Log
from rootless.runtime.shim_log import JsonLog
from rootless.runtime.shim_logfile import LogFile, Tell
from rootless.runtime.shim_queue import QueuedLog, Sink


class FileLog(Log, Sink, Protocol):
    """A log that is written at once, or through a queue."""


class Bell:
    """Wakes the shim's loop from another thread, with what there is to say."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._said: deque[str] = deque()

    def tell(self, text: str) -> None:
        """Have ``text`` said."""
        self._said.append(text)
        self.ring()

    def ring(self) -> None:
        """Wake the loop."""
        os.eventfd_write(self._fd, 1)

    def hear(self) -> str | None:
        """What is to be said next."""
        return self._said.popleft() if self._said else None

    def fileno(self) -> int:
        """What becomes readable."""
        return self._fd

    def silence(self) -> None:
        """Have heard it."""
        os.eventfd_read(self._fd)


class ComposedLog:
    """One or two logs of the same output; ``say`` hears of their troubles, in the shim's loop."""

    def __init__(self, bell: Bell, logs: list[Log], pump: Pump, say: Tell) -> None:
        self._bell = bell
        self._logs = logs
        self._pump = pump
        self._say = say
        pump.watch(bell.fileno(), READ, lambda _events: self._heard())

    def write(self, stream: int, data: bytes) -> bool:
        """Record in all of them."""
        full = [log.write(stream, data) for log in self._logs]  # in each, whichever is full
        return any(full)

    def _heard(self) -> None:
        self._bell.silence()
        self._speak()
        queues = [log for log in self._logs if isinstance(log, QueuedLog)]
        if self._pump.log_full and not any(queue.full() for queue in queues):
            self._pump.log_ready()

    def _speak(self) -> None:
        while (text := self._bell.hear()) is not None:
            self._say(text)

    def relent(self) -> None:
        """See :class:`Log`."""
        for log in self._logs:
            log.relent()

    def close(self) -> None:
        """Finish all of them."""
        for log in self._logs:
            log.close()
        self._speak()


def open_log(fd: int, pump: Pump, say: Tell) -> ComposedLog:
    """The log for the plan in the file ``fd``, which is closed."""
    plan = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
    os.close(fd)
    bell = Bell()
    logs: list[Log] = []
    if plan.get("copy"):
        copy = _file(plan["copy"], "local", bell.tell)
        logs.append(_queued("the readable copy of the log", copy, plan, bell))
    if "sink" in plan:
        logs.append(_queue("the log", _sink(plan), plan, bell))
    else:
        file = _file(plan["file"], plan["driver"], bell.tell)
        logs.append(_queued("the log", file, plan, bell))
    return ComposedLog(bell, logs, pump, say)


def _file(plan: dict[str, Any], driver: str, tell: Tell) -> FileLog:
    """A log in files."""
    kind: type[LogFile] = LogFile
    if plan["compress"]:
        from rootless.runtime.shim_compress import CompressedLogFile

        kind = CompressedLogFile
    file = kind(plan["path"], plan["size"], plan["files"], tell)
    attrs = plan["attrs"].encode()
    if driver == "json-file":
        return JsonLog(file, attrs)
    from rootless.runtime.shim_local import LocalLog

    return LocalLog(file, attrs)


def _queued(name: str, log: FileLog, plan: dict[str, Any], bell: Bell) -> Log:
    """A file is written at once, unless nothing may ever wait for the disk."""
    return _queue(name, log, plan, bell) if plan["drop"] else log


def _sink(plan: dict[str, Any]) -> Sink:
    if plan["driver"] == "syslog":
        from rootless.runtime.shim_syslog import SyslogSink

        return SyslogSink(**plan["sink"])
    from rootless.runtime.shim_journald import JournalSink

    return JournalSink(**plan["sink"])


def _queue(name: str, sink: Sink, plan: dict[str, Any], bell: Bell) -> QueuedLog:
    return QueuedLog(name, sink, plan["buffer"], drop=plan["drop"], tell=bell.tell, wake=bell.ring)
