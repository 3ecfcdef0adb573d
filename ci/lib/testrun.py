"""ci/test: from a bare Debian machine to test results."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib import account, apt, checkout, pyenv, supervise
from lib.say import SetupFailed, note, open_standard_streams

USAGE = """usage: ci/test [unit|integration|lint|fuzz|all] [pytest arguments]

Installs what the tests need (as root, or through sudo), then runs them as an
unprivileged user. Without root it takes the machine as it is.
"""
LANES = {
    "unit": ["tests/unit"],
    "integration": ["tests/integration", "tests/conformance"],
    "lint": ["tests/lint"],
    "fuzz": ["tests/fuzz"],
    "all": ["tests"],
}
TEST_USER = "rootless-test"
LIMIT_SECONDS = 39 * 60
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(argv: list[str]) -> int:
    """The whole command; returns the exit status."""
    open_standard_streams()
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    lane, arguments = ("all", argv)
    if argv and argv[0] in LANES:
        lane, arguments = argv[0], argv[1:]
    os.umask(0o022)
    try:
        status = _run(lane, arguments)
        if lane == "all" and not arguments:
            status = _in_machine() or status
        return status
    except (SetupFailed, OSError) as error:
        print(f"ci/test: {error}", file=sys.stderr)
        return 1


def _in_machine() -> int:
    """The short form of ci/vm, where its machine can be made and run; said loudly where not."""
    from vmlane import image
    from vmlane.main import main as vm

    reason = ""
    if os.geteuid() != 0:
        reason = "only root can build the machine's disk"
    elif platform.machine() != "x86_64":
        reason = f"the machine is one for x86_64, and this is {platform.machine()}"
    else:
        try:
            apt.ensure(image.HOST_PACKAGES)
            image.ensure(checkout.ROOT)
        except (SetupFailed, OSError, subprocess.CalledProcessError) as error:
            reason = str(error)
    if reason:
        note(f"NOT RUN: SELinux, delegated limits and the service unit (ci/vm --short): {reason}")
        return 0
    return vm(["--short", "--results", str(pyenv.cache_root() / "machine-results")])


def _run(lane: str, arguments: list[str]) -> int:
    started = time.monotonic()
    root = checkout.ROOT
    apt.ensure(apt.TESTS)
    docker = apt.docker_client(pyenv.cache_root())
    venv = pyenv.ensure(root / "pyproject.toml", ("test",))
    user = account.ensure(TEST_USER) if os.geteuid() == 0 else account.current()
    cgroup = ""
    if user.switch:
        cgroup = prepare_host(root, user.name)
    # Short: a unix socket's path has 107 bytes, and tests nest directories below.
    place = Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
    try:
        place.chmod(0o755)
        env = _lay_out(place, root, venv, user)
        env["PATH"] += f":{docker}" * bool(docker)
        note(f"running {lane} tests as {user.name} ({time.monotonic() - started:.0f} s of set-up)")
        targets = [] if any(a.startswith("tests/") for a in arguments) else LANES[lane]
        return supervise.run(
            [
                str(place / "venv/bin/python"),
                *("-m", "pytest", "-o", f"cache_dir={place}/t/cache"),
                *targets,
                *arguments,
            ],
            account=user,
            env=env,
            cwd=str(place / "src"),
            seconds=LIMIT_SECONDS - (time.monotonic() - started),
            cgroup=cgroup,
        )
    finally:
        _remove(place)


def prepare_host(root: Path, name: str) -> str:
    """Apply ``rootless setup`` for the test user; the cgroup it may use, '' for none."""
    sys.path.insert(0, str(root))
    from rootless.errors import RootlessError
    from rootless.host import setup
    from rootless.host.facts import host_for

    try:
        host = host_for(name)
        setup.apply(host, packages=False, say=note)
        return setup.delegated_cgroup(host)
    except RootlessError as error:
        raise SetupFailed(str(error)) from None


def _lay_out(place: Path, root: Path, venv: Path, user: account.Account) -> dict[str, str]:
    """Copy checkout and data, make the user's directories; the environment of the tests."""
    checkout.copy(root, place / "src")
    env = {
        "PATH": f"{place}/venv/bin:{_PATH}",
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TMPDIR": str(place / "t"),
        "XDG_RUNTIME_DIR": str(place / "r"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(place / "t/hypothesis"),
        "ROOTLESS_TEST_SUPERVISOR": str(os.getpid()),
    }
    data = checkout.shared_data(root)
    if data is not None:
        checkout.copy_data(data, place / "data")
        env["ROOTLESS_SHARED_DATA"] = str(place / "data")
    for kept in ("CI", "TERM", "ROOTLESS_TEST_VM", "HYPOTHESIS_PROFILE"):
        if kept in os.environ:
            env[kept] = os.environ[kept]
    pyenv.overlay(venv, place / "venv", place / "src")
    # The copy is not the tests' to write, so its bytecode is compiled now, once.
    subprocess.run(
        [str(place / "venv/bin/python"), "-m", "compileall", "-q", str(place / "src/rootless")],
        stdin=subprocess.DEVNULL,
        check=False,
    )
    # Containers' processes are other users: they must get through TMPDIR, as through /tmp.
    for name, mode in (("t", 0o755), ("r", 0o700)):
        (place / name).mkdir(mode=mode)
        if user.switch:
            os.chown(place / name, user.uid, user.gid)
    return env


def _remove(place: Path) -> None:
    """Remove the run's directory; files of subordinate ids need the user's own namespace."""
    shutil.rmtree(place, ignore_errors=True)
    if place.exists():
        subprocess.run(
            ["unshare", "--user", "--map-root-user", "--map-auto", "rm", "-rf", str(place)],
            stdin=subprocess.DEVNULL,
            check=False,
        )
