"""Before a start: whether there is somebody who takes the records that a driver sends away.

Docker refuses to start a container whose log would go nowhere. Later losses are
the shim's (``runtime.shim_queue``).
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

from rootless.errors import StartFailed
from rootless.model.plan import LogPlan


async def check_sink(plan: LogPlan, closed: tuple[Path, ...]) -> None:
    """StartFailed, in Docker's words, when the driver's other side cannot be reached.

    Sockets below ``closed`` are the engine's own, and not for a container's output.
    """
    if not plan.more:
        return
    found = json.loads(plan.more)
    if "sink" not in found:
        return
    sink = found["sink"]
    if found["driver"] == "journald":
        if not await asyncio.to_thread(_listens, sink["address"]):
            raise _failure("journald is not enabled on this host", f"no socket {sink['address']}")
        return
    network, address = sink["network"], sink["address"]
    if network.startswith("unix"):
        target = Path(os.path.realpath(address))
        if any(target.is_relative_to(path) for path in closed):
            raise _failure(f"dial {network} {address}: permission denied", "a socket of the engine")
    from rootless.runtime.shim_syslog import SyslogSink

    try:
        await asyncio.to_thread(SyslogSink(**sink).probe)
    except (OSError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).lower()
        if not network:
            raise _failure("Unix syslog delivery error", "nobody listens on /dev/log") from error
        where = f"dial {network.removesuffix('+tls')} {address}"
        raise _failure(f"{where}: connect: {reason}", "see --log-opt syslog-address") from error


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(address)
        except OSError:
            return False
    return True


def _failure(reason: str, hint: str) -> StartFailed:
    return StartFailed(
        f"failed to initialize logging driver: {reason}", step="log", exit_code=125, hint=hint
    )
