"""ci/quickstart: from a bare Debian machine to a running container."""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from lib import account, apt, checkout, install
from lib.account import Account
from lib.say import SetupFailed, note, open_standard_streams

DEFAULT_USER = "rootless"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEMO = (
    'echo "inside:  $(id -un), uid $(id -u); process 1 is: $(tr "\\0" " " < /proc/1/cmdline)"; '
    "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status"
)


def main(argv: list[str]) -> int:
    """The whole command; returns the exit status."""
    open_standard_streams()
    parser = argparse.ArgumentParser(
        prog="ci/quickstart",
        description="Install rootless on this Debian machine, prepare it for an unprivileged "
        "user, start the engine as that user and run a container. Safe to run again.",
    )
    parser.add_argument("--user", help=f"the user to prepare (default: yours, or {DEFAULT_USER})")
    options = parser.parse_args(argv)
    os.umask(0o022)
    try:
        if os.geteuid() != 0:
            raise SetupFailed("this installs packages and needs root: sudo ci/quickstart")
        return _run(options.user or os.environ.get("SUDO_USER") or DEFAULT_USER)
    except (SetupFailed, OSError) as error:
        print(f"ci/quickstart: {error}", file=sys.stderr)
        return 1


def _run(name: str) -> int:
    started = time.monotonic()
    root = checkout.ROOT
    apt.ensure(apt.ENGINE + apt.PYTHON)
    upgraded = install.ensure(root)
    user = account.ensure(DEFAULT_USER if name == "root" else name)
    cgroup = _prepare(root, user)
    if upgraded:
        _stop_daemon(user)
    image = _image(user, cgroup)
    _demonstrate(user, cgroup, image)
    print(_closing(user, image, time.monotonic() - started))
    return 0


def _prepare(root: Path, user: Account) -> str:
    """``rootless setup`` for the user; the cgroup its processes may be started in, '' for none."""
    sys.path.insert(0, str(root))
    from rootless.errors import RootlessError
    from rootless.host import setup
    from rootless.host.facts import host_for

    try:
        host = host_for(user.name)
        setup.apply(host, packages=False, say=note)
        _await_runtime_dir(user)
        return setup.delegated_cgroup(host)
    except RootlessError as error:
        raise SetupFailed(str(error)) from None


def _await_runtime_dir(user: Account) -> None:
    """With systemd, lingering makes /run/user/UID; it takes a moment."""
    deadline = time.monotonic() + 20
    while not os.path.isdir(user.runtime_dir):
        if time.monotonic() > deadline:
            raise SetupFailed(f"{user.runtime_dir} does not appear; log in as {user.name} once")
        time.sleep(0.1)


def _image(user: Account, cgroup: str) -> str:
    """The name of the built-in image, which a new engine makes while it already serves."""
    command = ("rootless", "images", "--format", "{{.Repository}}:{{.Tag}}")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line in _output(user, cgroup, *command).splitlines():
            if line.startswith("rootless/"):
                return line
        time.sleep(0.2)
    raise SetupFailed("the engine has no built-in image: is busybox-static installed?")


def _demonstrate(user: Account, cgroup: str, image: str) -> None:
    """Run a container, look at it from inside and, as root, from outside; then remove it."""
    note(f"as {user.name}: rootless run -d {image} sleep 300; rootless exec …; rootless rm -f …")
    run = ("rootless", "run", "--detach", image, "sleep", "300")
    container = _output(user, cgroup, *run).strip()
    try:
        inspect = ("rootless", "inspect", "--format", "{{.State.Pid}}", container)
        pid = _output(user, cgroup, *inspect).strip()
        uid = Path(f"/proc/{pid}/uid_map").read_text().split()[1]
        print(_output(user, cgroup, "rootless", "exec", container, "sh", "-c", _DEMO), end="")
        print(
            f"outside: uid {uid}, which is nobody's account; the engine is {user.uid}", flush=True
        )
    finally:
        _output(user, cgroup, "rootless", "rm", "--force", container)


def _environment(user: Account) -> dict[str, str]:
    return {
        "PATH": _PATH,
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "XDG_RUNTIME_DIR": user.runtime_dir,
    }


def _start(user: Account, cgroup: str, command: tuple[str, ...], output: int | None) -> Popen:
    def become() -> None:
        if cgroup:
            with open(f"{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
                file.write("0")
        os.initgroups(user.name, user.gid)
        os.setgid(user.gid)
        os.setuid(user.uid)

    return subprocess.Popen(
        command,
        env=_environment(user),
        cwd=user.home,
        stdin=subprocess.DEVNULL,
        stdout=output,
        preexec_fn=become,  # noqa: PLW1509 (single-threaded here)
    )


Popen = subprocess.Popen[bytes]


def _as_user(user: Account, cgroup: str, *command: str) -> int:
    """Run a command as the user; its exit status."""
    return _start(user, cgroup, command, None).wait()


def _output(user: Account, cgroup: str, *command: str) -> str:
    """A command's standard output; it must succeed."""
    process = _start(user, cgroup, command, subprocess.PIPE)
    text = process.communicate()[0].decode(errors="replace")
    if process.returncode != 0:
        _as_user(user, cgroup, "rootless", "doctor")
        raise SetupFailed(f"{' '.join(command)} ended with status {process.returncode}")
    return text


def _stop_daemon(user: Account) -> None:
    """End a daemon of the version before; running containers outlive it and are found again."""
    pidfile = Path(user.runtime_dir) / "rootless/rootlessd.pid"
    try:
        pid = int(pidfile.read_text())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        if Path(f"/proc/{pid}").stat().st_uid == user.uid:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            note("restarting the engine with the new version")
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            if not poller.poll(60_000):
                raise SetupFailed(f"the old engine (process {pid}) does not end; see its log")
    except OSError:
        return
    finally:
        os.close(pidfd)


def _closing(user: Account, image: str, seconds: float) -> str:
    login = (
        f"sudo -iu {user.name}" if user.name != os.environ.get("SUDO_USER") else "your own shell"
    )
    return f"""
What just happened ({seconds:.0f} s): rootless is installed in {install.PREFIX}, this machine is
prepared for {user.name}, the engine runs as {user.name}, and a container ran in it whose root is
a subordinate id, without new privileges and behind a seccomp filter.

Type next, as {user.name} ({login}):
    rootless run --rm -it {image} sh      a shell in a container
    rootless doctor                       what this machine has and lacks
    rootless ps -a; rootless --help       and everything else
Take the preparation back with: rootless setup --user {user.name} --undo (as root)"""
