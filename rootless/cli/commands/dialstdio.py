"""``rootless system dial-stdio``: what ssh runs on the daemon's machine."""

from __future__ import annotations

from rootless.cli.command import Command, Invocation
from rootless.client.stream import OutputClosed, Pump, Raw


def run(call: Invocation) -> int:
    """Carry both directions until the daemon has ended its own."""
    try:
        Pump(call.client.connect(), Raw(), stdin=0).run()
    except OutputClosed:
        return 0  # the client has what it wanted
    return 0


COMMAND = Command(
    run,
    usage="system dial-stdio",
    summary="Carry the daemon's socket on stdin and stdout",
    description="""
For --host ssh://HOST of a client on another machine, which runs this command there.
""",
    examples="ssh box rootless system dial-stdio",
)
