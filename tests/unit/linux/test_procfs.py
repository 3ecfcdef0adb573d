"""Reading /proc: hostile names, processes that end, and our own real process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rootless.linux import procfs
from rootless.model.mounts import IdMap


def test_stat_line_with_hostile_name() -> None:
    line = "42 (a) R (b ) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n"
    found = procfs.parse_stat(line)
    assert (found.pid, found.comm, found.state, found.ppid) == (42, "a) R (b ", "S", 1)
    assert (found.utime, found.stime, found.threads, found.start) == (11, 12, 17, 19)


def test_own_process() -> None:
    pid = os.getpid()
    found = procfs.stat(pid)
    assert found.ppid == os.getppid()
    assert procfs.is_alive(pid, found.start)
    assert not procfs.is_alive(pid, found.start + 1)
    assert procfs.status(pid)["Pid"] == str(pid)
    assert procfs.cmdline(pid)
    assert procfs.pss(pid) > 1 << 20
    assert procfs.pid_inside(pid) >= 1
    assert procfs.namespace(pid, "pid") == os.stat("/proc/self/ns/pid").st_ino
    assert pid in procfs.descendants(os.getppid())


def test_id_map_format(tmp_path: os.PathLike[str]) -> None:
    directory = os.path.join(tmp_path, "7")
    os.mkdir(directory)
    with open(os.path.join(directory, "uid_map"), "w", encoding="ascii") as file:
        file.write("         0       1001          1\n         1     100000      65536\n")
    assert procfs.id_map(7, proc=str(tmp_path)) == (IdMap(0, 1001, 1), IdMap(1, 100_000, 65_536))


def test_process_that_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    child.wait()
    for read in (procfs.stat, procfs.status, procfs.cmdline, procfs.pss, procfs.id_map):
        with pytest.raises(ProcessLookupError):
            read(child.pid)
    assert not procfs.is_alive(child.pid, 1)


def test_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = procfs.stat(pid)
    assert found.state == "Z"
    assert not procfs.is_alive(pid, found.start)
    assert procfs.cmdline(pid) == ()
    os.waitpid(pid, 0)
