"""Real programs live under the default filter."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from rootless.linux import process, seccomp
from rootless.resources import resource_path
from rootless.seccomp.compile import compile_filter
from rootless.seccomp.profile import parse_profile, resolve

pytestmark = pytest.mark.integration

PYTHON = """
import concurrent.futures, mmap, multiprocessing, os, socket, sqlite3, subprocess, tempfile
import threading, asyncio, ssl, ctypes
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(lambda n: n * n, range(100))) == 328350
assert subprocess.run(["true"]).returncode == 0
a, b = socket.socketpair(); a.send(b"x"); assert b.recv(1) == b"x"
server = socket.create_server(("127.0.0.1", 0)); socket.create_connection(server.getsockname())
socket.if_nameindex(); socket.getaddrinfo("localhost", 1)
async def child():
    return await (await asyncio.create_subprocess_exec("true")).wait()
assert asyncio.run(child()) == 0
sqlite3.connect(":memory:").execute("select 1")
shared = mmap.mmap(-1, 4096); os.memfd_create("x"); os.getrandom(1); os.eventfd(0)
assert multiprocessing.get_context("fork").Pool(2).map(abs, [-1]) == [1]
print("fine")
"""


@pytest.fixture(scope="module")
def bpf() -> bytes:
    caps = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT")
    text = resource_path("profiles", "seccomp/default.json").read_text()
    return compile_filter(resolve(parse_profile(text), caps, platform.machine(), (6, 18))).loaded


def run(bpf: bytes, *command: str, cwd: Path) -> str:
    def confine() -> None:
        process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
        seccomp.load_filter(bpf)

    done = subprocess.run(
        command,
        preexec_fn=confine,
        cwd=cwd,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(cwd)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with open("/proc/self/status", encoding="ascii") as file:
        assert "Seccomp:\t0" in file.read()
    return done.stdout + done.stderr


def test_the_filter_is_really_on(bpf: bytes, tmp_path: Path) -> None:
    assert "Seccomp:\t2" in run(bpf, "/usr/bin/busybox", "cat", "/proc/self/status", cwd=tmp_path)


def test_python(bpf: bytes, tmp_path: Path) -> None:
    program = os.path.realpath("/usr/bin/python3")
    assert run(bpf, program, "-I", "-W", "ignore", "-c", PYTHON, cwd=tmp_path) == "fine\n"


def test_busybox(bpf: bytes, tmp_path: Path) -> None:
    script = (
        "set -e; mkdir a; echo x >a/b; tar c a | gzip | gunzip | tar t | sort; "
        "ls -l a >/dev/null; find . -type f | xargs cat; ps >/dev/null; (sleep 0 & wait); "
        "awk 'BEGIN{print 6*7}'; ln -s b a/c; cp -a a d; chmod 600 d/b; "
        "mktemp -d >/dev/null; df . >/dev/null"
    )
    out = run(bpf, "/usr/bin/busybox", "sh", "-c", script, cwd=tmp_path)
    assert out.split() == ["a/", "a/b", "x", "42"]


def test_dpkg(bpf: bytes, tmp_path: Path) -> None:
    control = tmp_path / "p" / "DEBIAN"
    control.mkdir(parents=True)
    control.parent.chmod(0o755)
    control.chmod(0o755)
    (control / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: n <n@example.org>\nDescription: d\n"
    )
    run(bpf, "dpkg-deb", "--root-owner-group", "-b", "p", "x.deb", cwd=tmp_path)
    assert "Version: 1" in run(bpf, "dpkg-deb", "-I", "x.deb", cwd=tmp_path)
    root = tmp_path / "root"
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    listing = run(
        bpf, "dpkg", f"--root={root}", "--force-not-root", "--log=/dev/null", "--unpack", "x.deb",
        cwd=tmp_path,
    )  # fmt: skip
    assert "Unpacking x (1)" in listing


def test_apt(bpf: bytes, tmp_path: Path) -> None:
    assert run(bpf, "apt-cache", "policy", "dpkg", cwd=tmp_path).startswith("dpkg:")


def _others() -> list[list[str]]:
    """Programs with run-times of their own, as far as they are installed here."""
    commands = [
        ["docker-registry", "--version"],  # Go
        ["docker", "--version"],  # Go
        ["podman", "--version"],  # Go, with cgo
        ["node", "-e", "require('fs').readFile('/etc/hosts', () => console.log(1))"],
        ["java", "-Xint", "-version"],
        ["perl", "-e", "system('true') == 0 or die"],
        ["bash", "-c", "cat <(echo x) | sort >/dev/null"],
        ["git", "init", "-q", "repository"],
        ["gcc", "--version"],
    ]
    return [command for command in commands if shutil.which(command[0])]


@pytest.mark.parametrize("command", _others(), ids=lambda c: c[0])
def test_other_run_times(bpf: bytes, tmp_path: Path, command: list[str]) -> None:
    run(bpf, str(shutil.which(command[0])), *command[1:], cwd=tmp_path)
