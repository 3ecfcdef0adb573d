"""Listening sockets: systemd's, or our own; and telling systemd (or the CLI) that we are ready."""

from __future__ import annotations

import contextlib
import errno
import grp
import logging
import os
import socket
import stat
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rootless.daemon import hosts
from rootless.daemon.config import DaemonConfig
from rootless.daemon.hosts import FdHost, TcpHost, UnixHost
from rootless.errors import InvalidInput, RootlessError

_log = logging.getLogger("rootlessd")
FIRST_FD = 3
_MAX_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""
_BACKLOG = 4096
"""See ``api.http.BACKLOG``; these are the connections of the moments before."""
DEFAULT_SOCKET = "rootless.sock"


@dataclass(frozen=True, slots=True)
class Listening:
    """A listening socket, and the file of it that is ours: None when systemd passed the socket."""

    socket: socket.socket
    path: Path | None = None
    inode: tuple[int, int] = (0, 0)
    """Device and inode of the file."""

    @property
    def remote(self) -> bool:
        """True for TCP: clients must come with a certificate."""
        return self.socket.family != socket.AF_UNIX

    def withdraw(self) -> None:
        """Remove the file, unless another daemon's has taken its place."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):  # gone already, or its directory is
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self.inode:
                self.path.unlink()

    def close(self) -> None:
        """Listen no more."""
        self.withdraw()
        self.socket.close()


@dataclass(frozen=True, slots=True)
class Passed:
    """A socket that systemd passed (sd_listen_fds(3))."""

    number: int
    name: str
    socket: socket.socket


def inherited(environ: MutableMapping[str, str]) -> list[Passed]:
    """Sockets passed by systemd; the variables are consumed."""
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    found = []
    for index in range(int(count)):
        fd = FIRST_FD + index
        try:
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        except OSError:
            is_socket = False
        if not is_socket:
            raise InvalidInput(f"inherited descriptor {fd} is no socket", hint="mend the unit file")
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise InvalidInput(
                f"inherited socket {fd} does not listen",
                hint="the socket unit needs ListenStream= and Accept=no",
            )
        found.append(Passed(fd, names[index] if index < len(names) else "", sock))
    return found


def listen(config: DaemonConfig, environ: MutableMapping[str, str]) -> list[Listening]:
    """One listening socket for each host, and those that systemd passed.

    Passed sockets are used whether or not ``fd://`` is named: systemd listens
    on them already, and nobody else would answer there. The default socket is
    made only when nothing else was asked for or passed. On an error nothing is left.
    """
    passed = inherited(environ)
    wanted = [hosts.parse(host) for host in config.hosts]
    default = f"{config.exec_root}/{DEFAULT_SOCKET}"
    found: list[Listening] = []
    try:
        chosen = _chosen(passed, [host for host in wanted if isinstance(host, FdHost)])
        found += [Listening(one.socket) for one in chosen]
        group = group_id(config.group)
        if not wanted and not chosen:
            wanted = [UnixHost(default)]
        remote = [str(host) for host in wanted if isinstance(host, TcpHost)]
        remote += [f"fd://{p.number}" for p in chosen if p.socket.family != socket.AF_UNIX]
        require_tls(config, remote)
        if config.uses_tls and not remote:
            _log.warning("TLS is configured, but no host is tcp://: it serves nobody")
        taken = {str(one.socket.getsockname()) for one in found if not one.remote}
        for host in wanted:
            if isinstance(host, UnixHost) and (host.path or default) not in taken:
                taken.add(host.path or default)
                found.append(bind(Path(host.path or default), group=group))
            elif isinstance(host, TcpHost):
                found.append(bind_tcp(host))
    except BaseException:
        for one in found:
            one.close()
        for one_passed in passed:
            one_passed.socket.close()
        raise
    return found


def _chosen(passed: Sequence[Passed], named: Sequence[FdHost]) -> list[Passed]:
    """The passed sockets that are used; ``named`` may choose by number or name."""
    if not named:
        return list(passed)
    if not passed:
        raise InvalidInput(
            f"host fd://{named[0].wanted} given but no socket was passed",
            hint="start rootlessd by its systemd socket unit",
        )
    found: list[Passed] = []
    for host in named:
        matching = [p for p in passed if host.wanted in ("", str(p.number), p.name)]
        if not matching:
            have = ", ".join(f"{p.number} {p.name}".strip() for p in passed)
            raise InvalidInput(
                f"host fd://{host.wanted}: no such socket was passed",
                hint=f"passed were: {have}; FileDescriptorName= in the socket unit gives a name",
            )
        found += [p for p in matching if p not in found]
    for one in passed:
        if one not in found:
            one.socket.close()
    return found


def require_tls(config: DaemonConfig, remote: Sequence[str]) -> None:
    """Refuse hosts on TCP without mutual TLS: who reaches the API acts as the user."""
    if remote and config.tlsverify is False:
        raise InvalidInput(
            f"{remote[0]}: tlsverify=false would let in anyone who reaches the port",
            hint="leave tlsverify out, or true",
        )
    if remote and not config.uses_tls:
        raise InvalidInput(
            f"{remote[0]}: TCP is served with mutual TLS only, whoever reaches the port would "
            "otherwise act as you",
            hint="add --tlsverify, --tlscacert, --tlscert and --tlskey; or ssh -L to the socket",
        )


def group_id(group: str) -> int | None:
    """The gid for ``group``, a name or a number; only one of the user's can be given to a file."""
    if not group:
        return None
    mine = {os.getegid(), *os.getgroups()}
    try:
        gid = int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidInput(f"group {group!r} does not exist", hint=_groups(mine)) from None
    if gid not in mine:
        raise InvalidInput(
            f"group {group!r} is not one of yours: only root could give the socket to it",
            hint=f"{_groups(mine)}; sudo usermod -aG {group} USER, then log in again",
        )
    return gid


def _groups(gids: set[int]) -> str:
    names = []
    for gid in sorted(gids):
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(gid).gr_name)
    return f"yours are {', '.join(names) or 'without names'}"


def bind(path: Path, *, group: int | None = None) -> Listening:
    """A socket at ``path`` with mode 0600, or 0660 for a group, there at once or not at all.

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
        _refuse_taken(path)
        os.umask(0o177)
        temporary.unlink(missing_ok=True)
        sock.bind(str(temporary))
        if group is not None:
            _warn_of_closed(path.parent, group)
            os.chown(temporary, -1, group)
            temporary.chmod(0o660)
        sock.listen(_BACKLOG)
        made = temporary.lstat()
        os.replace(temporary, path)
    except OSError as error:
        sock.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RootlessError(
            f"cannot listen on unix://{path}: {error.strerror}",
            hint="choose a --host in a directory of your own",
        ) from error
    finally:
        os.umask(mask)
    return Listening(sock, path, (made.st_dev, made.st_ino))


def _warn_of_closed(directory: Path, group: int) -> None:
    """Say so when a directory above the socket keeps the group out."""
    for above in (directory, *directory.parents):
        found = above.stat()
        wanted = stat.S_IXGRP if found.st_gid == group else stat.S_IXOTH
        if not found.st_mode & wanted:
            _log.warning("the group cannot reach its socket: %s lets it not in", above)
            return


def _refuse_taken(path: Path) -> None:
    """A socket where nobody listens is a former daemon's; anything else is somebody's."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        failed = probe.connect_ex(str(path))
    if failed in (0, errno.EAGAIN):
        raise OSError(errno.EADDRINUSE, "another program listens there")


def bind_tcp(host: TcpHost) -> Listening:
    """A listening socket at an address of this host; the first IPv4 one of a name."""
    try:
        found = socket.getaddrinfo(
            host.address, host.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise InvalidInput(
            f"cannot listen on {host}: {host.address!r} has no address: {reason}",
            hint="give an address of this host, 0.0.0.0 or [::] for all of them",
        ) from None
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    try:
        sock = socket.create_server(
            address[:2] if family == socket.AF_INET else address,
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=family == socket.AF_INET6 and address[0] == "::",
        )
    except OSError as error:
        raise RootlessError(
            f"cannot listen on {host}: {os.strerror(error.errno or 0)}",
            hint=_TCP_HINTS.get(error.errno or 0),
        ) from error
    sock.set_inheritable(False)
    return Listening(sock)


_TCP_HINTS = {
    errno.EADDRINUSE: "another program listens there: ss -ltnp; or choose another port",
    errno.EADDRNOTAVAIL: "give an address of this host (ip address), 0.0.0.0 or [::] for all",
    errno.EACCES: "ports below net.ipv4.ip_unprivileged_port_start are root's; choose another port",
}


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
