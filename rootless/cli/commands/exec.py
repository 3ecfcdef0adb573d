"""``rootless exec``."""

from __future__ import annotations

from rootless.cli.command import BOOL, LIST, STRING, Command, Invocation
from rootless.cli.exits import exit_status
from rootless.client.api import Client, quote
from rootless.errors import RootlessError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.foreground import Session


def run(call: Invocation) -> int:
    """Execute a command in a running container."""
    try:
        return _exec(call)
    except RootlessError as error:
        status = exit_status(error)
        # Docker: 126 and 127 as for run; a missing or stopped container is 1.
        error.exit_status = 1 if status == 125 else status
        raise


def _exec(call: Invocation) -> int:
    client = call.client
    detach, tty, stdin = call["detach"], call["tty"], call["interactive"] and not call["detach"]
    if call["detach-keys"]:
        from rootless.cli.foreground import detach_bytes

        detach_bytes(call["detach-keys"])
    if tty and not detach:
        from rootless.cli.foreground import check_terminal

        check_terminal(tty=tty, stdin=stdin)
    body: dict[str, Any] = {
        "Cmd": call.args[1:],
        "Tty": tty,
        "AttachStdin": stdin,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Privileged": call["privileged"],
    }
    for flag, key in (("user", "User"), ("workdir", "WorkingDir"), ("detach-keys", "DetachKeys")):
        if call[flag]:
            body[key] = call[flag]
    if call["env"] or call["env-file"]:
        from rootless.cli import createspec as spec

        body["Env"] = spec.environment(call["env-file"], call["env"], [])
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if tty:
        from rootless.client.terminal import window_size

        if size := window_size(1, 0, 2):
            body["ConsoleSize"] = start["ConsoleSize"] = list(size)
    target = f"/containers/{quote(call.args[0])}/exec"
    if detach:
        ident = client.post(target, body)["Id"]
        client.post(f"/exec/{ident}/start", start)
        return 0
    ident = client.request("POST", target, body, meanwhile=_load_foreground)["Id"]
    from rootless.cli.foreground import Session, Settings, guarded

    settings = Settings(f"exec/{ident}", tty=tty, stdin=stdin, detach_keys=call["detach-keys"])
    session = Session(client, settings)
    return guarded(lambda: _foreground(client, ident, start, session), session)


def _load_foreground() -> None:
    """What only streams need, while the daemon answers."""
    __import__("rootless.cli.foreground")


def _foreground(client: Client, ident: str, start: dict[str, Any], session: Session) -> int:
    session.prepare()
    connection = client.hijack(f"/exec/{ident}/start", start)
    session.started()
    session.pump(connection)
    if session.detached:
        return 0
    state = client.get(f"/exec/{ident}/json")
    if not isinstance(state, dict) or state.get("Running"):
        raise Unavailable("the exec's streams ended but the daemon says it still runs")
    return int(state.get("ExitCode") or 0) & 0xFF


COMMAND = Command(
    run,
    usage="exec [OPTIONS] CONTAINER COMMAND [ARG...]",
    summary="Execute a command in a running container",
    description="""
The command joins the container's namespaces and gets its seccomp filter, capabilities
and cgroup. Nothing is started when the container does not run.
""",
    aliases="container exec, exec",
    flags=(
        ("detach", "d", BOOL, False, "Detached mode: run command in the background"),
        ("detach-keys", "", STRING, "", "Keys that leave it running (default ctrl-p,ctrl-q)"),
        ("env", "e", LIST, None, "Set environment variables (NAME=VALUE, or NAME from here)"),
        ("env-file", "", LIST, None, "Read environment variables from a file"),
        ("interactive", "i", BOOL, False, "Pass our STDIN to the command"),
        ("privileged", "", BOOL, False, "Give every capability (the default policy denies it)"),
        ("tty", "t", BOOL, False, "Allocate a pseudo-terminal"),
        ("user", "u", STRING, "", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        ("workdir", "w", STRING, "", "Working directory inside the container"),
    ),
    min_args=2,
    max_args=None,
    interspersed=False,
    exit_codes="""  0-255  the command's own status (128 + N when signal N ended it)
  1      no such container, or it does not run
  125    wrong flags
  126    the command cannot be executed
  127    the command was not found""",
    examples="rootless exec -it web sh\nrootless exec -u 1000 -e DEBUG=1 web /bin/report",
)
