"""``rootless system service install|uninstall|status``."""

from __future__ import annotations

import os
import sys

from rootless.cli.command import Command, Invocation
from rootless.cli.flags import UsageError
from rootless.cli.units_text import containers_unit, service_unit, socket_unit
from rootless.client import paths
from rootless.client.autostart import ARGUMENTS
from rootless.errors import HostUnsupported, RootlessError


def unit_files() -> dict[str, str]:
    """Path and content of every unit."""
    directory = f"{paths.config_dir()}/systemd/user"
    return {
        f"{directory}/rootless.socket": socket_unit(),
        f"{directory}/rootless-containers.service": containers_unit(),
        f"{directory}/rootless.service": service_unit((sys.executable, *ARGUMENTS)),
    }


def _systemctl(*words: str, check: bool = True) -> tuple[int, str]:
    import subprocess

    try:
        done = subprocess.run(
            ["systemctl", "--user", *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise HostUnsupported(
            "systemctl is not installed: this host has no systemd",
            hint="the CLI starts the daemon on demand; no service is needed",
        ) from None
    output = (done.stdout + done.stderr).strip()
    if done.returncode and "bus" in output.lower():
        raise HostUnsupported(
            f"the systemd user manager cannot be reached: {output.splitlines()[0]}",
            hint="log in through a session (ssh or machinectl shell), "
            "and run: loginctl enable-linger",
        )
    if done.returncode and check:
        raise RootlessError(f"systemctl --user {' '.join(words)} failed: {output}")
    return done.returncode, output


def _write(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    return True


def _install() -> int:
    for path, text in unit_files().items():
        sys.stdout.write(f"{'wrote' if _write(path, text) else 'unchanged'}: {path}\n")
    sys.stdout.flush()
    _systemctl("daemon-reload")
    _systemctl("enable", "--now", "rootless.socket")
    sys.stdout.write(
        "enabled: rootless.socket (the daemon starts at the first connection)\n"
        "To keep containers running after you log out: loginctl enable-linger\n"
    )
    return 0


def _uninstall() -> int:
    _systemctl("disable", "--now", "rootless.socket", "rootless.service", check=False)
    _systemctl("stop", "rootless-containers.service", check=False)
    for path in unit_files():
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        sys.stdout.write(f"removed: {path}\n")
    _systemctl("daemon-reload")
    return 0


def _status() -> int:
    for path, text in unit_files().items():
        try:
            with open(path, encoding="utf-8") as file:
                state = "installed" if file.read() == text else "differs from this version's"
        except FileNotFoundError:
            state = "not installed"
        sys.stdout.write(f"{os.path.basename(path)}: {state}\n")
    sys.stdout.flush()
    code, output = _systemctl("is-active", "rootless.socket", "rootless.service", check=False)
    for name, state in zip(("socket", "service"), output.splitlines(), strict=False):
        sys.stdout.write(f"{name}: {state}\n")
    return 0 if code == 0 or "active" in output.splitlines()[:1] else 3


_ACTIONS = {"install": _install, "uninstall": _uninstall, "status": _status}


def run(call: Invocation) -> int:
    """Install, remove or show the user service."""
    action = _ACTIONS.get(call.args[0])
    if action is None:
        raise UsageError(
            f"unknown action: {call.args[0]}", hint="one of install, uninstall, status", status=1
        )
    return action()


COMMAND = Command(
    run,
    usage="system service install|uninstall|status",
    summary="Run the daemon as a systemd user service",
    description="""
install writes rootless.socket, rootless.service and rootless-containers.service
to your systemd user units, with socket activation and a delegated cgroup for
containers, so that limits on memory, CPU and processes work, and enables the
socket. Containers go on when the service is restarted or stopped.
""",
    min_args=1,
    max_args=1,
    exit_codes="  0      success (status: active)\n  1      failure\n  3      status: not active",
    examples="rootless system service install",
)
