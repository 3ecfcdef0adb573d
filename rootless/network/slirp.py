"""slirp4netns: a container's way out, without a privilege of the user's.

The program runs as the container's own root, a subordinate id: ``nsenter``
enters the container's user namespace first and gives up the user's ids for
good. slirp4netns' own ``--userns-path`` would keep the real uid of the user,
and in version 1.2 it cannot be combined with ``--enable-sandbox`` for anyone
but root (its parent process never enters the namespace and fails in
``setegid(0)``). A broken slirp4netns can thus reach neither the user's files
nor the engine's sockets.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import signal

from rootless.errors import HostUnsupported, RootlessError, Unavailable
from rootless.network import helper
from rootless.network.helper import HelperProcess

_log = logging.getLogger(__name__)

MTU = 65520
"""Bytes; slirp4netns(1) recommends it: packets never touch a wire, so larger ones are faster."""

START_TIMEOUT = 20.0
"""Seconds until a slirp4netns that is not ready counts as failed."""

API_SOCKET = "api.sock"
LOG = "slirp4netns.log"

_NOISE = (
    "WARNING:", "Starting slirp", "* ", "sent tapfd", "received tapfd", "sandbox: /etc/",
    "seccomp: The", "apifd event", "api_handler: got request",
)  # fmt: skip
_CONSEQUENCE = ("parent failed", "child failed", "do_slirp", "create_sandbox failed")


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


def read_log(directory: str) -> str:
    """What slirp4netns said so far."""
    try:
        with open(f"{directory}/{LOG}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _make_directory(directory: str) -> None:
    """An empty private directory; what an earlier slirp4netns left in it is removed."""
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    os.chmod(os.path.dirname(directory), 0o700)
    remove_directory(directory)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        raise Unavailable(
            f"cannot clear {directory} for slirp4netns", hint=f"remove what is in {directory}"
        ) from None


def remove_directory(directory: str) -> None:
    """Remove the directory, the API socket and the logs in it; missing ones are fine."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(f"{directory}/{name}")
        try:
            os.rmdir(directory)
        except OSError as error:
            # A slirp4netns that still starts may have made its socket since.
            if error.errno != errno.ENOTEMPTY:
                raise
            _log.warning("%s is not empty and stays until the next start", directory)


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
) -> HelperProcess:
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
        log_fd = os.open(
            LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600, dir_fd=directory_fd
        )
        try:
            fds = {netns_fd, userns_fd, exit_fd, ready_write, directory_fd}
            process = await helper.launch(argv, fds, log_fd)
        except ProcessLookupError:
            raise explain(read_log(directory)) from None
        finally:
            os.close(log_fd)
        os.close(ready_write)
        ready_write = -1
        try:
            await _wait_ready(directory, ready_read, timeout)
            os.fchmod(directory_fd, 0o700)
        except BaseException:
            helper.kill(process, signal.SIGKILL)
            helper.close(process)
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


async def _wait_ready(directory: str, ready_fd: int, timeout: float) -> None:
    if not await helper.readable(ready_fd, timeout):
        last = last_message(read_log(directory))
        raise Unavailable(
            f"slirp4netns was not ready after {timeout:g} seconds{': ' + last if last else ''}",
            hint="the machine may be overloaded; try again",
        )
    if not os.read(ready_fd, 1):
        raise explain(read_log(directory))
