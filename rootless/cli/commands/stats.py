"""``rootless stats``."""

from __future__ import annotations

import select
import sys
from typing import Any

from rootless.cli.command import BOOL, FORMAT_HELP, STRING, Command, Invocation
from rootless.cli.formats import Listing
from rootless.cli.human import size4, size_binary
from rootless.cli.plain import control
from rootless.client.api import Client, query, quote
from rootless.client.http import Connection
from rootless.errors import RootlessError
from rootless.ids import SHORT_LENGTH

_CLEAR = "\x1b[H\x1b[J"


def cpu_percent(sample: dict[str, Any]) -> float:
    """Docker's formula: the container's share of the system's time, times the CPUs."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    used = _usage(now) - _usage(before)
    system = int(now.get("system_cpu_usage") or 0) - int(before.get("system_cpu_usage") or 0)
    cpus = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ())
    return used / system * (cpus or 1) * 100 if used > 0 and system > 0 else 0.0


def _usage(cpu: dict[str, Any]) -> int:
    return int((cpu.get("cpu_usage") or {}).get("total_usage") or 0)


def memory_used(sample: dict[str, Any]) -> int:
    """Bytes without the inactive page cache, as Docker counts."""
    memory = sample.get("memory_stats") or {}
    usage = int(memory.get("usage") or 0)
    detail = memory.get("stats") or {}
    cache = int(detail.get("total_inactive_file") or detail.get("inactive_file") or 0)
    return usage - cache if cache < usage else usage


def _network(sample: dict[str, Any], key: str) -> int:
    return sum(int(n.get(key) or 0) for n in (sample.get("networks") or {}).values())


def _block(sample: dict[str, Any], operation: str) -> int:
    rows = (sample.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
    return sum(int(r.get("value") or 0) for r in rows if r.get("op", "").lower() == operation)


def _memory_percent(sample: dict[str, Any]) -> float:
    limit = int((sample.get("memory_stats") or {}).get("limit") or 0)
    return memory_used(sample) / limit * 100 if limit else 0.0


def listing(*, full: bool) -> Listing:
    """Columns and fields of ``stats``."""

    def missing(sample: dict[str, Any]) -> bool:
        return not sample.get("cpu_stats")

    return Listing(
        {
            "ID": "CONTAINER ID",
            "Container": "CONTAINER",
            "Name": "NAME",
            "CPUPerc": "CPU %",
            "MemUsage": "MEM USAGE / LIMIT",
            "MemPerc": "MEM %",
            "NetIO": "NET I/O",
            "BlockIO": "BLOCK I/O",
            "PIDs": "PIDS",
        },
        {
            "ID": lambda s: s["id"] if full else s["id"][:12],
            "Container": lambda s: s["asked"],
            "Name": lambda s: str(s.get("name", "")).removeprefix("/"),
            "CPUPerc": lambda s: "--" if missing(s) else f"{cpu_percent(s):.2f}%",
            "MemUsage": lambda s: (
                "-- / --"
                if missing(s)
                else f"{size_binary(memory_used(s))} / "
                + size_binary(int((s.get("memory_stats") or {}).get("limit") or 0))
            ),
            "MemPerc": lambda s: "--" if missing(s) else f"{_memory_percent(s):.2f}%",
            "NetIO": lambda s: (
                f"{size4(_network(s, 'rx_bytes'))} / {size4(_network(s, 'tx_bytes'))}"
            ),
            "BlockIO": lambda s: f"{size4(_block(s, 'read'))} / {size4(_block(s, 'write'))}",
            "PIDs": lambda s: str((s.get("pids_stats") or {}).get("current") or 0),
        },
        ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
    )


def _ids(call: Invocation) -> list[str]:
    if call.args:
        return call.args
    found = call.client.get("/containers/json" + query(all=call["all"] or None))
    return [item["Id"][:SHORT_LENGTH] for item in found]


def run(call: Invocation) -> int:
    """One sample of each container, or a table that is rewritten as samples come."""
    shown = listing(full=call["no-trunc"])
    names = _ids(call)
    if call["no-stream"]:
        samples = []
        for name in names:
            target = f"/containers/{quote(name)}/stats" + query(stream=False)
            samples.append({"id": name, "asked": name, **call.client.get(target)})
        shown.print(samples, call["format"])
        return 0
    return _stream(call, shown, names)


def _stream(call: Invocation, shown: Listing, names: list[str]) -> int:
    terminal = sys.stdout.isatty()
    streams: dict[int, tuple[str, Connection, _Samples]] = {}
    latest: dict[str, dict[str, Any]] = {}
    poller = select.poll()
    for name in names:
        connection, samples = _open(call.client, name)
        fd = connection.sock.fileno()
        streams[fd] = (name, connection, samples)
        poller.register(fd, select.POLLIN)
    while streams:
        for fd, _ in poller.poll():
            name, connection, samples = streams[fd]
            sample = samples.next()
            if sample is None:
                poller.unregister(fd)
                connection.close()
                del streams[fd]
                latest.pop(name, None)
            else:
                latest[name] = {"id": name, "asked": name, **sample}
        text = shown.text([latest[n] for n in names if n in latest], call["format"])
        if terminal:
            control(sys.stdout, _CLEAR)
        sys.stdout.write(text)
        sys.stdout.flush()
    return 0


class _Samples:
    """The JSON documents of one container's stream."""

    def __init__(self, connection: Connection) -> None:
        self._documents = connection.response().check().documents()

    def next(self) -> dict[str, Any] | None:
        """The next sample; None at the end of the container."""
        found: dict[str, Any] | None = next(self._documents, None)
        return found


def _open(client: Client, name: str) -> tuple[Connection, _Samples]:
    connection = client.connect()
    try:
        connection.send("GET", f"/containers/{quote(name)}/stats" + query(stream=True))
        return connection, _Samples(connection)
    except (RootlessError, OSError):
        connection.close()
        raise


COMMAND = Command(
    run,
    usage="stats [OPTIONS] [CONTAINER...]",
    summary="Display a live stream of container(s) resource usage statistics",
    description="""
Without names all containers that run are shown. Without delegated cgroup controllers
(see `rootless doctor`) what can be read from /proc is shown, and no limits.
""",
    aliases="container stats, stats",
    flags=(
        ("all", "a", BOOL, False, "Show all containers (default shows just running)"),
        ("format", "", STRING, "", FORMAT_HELP),
        ("no-stream", "", BOOL, False, "Disable streaming stats and only pull the first result"),
        ("no-trunc", "", BOOL, False, "Do not truncate output"),
    ),
    max_args=None,
    examples="rootless stats --no-stream --format '{{.Name}} {{.MemUsage}}'",
)
