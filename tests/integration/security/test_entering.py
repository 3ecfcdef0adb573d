"""The moments before the program runs, when a container's processes could reach the engine's."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.errors import RootlessError, StartFailed
from rootless.linux.users import ResolvedUser
from rootless.model.plan import ProcessPlan
from rootless.model.spec import PrivilegesSpec
from rootless.resources import resource_path
from rootless.runtime import init, wire
from rootless.seccomp.compile import filter_for, store_raw
from tests.integration.storage.conftest import run_in_engine
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.integration

ROOT = ResolvedUser(0, 0, (), "/root")
LINKS = (*(f"/proc/self/fd/{number}" for number in range(40)), "/proc/self/cwd", "/proc/self/root")


async def test_no_link_of_proc_is_a_working_directory(sandbox: Sandbox) -> None:
    """A descriptor of the engine's that is still open would lead out (CVE-2024-21626)."""
    spec = await sandbox.spec("pwd")
    for link in (*LINKS, "/proc/self/fd/7/../../../.."):
        with pytest.raises(StartFailed, match="cannot enter the working directory"):
            await sandbox.start(replace(spec, process=replace(spec.process, cwd=link)))


async def test_no_link_of_proc_is_the_working_directory_of_an_exec(sandbox: Sandbox) -> None:
    spec = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(spec)
    for link in LINKS:
        with pytest.raises(RootlessError, match="cannot enter the working directory"):
            await sandbox.exec(spec, "pwd", working_dir=link)
    await client.signal(9)
    await client.wait()


def _enter_outside(inside: str) -> str:
    """``enter_directory`` with a root that lies outside the process' own root."""
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY)
    os.chroot(inside)
    plan = ProcessPlan(("x",), (), "/", "", (), 0, no_new_privileges=True, seccomp="")
    try:
        init.enter_directory(plan, outside, ROOT)
    except StartFailed as error:
        return error.message
    return os.getcwd()


def test_a_directory_outside_is_noticed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    found = run_in_engine(_enter_outside, str(tmp_path))
    assert found != "/"
    assert "the working directory '/'" in found


async def test_the_filter_is_loaded_without_no_new_privileges(sandbox: Sandbox) -> None:
    privileges = PrivilegesSpec((), no_new_privileges=False)
    spec = await sandbox.spec("grep", "-E", "Seccomp:|NoNew", "/proc/self/status")
    text = resource_path("profiles", "seccomp/default.json").read_text()
    cache = sandbox.base / "seccomp"
    cache.mkdir()
    made = filter_for(text, (), os.uname().machine, (6, 1), cache_dir=cache)
    path = str(store_raw(cache, made.loaded))
    _, log = await sandbox.run(
        replace(spec, privileges=privileges), seccomp_path=path, seccomp_flags=made.flags
    )
    assert log.split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]


async def test_nobody_inside_may_look_at_init_or_at_an_exec(sandbox: Sandbox) -> None:
    """Until the program runs these are the engine's own, and undumpable (CVE-2016-9962).

    The files in /proc of such a process belong to root of the user namespace in
    which its program was executed (proc(5)): the engine's, that is, to the user.
    """
    spec = await sandbox.spec("sleep", "1000")
    created = await sandbox.create(spec)
    assert os.stat(f"/proc/{created.init_pid}/mem").st_uid == os.getuid()
    created.close_fds()
    await created.go()
    begun, _ = await sandbox.exec(spec, "true")
    assert os.stat(f"/proc/{begun.init_pid}/mem").st_uid == os.getuid()
    assert os.stat(f"/proc/{created.init_pid}/mem").st_uid != os.getuid()
    begun.cancel()
    os.kill(created.shim_pid, 9)


def _in_fork(probe: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = int(probe())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_descriptor_that_leaked_ends_with_the_exec() -> None:
    """Whatever a library left open and inheritable, the program does not get it."""

    def probe() -> bool:
        leaked = os.open("/", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        init._take_streams([0, 1, 2], ROOT, terminal=False)
        return bool(fcntl.fcntl(leaked, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)

    assert _in_fork(probe) == 1


def test_init_imports_nothing_once_it_runs() -> None:
    """A path of the engine's may exist in an image, with other content."""
    assert "colorsys" not in sys.modules

    def become_root() -> None:
        try:
            import colorsys  # noqa: F401 - the import is what is tried
        except (ImportError, ImportWarning):
            os._exit(1)
        os._exit(0)

    def probe() -> bool:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire.send(ours, {"mapped": True})
        init.become_root = become_root
        init.run(None, theirs, theirs, spare=False, enters=False, template=b"", last_capability=40)  # type: ignore[arg-type]  # no plan comes that far

    assert _in_fork(probe) == 1
