"""Listening sockets: systemd's, or our own; and telling systemd (or the CLI) that we are ready."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import InvalidInput, RootlessError

_FIRST_FD = 3
_MAX_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A listening socket, and the file of it that is ours: None when systemd passed the socket."""

    socket: socket.socket
    path: Path | None = None
    inode: tuple[int, int] = (0, 0)
    """Device and inode of the file."""

    def withdraw(self) -> None:
        """Remove the file, unless another daemon's has taken its place."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):  # gone already, or its directory is
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self.inode:
                self.path.unlink()


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """Sockets passed by systemd (sd_listen_fds(3)); the variables are consumed."""
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise InvalidInput(f"inherited descriptor {fd} is no socket", hint="mend the unit file")
        os.set_inheritable(fd, False)
        found.append(socket.socket(fileno=fd))
    return found


def listen(hosts: Sequence[str], environ: MutableMapping[str, str]) -> list[Listening]:
    """One listening socket for each ``unix://`` host; ``fd://`` takes the inherited ones.

    Inherited sockets are used whether or not ``fd://`` is named: systemd listens
    on the path already, and a second socket there would hide it.
    """
    given = inherited(environ)
    if given:
        return [Listening(sock) for sock in given]
    found = []
    for host in hosts:
        if host.startswith("fd://"):
            raise InvalidInput(
                "host fd:// given but no socket was passed",
                hint="start rootlessd by its systemd socket unit",
            )
        found.append(bind(Path(host.removeprefix("unix://"))))
    return found


def bind(path: Path) -> Listening:
    """A socket at ``path`` with mode 0600, there at once or not at all.

    It is bound and listening under another name first: nobody can connect while
    it has a wider mode, and a stale socket is replaced without a gap.
    """
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}")
    for name in (path, temporary):
        if len(os.fsencode(name)) > _MAX_PATH:
            raise InvalidInput(
                f"socket path is longer than {_MAX_PATH} bytes: {name}",
                hint="choose a shorter --host or --exec-root",
            )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o077)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.umask(0o177)
        temporary.unlink(missing_ok=True)
        sock.bind(str(temporary))
        sock.listen(512)
        made = temporary.lstat()
        os.replace(temporary, path)
    except OSError as error:
        sock.close()
        raise RootlessError(f"cannot listen on {path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return Listening(sock, path, (made.st_dev, made.st_ino))


def notify(environ: MutableMapping[str, str], *lines: str) -> None:
    """sd_notify(3); does nothing when nobody wants to know."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.connect(address)
            sock.send("\n".join(lines).encode())
        except OSError:
            # Whoever started us has stopped waiting; the engine is of use all the same.
            return
