"""``rootless run``: create, attach, wait, start, stream, and the exit status.

The order is what loses nothing: the attach stream is joined and the wait is
registered before the process starts. Attach and wait are sent together and
answered together, so a run costs three round trips. What only streams need is
imported while the daemon makes the container.
"""

from __future__ import annotations

import sys

from rootless.cli.command import Command, Invocation
from rootless.cli.createbody import create_body
from rootless.cli.createflags import RUN_FLAGS
from rootless.cli.exits import EXIT_CODES, exit_status
from rootless.cli.flags import UsageError
from rootless.client import lightos as os
from rootless.client.api import Client, finish_hijack, quote, start_hijack
from rootless.client.http import ApiError
from rootless.errors import RootlessError, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.foreground import Session, Settings
    from rootless.client.http import Connection, Response


CREATE_FAILED = 125


def run(call: Invocation) -> int:
    """Run a container; every failure before its process is 125, 126 or 127."""
    try:
        return _run(call)
    except RootlessError as error:
        if error.exit_status is None:
            error.exit_status = exit_status(error)
        raise


def _run(call: Invocation) -> int:
    detach = call["detach"]
    if detach and call["rm"] and call["restart"] not in ("no", ""):
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    if call["detach-keys"]:
        from rootless.cli.foreground import detach_bytes

        detach_bytes(call["detach-keys"])
    body = create_body(call, detach=detach)
    if call["dry-run"]:
        from rootless.cli.dryrun import show_plan

        return show_plan(call, body)
    if call["tty"]:
        from rootless.cli.foreground import check_terminal
        from rootless.client.terminal import window_size

        if not detach:
            check_terminal(tty=True, stdin=body["AttachStdin"])
        if size := window_size(1, 0, 2):
            body["HostConfig"]["ConsoleSize"] = list(size)
    container = create(call, body, meanwhile=None if detach else _load_foreground)
    client = call.client
    if detach:
        client.post(f"/containers/{container}/start")
        sys.stdout.write(container + "\n")
        return 0
    from rootless.cli.foreground import Session, Settings, guarded

    settings = Settings(
        f"containers/{container}",
        tty=call["tty"],
        stdin=body["AttachStdin"],
        stdout=body["AttachStdout"],
        stderr=body["AttachStderr"],
        sig_proxy=call["sig-proxy"],
        detach_keys=call["detach-keys"],
    )
    session = Session(client, settings)
    condition = "removed" if call["rm"] else "next-exit"
    return guarded(lambda: foreground(client, container, settings, session, condition), session)


def _load_foreground() -> None:
    __import__("rootless.cli.foreground")


def foreground(
    client: Client, container: str, settings: Settings, session: Session, condition: str
) -> int:
    """Attach, wait, start and stream; the exit status."""
    from rootless.cli.foreground import attach_target

    attach = client.connect()
    waiting = client.connect()
    start_hijack(attach, attach_target(container, settings))
    waiting.send("POST", f"/containers/{container}/wait?condition={condition}")
    finish_hijack(attach)
    reply = waiting.response().check()
    session.prepare()
    client.post(f"/containers/{container}/start")
    session.started()
    return stream_and_wait(session, attach, reply, container)


def stream_and_wait(session: Session, attach: Connection, reply: Response, container: str) -> int:
    """The streams to their end, then the status that the wait request brings."""
    try:
        session.pump(attach)
        if session.detached:
            session.close()
            sys.stderr.write("read escape sequence\n")
            return 0
        return status_of(reply.json())
    except Unavailable as error:
        raise Unavailable(
            f"{error.message}: lost sight of container {container[:12]}",
            hint=f"it may still run: see `rootless ps`, `rootless attach {container[:12]}`",
        ) from None


def status_of(answer: Any) -> int:
    """The exit status in a wait answer."""
    if not isinstance(answer, dict) or not isinstance(answer.get("StatusCode"), int):
        raise Unavailable("the daemon did not say how the container ended")
    failure = answer.get("Error")
    if isinstance(failure, dict) and failure.get("Message"):
        raise RootlessError(str(failure["Message"]))
    status: int = answer["StatusCode"]
    return status & 0xFF


def create(
    call: Invocation, body: dict[str, Any], *, meanwhile: Callable[[], object] | None = None
) -> str:
    """Create the container, pulling its image as ``--pull`` says; its id.

    ``meanwhile`` is called while the daemon works.
    """
    policy = call["pull"] or "missing"
    if policy not in ("always", "missing", "never"):
        raise UsageError(
            f'invalid pull option: "{policy}": must be one of "always", "missing" or "never"'
        )
    cidfile = _open_cidfile(call["cidfile"])
    try:
        answer = _create(call, body, policy, meanwhile)
    except BaseException as error:
        if isinstance(error, RootlessError):
            # Nothing ran: no path in the message makes it a command that is missing.
            error.exit_status = CREATE_FAILED
        if cidfile is not None:
            os.close(cidfile)
            os.unlink(call["cidfile"])
        raise
    container: str = answer["Id"]
    if cidfile is not None:
        os.write(cidfile, container.encode())
        os.close(cidfile)
    for warning in answer.get("Warnings") or ():
        sys.stderr.write(f"WARNING: {warning}\n")
    return container


def _create(
    call: Invocation,
    body: dict[str, Any],
    policy: str,
    meanwhile: Callable[[], object] | None,
) -> dict[str, Any]:
    target = "/containers/create" + create_query(call)
    if policy == "always":
        _pull(call, body["Image"])
    try:
        answer: dict[str, Any] = call.client.request("POST", target, body, meanwhile=meanwhile)
    except ApiError as error:
        if error.status != 404 or policy != "missing" or "No such image" not in error.message:
            raise
        if not call["quiet"]:
            sys.stderr.write(f"Unable to find image '{_with_tag(body['Image'])}' locally\n")
            sys.stderr.flush()
        _pull(call, body["Image"])
        answer = call.client.post(target, body)
    return answer


def create_query(call: Invocation) -> str:
    """``?name=…&platform=…``."""
    parts = []
    if call["name"]:
        parts.append(f"name={quote(call['name'])}")
    if call["platform"]:
        parts.append(f"platform={quote(call['platform'])}")
    return "?" + "&".join(parts) if parts else ""


def _pull(call: Invocation, image: str) -> None:
    from rootless.cli.pulling import pull_image

    pull_image(call.client, image, platform=call["platform"], quiet=call["quiet"], out=sys.stderr)


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _open_cidfile(path: str) -> int | None:
    if not path:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise UsageError(
            f"container ID file found: {path}",
            hint="make sure the other container isn't running, or delete the file",
        ) from None
    except OSError as error:
        raise UsageError(f"cannot create the container ID file {path}: {error.strerror}") from None


DESCRIPTION = """
The image is pulled when it is not there (see --pull). The container's root is a
subordinate id of yours, never you; no_new_privs and a seccomp filter are on, and
fewer capabilities are granted than Docker does. Published ports are bound to
127.0.0.1 unless an address is given. Flags end at the image's name: what follows
is the command and its arguments.

Security options: seccomp=FILE (a profile in Docker's JSON format), seccomp=builtin,
seccomp=unconfined; seccomp-log names the system calls that were denied;
no-new-privileges[=false]; label=OPTION (SELinux); systempaths=unconfined shows the
masked paths. What weakens the sandbox has to be allowed by the policy: --dry-run
says what it would say. A limit whose cgroup controller is not delegated to you is
refused by name.
"""

COMMAND = Command(
    run,
    usage="run [OPTIONS] IMAGE [COMMAND] [ARG...]",
    summary="Create and run a new container from an image",
    description=DESCRIPTION,
    aliases="container run, run",
    flags=RUN_FLAGS,
    min_args=1,
    max_args=None,
    interspersed=False,
    exit_codes=EXIT_CODES,
    examples="""
rootless run --rm -it debian:bookworm bash
rootless run -d --name web -p 8080:80 -v www:/usr/share/nginx/html:ro nginx
tar c . | rootless run --rm -i -v data:/data busybox tar x -C /data
rootless run --rm --userns auto --network none --read-only --tmpfs /tmp busybox id
rootless run --dry-run --cap-add NET_ADMIN busybox    # what would happen, and why
""",
)
