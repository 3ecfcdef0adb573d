"""Starts the daemon when its socket is absent.

Readiness comes by the sd_notify(3) protocol: the client binds a datagram
socket, names it in ``NOTIFY_SOCKET`` and waits for ``READY=1``, watching the
daemon's pidfd (pidfd_open(2), Linux 5.3) for an early end. Two clients that
start at once are put in order by a lock on ``start.lock``; the second finds the
socket alive.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM
from _socket import socket as RawSocket

from rootless.client import paths
from rootless.client.http import Connection
from rootless.errors import Unavailable

DEADLINE = 60.0
"""Seconds until a daemon that neither ends nor becomes ready is given up."""
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_CODE = (
    f"import sys; sys.path.append({_ROOT!r}); from rootless.daemon.main import main; "
    "sys.exit(main())"
)
ARGUMENTS = ("-P", "-c", _CODE)
"""What this Python runs as the daemon: the one of this very tree.

``-m`` would look into the working directory first, which may be anybody's.
"""
_ABSENT = (errno.ENOENT, errno.ECONNREFUSED)


def connect_or_start(socket_path: str) -> Connection:
    """A connection to ``socket_path``; its daemon is started first if need be."""
    try:
        return Connection(socket_path)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
    directory = os.path.dirname(socket_path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            f"cannot make {directory} for the daemon's socket: {os.strerror(error.errno or 0)}",
            hint="set XDG_RUNTIME_DIR to a directory of your own with mode 0700",
        ) from None
    lock = os.open(f"{directory}/start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return Connection(socket_path)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise
        return _start(socket_path, directory)
    finally:
        os.close(lock)


def _start(socket_path: str, directory: str) -> Connection:
    # The lock is held: what is there is of a command that was killed while it waited.
    notify_path = f"{directory}/notify.sock"
    _unlink(notify_path)
    notify = RawSocket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    try:
        notify.bind(notify_path)
        log_path, log_start, pid = _spawn(notify_path)
        try:
            return _wait_ready(socket_path, notify, pid)
        except Unavailable as error:
            if error.hint:
                raise
            line = _last_line(log_path, log_start)
            raise Unavailable(
                f"{error.message}: {line}" if line else error.message,
                hint=f"the whole log is in {log_path}; `rootless doctor` checks this host",
            ) from None
    finally:
        notify.close()
        _unlink(notify_path)


def _spawn(notify_path: str) -> tuple[str, int, int]:
    """Start the daemon in a session of its own; its log, where it begins, and its pid."""
    state = paths.state_dir()
    os.makedirs(state, mode=0o700, exist_ok=True)
    log_path = f"{state}/rootlessd.log"
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        start = os.fstat(log).st_size
        environment = dict(os.environ)
        environment["NOTIFY_SOCKET"] = notify_path
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *ARGUMENTS],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
    finally:
        os.close(log)
    return log_path, start, pid


def _wait_ready(socket_path: str, notify: RawSocket, pid: int) -> Connection:
    """Connect once the daemon is ready: it listens long before it knows that it can serve."""
    poller = select.poll()
    poller.register(notify.fileno(), select.POLLIN)
    pidfd = os.pidfd_open(pid)
    poller.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + DEADLINE
    try:
        while time.monotonic() < deadline:
            events = dict(poller.poll(1000))
            ready = notify.fileno() in events and b"READY=1" in notify.recv(4096)
            if not ready and pidfd not in events:
                continue
            try:
                return Connection(socket_path)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
            if ready:
                raise Unavailable(
                    f"the daemon was started, but does not listen at {socket_path}",
                    hint=f'add "unix://{socket_path}" to hosts in daemon.json',
                )
            if pidfd in events:
                _, status = os.waitpid(pid, 0)
                code = os.waitstatus_to_exitcode(status)
                how = f"status {code}" if code >= 0 else f"signal {-code}"
                raise Unavailable(f"the daemon did not start (it ended with {how})")
    finally:
        os.close(pidfd)
    raise Unavailable(f"the daemon (pid {pid}) is not ready after {DEADLINE:.0f} seconds")


def _last_line(path: str, start: int) -> str:
    try:
        with open(path, "rb") as log:
            log.seek(start)
            lines = log.read(1 << 20).decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
