"""cgroup v2 by its files (kernel: admin-guide/cgroup-v2.rst): where we are, what we may, acting.

Functions that take ``path`` mean an absolute cgroup directory. The engine
lives in the leaf ``ENGINE_LEAF`` of its delegated subtree, because a cgroup
with processes cannot hand controllers on ("no internal processes"). As a
service of systemd's it lives in a unit of its own, beside that subtree.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from dataclasses import dataclass
from pathlib import Path

from rootless.errors import HostUnsupported, SyscallError, Unavailable
from rootless.model.facts import CgroupFacts

ENGINE_LEAF = "rootless-engine"
SERVICE, BESIDE = "rootless.service", "rootless-containers.service"
"""Of systemd: the unit of the daemon, and the one beside it that containers live in."""
NONE = CgroupFacts(version=0, root="", delegated="", controllers=())


@dataclass(frozen=True, slots=True)
class CgroupSample:
    """One reading. Times in nanoseconds, memory in bytes, limits 0 for none."""

    cpu_usage: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    throttled_periods: int = 0
    periods: int = 0
    throttled: int = 0
    pids: int = 0
    pids_limit: int = 0
    memory_usage: int = 0
    memory_limit: int = 0
    memory_stat: tuple[tuple[str, int], ...] = ()
    oom_kills: int = 0
    io_read: int = 0
    io_write: int = 0


def mount_point(mountinfo: str) -> str:
    """The cgroup2 mount in the text of /proc/self/mountinfo, '' for none.

    On a unified host that is /sys/fs/cgroup, on a hybrid one
    /sys/fs/cgroup/unified; others (a container's) are found as well.
    """
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return left.split()[4].encode().decode("unicode_escape")
    return ""


def own_path(proc_cgroup: str) -> str:
    """Our cgroup2 path in the text of /proc/PID/cgroup (the line ``0::/…``), '' for none."""
    for line in proc_cgroup.splitlines():
        if line.startswith("0::"):
            # " (deleted)" follows when the cgroup was removed under us.
            return line[3:].removesuffix(" (deleted)")
    return ""


def find(*, proc: Path = Path("/proc")) -> CgroupFacts:
    """The cgroup2 hierarchy as this process may use it."""
    try:
        root = mount_point((proc / "self/mountinfo").read_text())
        own = own_path((proc / "self/cgroup").read_text())
    except OSError:
        return NONE
    if not root or not os.path.exists(f"{root}/cgroup.procs"):
        return NONE  # none, or covered by another mount
    path = Path(root + own) if own != "/" else Path(root)
    if path.name == ENGINE_LEAF:
        path = path.parent
    if path.name == SERVICE and is_delegated(path.parent / BESIDE):
        path = path.parent / BESIDE
    leaf = path / ENGINE_LEAF
    # A leaf that another account left here would keep prepare() from working.
    if not is_delegated(path) or (leaf.exists() and not is_delegated(leaf)):
        return CgroupFacts(version=2, root=root, delegated="", controllers=controllers_of(path))
    return CgroupFacts(version=2, root=root, delegated=str(path), controllers=controllers_of(path))


def is_delegated(path: Path) -> bool:
    """May this user make children here and move its own processes between them?

    Both files and the directory must be writable (cgroup-v2.rst, "Model of
    delegation"); root in a user namespace without delegation has none of them.
    """
    return all(
        os.access(target, os.W_OK)
        for target in (path, path / "cgroup.procs", path / "cgroup.subtree_control")
    )


def controllers_of(path: Path) -> tuple[str, ...]:
    """What ``cgroup.controllers`` offers here."""
    try:
        return tuple((path / "cgroup.controllers").read_text().split())
    except OSError:
        return ()


def prepare(facts: CgroupFacts) -> None:
    """Make the delegated subtree ready for containers: engine to its leaf, controllers on.

    Called once by the daemon before the first container; a no-op without
    delegation. Processes that fork while they are moved are caught by the next round.
    """
    if not facts.delegated:
        return
    subtree = Path(facts.delegated)
    leaf = subtree / ENGINE_LEAF
    with contextlib.suppress(FileExistsError):
        make(str(leaf))
    for _ in range(20):
        for pid in pids(subtree):
            _move(leaf, pid)
        try:
            enable(subtree, facts.controllers)
            return
        except SyscallError as error:
            if error.errno != errno.EBUSY:
                raise
    raise Unavailable(
        f"cannot hand on controllers in {subtree}: other processes keep starting there",
        hint="start rootlessd in a unit of its own: rootless system service install",
    )


def enable(path: Path, controllers: tuple[str, ...]) -> None:
    """Hand ``controllers`` on to the children of ``path``; those already on cost nothing."""
    active = (path / "cgroup.subtree_control").read_text().split()
    wanted = [f"+{name}" for name in controllers if name not in active]
    if wanted:
        write(path / "cgroup.subtree_control", " ".join(wanted))


def create(facts: CgroupFacts, name: str, *, parent: str = "") -> str:
    """Make the cgroup ``parent/name`` below the delegated subtree; its absolute path, '' for none.

    ``parent`` is ``--cgroup-parent``: a relative path (a leading slash is
    ignored), every part of which gets the controllers.
    """
    if not facts.delegated:
        return ""
    here = Path(facts.delegated)
    for part in [*(p for p in parent.split("/") if p), name]:
        if part in (".", ".."):
            raise HostUnsupported(f"cgroup parent {parent!r} leaves the delegated subtree")
        enable(here, facts.controllers)
        here = here / part
        with contextlib.suppress(FileExistsError):
            make(str(here))
    return str(here)


def make(path: str) -> None:
    """A cgroup that the container's processes, who are other users, can read; OSError."""
    os.mkdir(path)
    os.chmod(path, 0o755)  # noqa: S103 (whatever the umask is)


def attach(path: str, pid: int) -> None:
    """Move a process into the cgroup; 0 moves the caller."""
    write(Path(path) / "cgroup.procs", str(pid))


def _move(leaf: Path, pid: int) -> None:
    try:
        attach(str(leaf), pid)
    except SyscallError as error:
        if error.errno != errno.ESRCH:  # it ended meanwhile
            raise


def pids(path: Path) -> list[int]:
    """The processes directly in this cgroup; empty when it is gone."""
    try:
        return [int(word) for word in (path / "cgroup.procs").read_text().split()]
    except FileNotFoundError:
        return []


def write(file: Path, text: str) -> None:
    """One write(2) to a control file; errors name the file, the value and errno."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        raise SyscallError("write", f"{file}, {text!r}", error.errno or 0) from None


def freeze(path: str, *, frozen: bool, seconds: float = 10.0) -> None:
    """Stop or continue every process of the subtree, and wait until the kernel says so."""
    write(Path(path) / "cgroup.freeze", "1" if frozen else "0")
    if not _wait_event(path, "frozen", int(frozen), seconds):
        raise Unavailable(
            f"cgroup {path} did not {'freeze' if frozen else 'thaw'} within {seconds:.0f} s"
        )


def kill(path: str) -> None:
    """SIGKILL to every process of the subtree at once (``cgroup.kill``, Linux 5.14)."""
    try:
        write(Path(path) / "cgroup.kill", "1")
    except SyscallError as error:
        if not os.path.isdir(path):
            return
        if error.errno == errno.ENOENT:
            raise HostUnsupported(
                "this kernel has no cgroup.kill", hint="Linux 5.14 or newer is needed"
            ) from None
        raise


def remove(path: str, *, seconds: float = 10.0) -> None:
    """Remove the cgroup and all below it, killing what still runs there; absent is done."""
    kill(path)
    if not _wait_event(path, "populated", 0, seconds):
        raise Unavailable(
            f"cgroup {path} still has processes {seconds:.0f} s after they were killed",
            hint="a process in uninterruptible sleep keeps it: see its /proc/PID/stack",
        )
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise SyscallError("rmdir", directory, error.errno or 0) from None


def _wait_event(path: str, key: str, value: int, seconds: float) -> bool:
    """Wait until ``cgroup.events`` has ``key value``; True also when the cgroup is gone.

    The file wakes poll(2) with POLLPRI at each change, so nothing spins.
    """
    deadline = time.monotonic() + seconds
    try:
        fd = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while True:
            try:
                events = parse_flat(os.pread(fd, 4096, 0).decode())
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return True
                raise
            if events.get(key, value) == value:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
    finally:
        os.close(fd)


def parse_flat(text: str) -> dict[str, int]:
    """The "flat keyed" format: one ``key value`` a line; ``max`` becomes 0."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
        elif value == "max":
            found[key] = 0
    return found


def _read(path: Path, name: str) -> str:
    """A control file's text, '' where the controller is not enabled."""
    try:
        return (path / name).read_text()
    except OSError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def io_totals(text: str) -> tuple[int, int]:
    """Bytes read and written over all devices, from the text of ``io.stat``."""
    totals = {"rbytes": 0, "wbytes": 0}
    for line in text.splitlines():
        for pair in line.split()[1:]:
            key, _, value = pair.partition("=")
            if key in totals and value.isdigit():
                totals[key] += int(value)
    return totals["rbytes"], totals["wbytes"]


def sample(path: str) -> CgroupSample:
    """Read the counters; those of controllers that are not enabled stay 0."""
    here = Path(path)
    cpu = parse_flat(_read(here, "cpu.stat"))
    read, written = io_totals(_read(here, "io.stat"))
    return CgroupSample(
        cpu_usage=cpu.get("usage_usec", 0) * 1000,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled=cpu.get("throttled_usec", 0) * 1000,
        pids=_number(_read(here, "pids.current")),
        pids_limit=_number(_read(here, "pids.max")),
        memory_usage=_number(_read(here, "memory.current")),
        memory_limit=_number(_read(here, "memory.max")),
        memory_stat=tuple(parse_flat(_read(here, "memory.stat")).items()),
        oom_kills=oom_kills(path),
        io_read=read,
        io_write=written,
    )


def oom_kills(path: str) -> int:
    """Processes of this cgroup that the kernel killed for want of memory so far."""
    return parse_flat(_read(Path(path), "memory.events")).get("oom_kill", 0)
