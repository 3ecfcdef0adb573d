"""stop, restart, kill, rm, pause, unpause, rename, wait: one request per container."""

from __future__ import annotations

from rootless.cli.command import BOOL, INT, STRING, Command, Invocation
from rootless.cli.each import each
from rootless.client.api import query, quote
from rootless.errors import RootlessError


def _stop_query(call: Invocation) -> str:
    return query(
        signal=call["signal"] or None, t=call["timeout"] if call.given("timeout") else None
    )


def _stop(call: Invocation) -> int:
    tail = _stop_query(call)
    return each(call.args, lambda name: call.client.post(f"/containers/{quote(name)}/stop{tail}"))


def _restart(call: Invocation) -> int:
    tail = _stop_query(call)
    return each(
        call.args, lambda name: call.client.post(f"/containers/{quote(name)}/restart{tail}")
    )


def _kill(call: Invocation) -> int:
    tail = query(signal=call["signal"] or None)
    return each(call.args, lambda name: call.client.post(f"/containers/{quote(name)}/kill{tail}"))


def _rm(call: Invocation) -> int:
    tail = query(force=call["force"] or None, v=call["volumes"] or None, link=call["link"] or None)

    def remove(name: str) -> None:
        plain = name.strip("/")
        if not plain:
            raise RootlessError("container name cannot be empty")
        call.client.delete(f"/containers/{quote(plain)}{tail}")

    # Docker's rm -f reports what is missing and is content.
    return each(call.args, remove, forgive=404 if call["force"] else 0)


def _pause(call: Invocation) -> int:
    return each(call.args, lambda name: call.client.post(f"/containers/{quote(name)}/pause"))


def _unpause(call: Invocation) -> int:
    return each(call.args, lambda name: call.client.post(f"/containers/{quote(name)}/unpause"))


def _rename(call: Invocation) -> int:
    old, new = call.args
    call.client.post(f"/containers/{quote(old)}/rename{query(name=new)}")
    return 0


def _wait(call: Invocation) -> int:
    def show(_: str, answer: object) -> str:
        return str(answer.get("StatusCode", "")) if isinstance(answer, dict) else ""

    return each(
        call.args, lambda name: call.client.post(f"/containers/{quote(name)}/wait"), show=show
    )


_STOP_FLAGS = (
    ("signal", "s", STRING, "", "Signal to send (default the container's stop signal)"),
    (
        "timeout",
        "t",
        INT,
        0,
        "Seconds until it is killed (default the container's, else 10; -1: never)",
    ),
)

STOP = Command(
    _stop,
    usage="stop [OPTIONS] CONTAINER [CONTAINER...]",
    summary="Stop one or more running containers",
    description="Sends the container's stop signal, and SIGKILL when the timeout is over.",
    aliases="container stop, stop",
    flags=_STOP_FLAGS,
    min_args=1,
    max_args=None,
    examples="rootless stop -t 3 web",
)
RESTART = Command(
    _restart,
    usage="restart [OPTIONS] CONTAINER [CONTAINER...]",
    summary="Restart one or more containers",
    description="Stops what runs as `stop` does, then starts it; what does not run is started.",
    aliases="container restart, restart",
    flags=_STOP_FLAGS,
    min_args=1,
    max_args=None,
    examples="rootless restart web",
)
KILL = Command(
    _kill,
    usage="kill [OPTIONS] CONTAINER [CONTAINER...]",
    summary="Kill one or more running containers",
    aliases="container kill, kill",
    flags=(("signal", "s", STRING, "", "Signal to send: KILL, SIGHUP, 15 (default KILL)"),),
    min_args=1,
    max_args=None,
    examples="rootless kill -s HUP web",
)
RM = Command(
    _rm,
    usage="rm [OPTIONS] CONTAINER [CONTAINER...]",
    summary="Remove one or more containers",
    description="With -f a container that runs is killed, and one that is not there is no failure.",
    aliases="container rm, container remove, rm",
    flags=(
        ("force", "f", BOOL, False, "Force the removal of a running container (uses SIGKILL)"),
        ("link", "l", BOOL, False, "Remove a link (there are none; refused)"),
        ("volumes", "v", BOOL, False, "Remove anonymous volumes associated with the container"),
    ),
    min_args=1,
    max_args=None,
    examples="rootless rm -f web\nrootless rm $(rootless ps -aq --filter status=exited)",
)
PAUSE = Command(
    _pause,
    usage="pause CONTAINER [CONTAINER...]",
    summary="Pause all processes within one or more containers",
    description="Needs the cgroup freezer: a delegated cgroup (see `rootless doctor`).",
    aliases="container pause, pause",
    min_args=1,
    max_args=None,
    examples="rootless pause web",
)
UNPAUSE = Command(
    _unpause,
    usage="unpause CONTAINER [CONTAINER...]",
    summary="Unpause all processes within one or more containers",
    aliases="container unpause, unpause",
    min_args=1,
    max_args=None,
    examples="rootless unpause web",
)
RENAME = Command(
    _rename,
    usage="rename CONTAINER NEW_NAME",
    summary="Rename a container",
    aliases="container rename, rename",
    min_args=2,
    max_args=2,
    examples="rootless rename web old-web",
)
WAIT = Command(
    _wait,
    usage="wait CONTAINER [CONTAINER...]",
    summary="Block until one or more containers stop, then print their exit codes",
    description="One line a container, in the order given; a stopped one is not waited for.",
    aliases="container wait, wait",
    min_args=1,
    max_args=None,
    examples="rootless wait job",
)
