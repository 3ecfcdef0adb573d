"""The process that starts network helpers; see ``starter`` for why there is one."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import resource
import signal
import socket
import sys
from types import ModuleType
from typing import NoReturn

LOG_LIMIT = 64 << 10
"""Bytes; later messages are lost. A container can provoke messages without end."""

MAX_FDS = 64
MAX_MESSAGE = 64 << 10
"""Descriptors and bytes of a request."""
_BACKGROUND = '"$@" & echo $! >/proc/self/fd/$0'
"""For /bin/sh: start the arguments and tell their process id.

The helper becomes nobody's child here, because ``sh`` (the library) would
otherwise keep a thread that looks for its end every second.
"""


def _launch(argv: list[str], numbers: list[int], fds: list[int], log_fd: int) -> int | None:
    import sh

    above = max([2, *numbers]) + 1
    pid_read, pid_write = os.pipe2(os.O_CLOEXEC)
    # No number that the program gets is this pipe's.
    told_write = fcntl.fcntl(pid_write, fcntl.F_DUPFD_CLOEXEC, above)
    os.close(pid_write)
    with open(pid_read, "rb") as told, open("/dev/null", "rb") as null:
        try:
            with open(log_fd, "wb", closefd=False) as log:
                sh.Command("/bin/sh")(
                    *("-c", _BACKGROUND, str(told_write), *argv),
                    _bg=True,
                    _bg_exc=False,
                    _in=null,
                    _out=log,
                    _err=log,
                    _env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C"},
                    _cwd="/",
                    _new_session=True,
                    _pass_fds={*numbers, told_write},
                    _preexec_fn=lambda: _before_exec(numbers, fds, told_write, above),
                )
        finally:
            os.close(told_write)
        line = told.readline()
    return int(line) if line.strip().isdigit() else None


def _before_exec(numbers: list[int], fds: list[int], told: int, above: int) -> None:
    """Runs in ``sh``'s child just before exec."""
    # The socket is made by a subordinate id and used by the daemon: it needs
    # write permission for others. Its directory lets nobody but the daemon in.
    os.umask(0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_LIMIT, LOG_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Out of the way first, so that none is overwritten before it has its place.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd, number in zip(high, numbers, strict=True):
        os.dup2(fd, number)
    os.set_inheritable(told, True)


def _load_sh() -> None:
    """Import ``sh`` without two packages that it does not use here, 7 of an idle engine's MB.

    asyncio is for programs that await a command, importlib.metadata tells its version.
    """
    stand_ins: dict[str, dict[str, object]] = {
        "asyncio": {"Queue": None, "get_running_loop": _no_loop},
        "importlib.metadata": {"version": str, "PackageNotFoundError": LookupError},
    }
    for name, attributes in stand_ins.items():
        module = sys.modules[name] = ModuleType(name)
        module.__dict__.update(attributes)
    try:
        import sh  # noqa: F401 - for its effect on sys.modules
    except (ImportError, AttributeError):  # a version that wants more of them
        sys.modules.pop("sh", None)
        for name in stand_ins:
            del sys.modules[name]


def _no_loop() -> NoReturn:
    raise RuntimeError("no running event loop")


def main(arguments: list[str]) -> int:
    """Serve the socket whose descriptor is the only argument until the daemon closes its end."""
    _load_sh()  # before the first request
    requests = socket.socket(fileno=int(arguments[0]))
    requests.set_inheritable(False)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    while True:
        data, fds, _, _ = socket.recv_fds(requests, MAX_MESSAGE, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return 0
        message = json.loads(data)
        with socket.socket(fileno=fds[0]) as reply:
            pid = _launch(message["argv"], message["numbers"], fds[2:], fds[1])
            answer = {} if pid is None else {"pid": pid}
            with contextlib.suppress(OSError):  # the daemon is gone; the helper ends with its pipe
                reply.send(json.dumps(answer).encode())
        for fd in fds[1:]:
            os.close(fd)
