"""``rootless attach``."""

from __future__ import annotations

from rootless.cli.command import BOOL, STRING, Command, Invocation
from rootless.cli.commands.run import stream_and_wait
from rootless.cli.exits import EXIT_CODES
from rootless.cli.foreground import (
    Session,
    Settings,
    attach_target,
    check_terminal,
    detach_bytes,
    guarded,
)
from rootless.client.api import Client, finish_hijack, quote, start_hijack
from rootless.errors import Conflict


def run(call: Invocation) -> int:
    """Attach to a running container and take its exit status."""
    detach_bytes(call["detach-keys"])
    client = call.client
    info = client.get(f"/containers/{quote(call.args[0])}/json")
    state, config = info["State"], info["Config"]
    for wrong, text in (
        (not state.get("Running"), "cannot attach to a stopped container, start it first"),
        (state.get("Paused"), "cannot attach to a paused container, unpause it first"),
        (state.get("Restarting"), "cannot attach to a restarting container, wait until it runs"),
    ):
        if wrong:
            raise Conflict(text)
    stdin = bool(config.get("OpenStdin")) and not call["no-stdin"]
    check_terminal(tty=config["Tty"], stdin=stdin)
    settings = Settings(
        f"containers/{info['Id']}",
        tty=config["Tty"],
        stdin=stdin,
        sig_proxy=call["sig-proxy"] and not config["Tty"],
        detach_keys=call["detach-keys"],
    )
    session = Session(client, settings)
    return guarded(lambda: _foreground(client, info["Id"], settings, session), session)


def _foreground(client: Client, container: str, settings: Settings, session: Session) -> int:
    attach, waiting = client.connect(), client.connect()
    start_hijack(attach, attach_target(container, settings))
    waiting.send("POST", f"/containers/{container}/wait")
    finish_hijack(attach)
    reply = waiting.response().check()
    session.prepare()
    session.started()
    return stream_and_wait(session, attach, reply, container)


COMMAND = Command(
    run,
    usage="attach [OPTIONS] CONTAINER",
    summary="Attach local standard input, output, and error streams to a running container",
    description="Leave it running with the detach keys (ctrl-p ctrl-q) when it has a terminal.",
    aliases="container attach, attach",
    flags=(
        ("detach-keys", "", STRING, "", "Keys that leave it running (default ctrl-p,ctrl-q)"),
        ("no-stdin", "", BOOL, False, "Do not attach STDIN"),
        ("sig-proxy", "", BOOL, True, "Pass signals on (not with a terminal)"),
    ),
    min_args=1,
    max_args=1,
    exit_codes=EXIT_CODES,
    examples="rootless attach web",
)
