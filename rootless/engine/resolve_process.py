"""The process part of a spec: the image's configuration under the request's (pure)."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rootless.errors import InvalidInput
from rootless.model.request import ContainerConfig, Healthcheck, HostConfig, RlimitRequest
from rootless.model.spec import ProcessSpec
from rootless.units import whole_number

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HOSTNAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_RTMIN, _RTMAX = 34, 64
RLIMITS = frozenset(
    "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime "
    "sigpending stack".split()
)
_MIN_HEALTH = 10**6
"""Docker refuses health times below a millisecond."""


def merge_config(wanted: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """The request's config over the image's, as ``docker create`` merges them."""
    entrypoint, cmd = wanted.entrypoint, wanted.cmd
    # [""] is how clients say "no entry point"; the image's CMD goes with it.
    cleared = entrypoint == ("",)
    if not entrypoint and not cmd:
        cmd = image.cmd
    if entrypoint is None:
        entrypoint = image.entrypoint
    return replace(
        wanted,
        user=wanted.user or image.user,
        env=_merge_env(wanted.env, image.env),
        cmd=cmd,
        entrypoint=None if cleared else entrypoint,
        working_dir=wanted.working_dir or image.working_dir,
        labels=tuple({**dict(image.labels), **dict(wanted.labels)}.items()),
        exposed_ports=tuple(dict.fromkeys((*wanted.exposed_ports, *image.exposed_ports))),
        volumes=tuple(dict.fromkeys((*wanted.volumes, *image.volumes))),
        stop_signal=wanted.stop_signal or image.stop_signal,
        stop_timeout=image.stop_timeout if wanted.stop_timeout is None else wanted.stop_timeout,
        healthcheck=_merge_health(wanted.healthcheck, image.healthcheck),
        shell=wanted.shell or image.shell,
    )


def _merge_env(wanted: Sequence[str], image: Sequence[str]) -> tuple[str, ...]:
    """The request's variables, then those of the image it does not name.

    ``KEY`` alone stays, as in Docker: it takes the variable away when the process starts.
    """
    named = {entry.partition("=")[0] for entry in wanted}
    kept = [entry for entry in image if entry.partition("=")[0] not in named]
    return (*wanted, *kept)


def _merge_health(wanted: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    if wanted is None or image is None:
        return wanted or image
    return Healthcheck(
        test=wanted.test or image.test,
        interval=wanted.interval or image.interval,
        timeout=wanted.timeout or image.timeout,
        retries=wanted.retries or image.retries,
        start_period=wanted.start_period or image.start_period,
        start_interval=wanted.start_interval or image.start_interval,
    )


def check_health(check: Healthcheck | None) -> None:
    """Refuse impossible times and test forms."""
    if check is None:
        return
    if check.test and check.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidInput(f"Unknown type in Healthcheck.Test: {check.test[0]!r}")
    for field in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(check, field)
        if value and value < _MIN_HEALTH:
            name = field.title().replace("_", "")
            raise InvalidInput(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")


def resolve_process(config: ContainerConfig, host: HostConfig, *, hostname: str, init: str
                    ) -> ProcessSpec:  # fmt: skip
    """The final process of a merged config; ``init`` is the path for ``--init`` or ''."""
    args = (*(config.entrypoint or ()), *(config.cmd or ()))
    if not args:
        raise InvalidInput("no command specified", hint="name a command after the image")
    if not args[0]:
        raise InvalidInput("the command is an empty string")
    cwd = config.working_dir or "/"
    if not cwd.startswith("/"):
        raise InvalidInput(
            f"the working directory '{cwd}' is invalid, it needs to be an absolute path"
        )
    for what, texts in (("argument", args), ("environment variable", config.env)):
        if any("\0" in text for text in texts):
            raise InvalidInput(f"{what} with a NUL byte")
    return ProcessSpec(
        args=args,
        env=process_env(config, hostname=hostname),
        cwd=cwd,
        user=config.user,
        group_add=host.group_add,
        terminal=config.tty,
        open_stdin=config.open_stdin,
        stdin_once=config.stdin_once,
        attach_stdin=config.attach_stdin,
        console_size=host.console_size,
        init_binary=init,
    )


def numeric_ids(user: str, groups: Sequence[str]) -> tuple[int, ...]:
    """The ids that ``USER[:GROUP]`` and ``--group-add`` give as numbers.

    A container with a range of ids of its own must have them, though no file
    of the image belongs to them.
    """
    found = (whole_number(text) for text in (*user.split(":"), *groups))
    return tuple(number for number in found if number is not None)


def process_env(config: ContainerConfig, *, hostname: str) -> tuple[str, ...]:
    """PATH, HOSTNAME and TERM, then the configured variables; HOME is init's, from passwd."""
    env: dict[str, str] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        env["TERM"] = "xterm"
    for entry in config.env:
        key, equals, value = entry.partition("=")
        if not key:
            raise InvalidInput(f"invalid environment variable: {entry}")
        if equals:
            env[key] = value
        else:
            env.pop(key, None)
    return tuple(f"{key}={value}" for key, value in env.items())


def check_hostname(name: str, *, what: str = "hostname") -> str:
    """A name that is safe to write to /etc/hosts and sethostname(2) (64 bytes at most)."""
    if name and (len(name) > 64 or not _HOSTNAME.fullmatch(name)):
        raise InvalidInput(
            f"invalid {what} format: {name}", hint="letters, digits, '-', '.'; 64 at most"
        )
    return name


def parse_signal(text: str, *, default: int = signal.SIGTERM) -> int:
    """A signal number from ``SIGTERM``, ``term``, ``15``, ``RTMIN+3``."""
    if not text:
        return default
    name = text.strip().upper()
    number = whole_number(name) or 0
    if not number:
        short = name.removeprefix("SIG")
        number = _realtime(short)
        if not number and f"SIG{short}" in signal.Signals.__members__:
            number = int(signal.Signals[f"SIG{short}"])
    if not 1 <= number <= _RTMAX:
        raise InvalidInput(f"invalid signal: {text}")
    return number


def _realtime(name: str) -> int:
    match = re.fullmatch(r"RT(MIN|MAX)(?:([+-])(\d{1,2}))?", name)
    if match is None:
        return 0
    offset = int(match[3] or 0)
    number = _RTMIN + offset if match[1] == "MIN" else _RTMAX - offset
    right = match[2] in (None, "+" if match[1] == "MIN" else "-")
    return number if right and _RTMIN <= number <= _RTMAX else 0


def resolve_ulimits(
    wanted: Sequence[RlimitRequest], defaults: Sequence[RlimitRequest]
) -> tuple[RlimitRequest, ...]:
    """The request's limits over the daemon's defaults."""
    limits: Mapping[str, RlimitRequest] = {
        **{limit.name: limit for limit in defaults},
        **{limit.name: limit for limit in wanted},
    }
    for limit in limits.values():
        if limit.name not in RLIMITS:
            raise InvalidInput(
                f"invalid ulimit type: {limit.name}", hint=f"one of {', '.join(sorted(RLIMITS))}"
            )
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise InvalidInput(
                f"ulimit {limit.name}: soft limit must be less than or equal to hard limit: "
                f"{limit.soft} > {limit.hard}"
            )
    return tuple(limits.values())
