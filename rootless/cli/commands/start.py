"""``rootless start``: in the background, or attached as ``run`` is."""

from __future__ import annotations

import sys

from rootless.cli.command import BOOL, STRING, Command, Invocation
from rootless.cli.commands.run import foreground
from rootless.cli.each import each
from rootless.cli.exits import EXIT_CODES, exit_status
from rootless.cli.flags import UsageError
from rootless.cli.foreground import Session, Settings, check_terminal, guarded
from rootless.client.api import quote
from rootless.errors import RootlessError


def run(call: Invocation) -> int:
    """Start containers; with -a or -i exactly one, in the foreground."""
    if call["checkpoint"] or call["checkpoint-dir"]:
        raise UsageError("checkpoints are not supported: CRIU needs root")
    if not call["attach"] and not call["interactive"]:
        return each(call.args, lambda name: call.client.post(f"/containers/{quote(name)}/start"))
    if len(call.args) > 1:
        raise UsageError("you cannot start and attach multiple containers at once", status=1)
    try:
        return _attached(call)
    except RootlessError as error:
        error.exit_status = exit_status(error)
        raise


def _attached(call: Invocation) -> int:
    client = call.client
    info = client.get(f"/containers/{quote(call.args[0])}/json")
    container, config = info["Id"], info["Config"]
    stdin = bool(call["interactive"] and config.get("OpenStdin"))
    check_terminal(tty=config["Tty"], stdin=stdin)
    settings = Settings(
        f"containers/{container}",
        tty=config["Tty"],
        stdin=stdin,
        sig_proxy=call["sig-proxy"] and not config["Tty"],
        detach_keys=call["detach-keys"],
    )
    session = Session(client, settings)
    removed = info.get("HostConfig", {}).get("AutoRemove")
    condition = "removed" if removed else "next-exit"
    sys.stdout.flush()
    return guarded(lambda: foreground(client, container, settings, session, condition), session)


COMMAND = Command(
    run,
    usage="start [OPTIONS] CONTAINER [CONTAINER...]",
    summary="Start one or more stopped containers",
    description="""
In the background, or with -a or -i one container in the foreground: its output and
its exit status are this command's.
""",
    aliases="container start, start",
    flags=(
        ("attach", "a", BOOL, False, "Attach STDOUT/STDERR and forward signals"),
        ("checkpoint", "", STRING, "", "Restore from this checkpoint (not supported)"),
        ("checkpoint-dir", "", STRING, "", "Checkpoint storage directory (not supported)"),
        ("detach-keys", "", STRING, "", "Keys that leave it running (default ctrl-p,ctrl-q)"),
        ("interactive", "i", BOOL, False, "Pass our STDIN to the container (made with -i)"),
        ("sig-proxy", "", BOOL, True, "Proxy received signals to the process"),
    ),
    min_args=1,
    max_args=None,
    exit_codes=EXIT_CODES,
    examples="rootless start db cache\nrootless start -ai shell",
)
