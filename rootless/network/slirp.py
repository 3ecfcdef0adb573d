"""slirp4netns: a container's way out, without a privilege of the user's.

The program runs as the container's own root, a subordinate id: ``nsenter``
enters the container's user namespace first and gives up the user's ids for
good. slirp4netns' own ``--userns-path`` would keep the real uid of the user,
and in version 1.2 it cannot be combined with ``--enable-sandbox`` for anyone
but root (its parent process never enters the namespace and fails in
``setegid(0)``). A broken slirp4netns can thus reach neither the user's files
nor the engine's sockets.

It is started through ``sh`` and outlives the daemon: its files are regular
files (a pipe would break with the daemon), it has a session of its own, and it
is the daemon's grandchild, so that ``sh`` keeps no thread for it. It ends by
itself when the write end of ``exit_fd``, held by the container's shim, closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rootless.errors import HostUnsupported, RootlessError, Unavailable

MTU = 65520
"""Bytes; slirp4netns(1) recommends it: packets never touch a wire, so larger ones are faster."""

START_TIMEOUT = 20.0
"""Seconds until a slirp4netns that is not ready counts as failed."""

STOP_TIMEOUT = 2.0
"""Seconds between SIGTERM and SIGKILL."""

LOG_LIMIT = 64 << 10
"""Bytes; later messages are lost. A container can provoke messages without end."""

API_SOCKET = "api.sock"
LOG = "slirp4netns.log"

_NOISE = ("WARNING:", "Starting slirp", "* ", "sent tapfd", "received tapfd", "sandbox: /etc/")
_CONSEQUENCE = ("parent failed", "child failed", "do_slirp", "create_sandbox failed")


@dataclass(frozen=True, slots=True)
class SlirpProcess:
    """A running slirp4netns.

    ``start_time`` is field 22 of /proc/PID/stat (clock ticks since boot); with
    ``pid`` it names the process for ever. ``pidfd`` is an open descriptor of the
    daemon's, to be given back with :func:`close`.
    """

    pid: int
    start_time: int
    pidfd: int
    directory: str
    """Holds the API socket and the log; 0700, the daemon's."""


def find_programs() -> tuple[str, str]:
    """Paths of nsenter and slirp4netns, or HostUnsupported naming the missing one."""
    found = []
    for name, package in (("nsenter", "util-linux"), ("slirp4netns", "slirp4netns")):
        path = shutil.which(name)
        if path is None:
            raise HostUnsupported(
                f"network mode slirp4netns needs the program {name}, which is not in PATH",
                hint=f"sudo apt-get install {package}",
            )
        found.append(path)
    return found[0], found[1]


def command(
    nsenter: str,
    slirp: str,
    *,
    netns_fd: int,
    userns_fd: int,
    exit_fd: int,
    ready_fd: int,
    directory_fd: int,
    mac: str,
    ipv6: bool,
    mtu: int,
) -> list[str]:
    """The command line; every object is named by a descriptor, so that no path can be swapped."""
    return [
        nsenter,
        f"--user=/proc/self/fd/{userns_fd}",
        "--setuid=0",
        "--setgid=0",
        slirp,
        "--configure",
        f"--mtu={mtu}",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        *(["--enable-ipv6"] if ipv6 else []),
        *([f"--macaddress={mac}"] if mac else []),
        f"--ready-fd={ready_fd}",
        f"--exit-fd={exit_fd}",
        f"--api-socket=/proc/self/fd/{directory_fd}/{API_SOCKET}",
        "--netns-type=path",
        f"/proc/self/fd/{netns_fd}",
        "tap0",
    ]


def last_message(log: str) -> str:
    """The line of slirp4netns' log that tells the cause, '' when it said nothing of use."""
    lines = [line.strip() for line in log.splitlines()]
    useful = [line for line in lines if line and not line.startswith(_NOISE)]
    causes = [line for line in useful if not line.startswith(_CONSEQUENCE)]
    return (causes or useful or [""])[-1]


def explain(log: str) -> RootlessError:
    """The error for a slirp4netns that ended before it was ready."""
    message = last_message(log)
    if "/dev/net/tun" in message:
        return HostUnsupported(
            f"slirp4netns cannot make the container's network device: {message}",
            hint="sudo modprobe tun && sudo chmod 0666 /dev/net/tun",
        )
    return Unavailable(f"slirp4netns did not start: {message or 'it ended without a message'}")


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat (proc(5)); ProcessLookupError when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The name may hold spaces and parentheses; what follows the last ')' may not.
            return int(file.read().rpartition(")")[2].split()[19])
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error


def _detach(fds: Iterable[int], pid_fd: int) -> None:
    """Runs in ``sh``'s child just before exec.

    The second fork makes slirp4netns a grandchild: ``sh`` would otherwise keep a
    thread that looks for its end every second.
    """
    pid = os.fork()
    if pid:
        os.write(pid_fd, str(pid).encode())
        os._exit(0)
    # The socket is made by a subordinate id and used by the daemon: it needs
    # write permission for others. Its directory lets nobody but the daemon in.
    os.umask(0)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_LIMIT, LOG_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for fd in fds:
        os.set_inheritable(fd, True)


def _launch(argv: list[str], fds: set[int], directory_fd: int) -> int:
    """Start the command through ``sh`` and return its process id."""
    import sh

    pid_read, pid_write = os.pipe2(os.O_CLOEXEC)
    try:
        log_fd = os.open(
            LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600, dir_fd=directory_fd
        )
        with open(log_fd, "wb") as log, open("/dev/null", "rb") as null:
            sh.Command(argv[0])(
                *argv[1:],
                _bg=True,
                _bg_exc=False,
                _in=null,
                _out=log,
                _err=log,
                _env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C"},
                _cwd="/",
                _new_session=True,
                _pass_fds=fds,
                _preexec_fn=lambda: _detach(fds, pid_write),
            )
        # sh returns after exec, so the number has been written.
        return int(os.read(pid_read, 32))
    finally:
        os.close(pid_read)
        os.close(pid_write)


def _read_log(directory: str) -> str:
    try:
        with open(f"{directory}/{LOG}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


async def _readable(fd: int, timeout: float) -> bool:
    """True when ``fd`` became readable within ``timeout`` seconds; no thread is used."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(fd, event.set)
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


def _make_directory(directory: str) -> None:
    """An empty private directory; what an earlier slirp4netns left in it is removed."""
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    os.chmod(os.path.dirname(directory), 0o700)
    remove_directory(directory)
    os.mkdir(directory, 0o700)


def remove_directory(directory: str) -> None:
    """Remove the API socket, the log and the directory; missing ones are fine."""
    for name in (API_SOCKET, LOG):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)


async def start(
    *,
    netns_fd: int,
    userns_fd: int,
    exit_fd: int,
    directory: str,
    mac: str = "",
    ipv6: bool = True,
    mtu: int = MTU,
    timeout: float = START_TIMEOUT,
) -> SlirpProcess:
    """Attach slirp4netns to a container's namespaces and wait until its device is up.

    ``netns_fd`` and ``userns_fd`` are open namespace files of the container,
    ``exit_fd`` the read end of a pipe whose write end its shim holds; all stay
    the caller's and must be above 2. ``directory`` is made anew; its parent is made private.

    Raises HostUnsupported for a missing program or device and Unavailable with
    slirp4netns' own last message when it ends or does not get ready in time.
    """
    nsenter, program = find_programs()
    _make_directory(directory)
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    try:
        # A subordinate id makes the socket here; the parent directory is 0700,
        # so the descriptor that slirp4netns inherits is the only way in.
        os.fchmod(directory_fd, 0o777)
        argv = command(
            nsenter,
            program,
            netns_fd=netns_fd,
            userns_fd=userns_fd,
            exit_fd=exit_fd,
            ready_fd=ready_write,
            directory_fd=directory_fd,
            mac=mac,
            ipv6=ipv6,
            mtu=mtu,
        )
        pid = _launch(argv, {netns_fd, userns_fd, exit_fd, ready_write, directory_fd}, directory_fd)
        os.close(ready_write)
        ready_write = -1
        process = _adopt(pid, directory)
        try:
            await _wait_ready(process, ready_read, timeout)
            os.fchmod(directory_fd, 0o700)
        except BaseException:
            kill(process, signal.SIGKILL)
            close(process)
            raise
        return process
    except BaseException:
        remove_directory(directory)
        raise
    finally:
        os.close(directory_fd)
        os.close(ready_read)
        if ready_write >= 0:
            os.close(ready_write)


def _adopt(pid: int, directory: str) -> SlirpProcess:
    try:
        pidfd = os.pidfd_open(pid)
        try:
            return SlirpProcess(pid, start_time(pid), pidfd, directory)
        except BaseException:
            os.close(pidfd)
            raise
    except ProcessLookupError:
        raise explain(_read_log(directory)) from None


async def _wait_ready(process: SlirpProcess, ready_fd: int, timeout: float) -> None:
    if not await _readable(ready_fd, timeout):
        last = last_message(_read_log(process.directory))
        raise Unavailable(
            f"slirp4netns was not ready after {timeout:g} seconds{': ' + last if last else ''}",
            hint="the machine may be overloaded; try again",
        )
    if not os.read(ready_fd, 1):
        raise explain(_read_log(process.directory))


def reattach(pid: int, started: int, directory: str) -> SlirpProcess | None:
    """Find the slirp4netns of an earlier daemon again; None when it has ended.

    ``started`` is the start time noted when it was started: a process that was
    given the same number since has another one.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if start_time(pid) == started and not _ended(pidfd):
            return SlirpProcess(pid, started, pidfd, directory)
    except ProcessLookupError:
        pass
    os.close(pidfd)
    return None


def _ended(pidfd: int) -> bool:
    """True when the process has ended, also as a zombie that nobody has waited for."""
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def supervise(process: SlirpProcess, on_exit: Callable[[], None]) -> None:
    """Call ``on_exit`` once, from the running event loop, when slirp4netns ends."""
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(process.pidfd)
        on_exit()

    loop.add_reader(process.pidfd, ended)


def kill(process: SlirpProcess, number: int) -> None:
    """Send a signal; a process that has ended is fine."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process.pidfd, number)


def close(process: SlirpProcess) -> None:
    """Stop supervising and close the descriptor; the process goes on."""
    with contextlib.suppress(RuntimeError):  # no running loop: nothing can be supervised
        asyncio.get_running_loop().remove_reader(process.pidfd)
    os.close(process.pidfd)


async def stop(process: SlirpProcess) -> None:
    """End slirp4netns, wait for it, close its descriptor and remove its directory."""
    asyncio.get_running_loop().remove_reader(process.pidfd)
    kill(process, signal.SIGTERM)
    if not await _readable(process.pidfd, STOP_TIMEOUT):
        kill(process, signal.SIGKILL)
        await _readable(process.pidfd, STOP_TIMEOUT)
    os.close(process.pidfd)
    remove_directory(process.directory)
