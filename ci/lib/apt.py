"""Debian packages: which are missing, and installing those."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from lib.say import SetupFailed, note, run

ENGINE = (
    "uidmap",
    "fuse-overlayfs",
    "slirp4netns",
    "libseccomp2",
    "nftables",
    "busybox-static",
    "catatonit",
    "iproute2",
    "ca-certificates",
)
"""What the engine uses at run time; busybox-static becomes the built-in image."""

PYTHON = ("python3-venv",)

TESTS = (
    *ENGINE,
    *PYTHON,
    "docker-compose",
    "docker-registry",
    "openssl",
    "skopeo",
    "debootstrap",
    "tini",
    "util-linux",
    "attr",
    "acl",
    "procps",
    "git",
    "crun",
    "rsyslog",
    "systemd",
)
"""What the tests use besides: a real registry, real log daemons, a second runtime, tools."""


def missing(names: tuple[str, ...]) -> list[str]:
    """Those of ``names`` that dpkg does not list as installed."""
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        check=False,
        text=True,
    )
    present = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in present]


def ensure(names: tuple[str, ...]) -> bool:
    """Install what is missing; True when something was. Without root only say what is missing."""
    if shutil.which("dpkg-query") is None:
        note("not a Debian machine: taking the installed programs as they are")
        return False
    absent = missing(names)
    if not absent:
        return False
    if os.geteuid() != 0:
        note(f"not root, going on without: {' '.join(absent)}")
        return False
    note(f"installing Debian packages: {' '.join(absent)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    # A machine's lists may be days old and name versions that the mirror has dropped.
    run(["apt-get", "-o", "DPkg::Lock::Timeout=120", "update", "-q"], env=env)
    run(
        [
            "apt-get",
            "-o",
            "DPkg::Lock::Timeout=120",
            "install",
            "-q",
            "-y",
            "--no-install-recommends",
            *absent,
        ],
        env=env,
    )
    still = missing(tuple(absent))
    if still:
        raise SetupFailed(f"apt-get installed everything but {' '.join(still)}")
    return True


def docker_client(cache: Path) -> str:
    """A directory with Docker's command-line client, '' when PATH has one or none can be had.

    The tests drive the engine with it. Debian 13 has it as docker-cli; in
    Debian 12 it is part of docker.io, which also brings and starts the daemon:
    there only the program is taken out of the package.
    """
    if shutil.which("docker") or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return ""
    place = cache / "docker-client"
    if not (place / "usr/bin/docker").exists():
        note("taking Docker's command-line client from its Debian package")
        run(["apt-get", "update", "-q"])
        name = "docker-cli" if _is_known("docker-cli") else "docker.io"
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            os.chmod(work, 0o777)  # noqa: S103 (apt downloads as its own user)
            run(["apt-get", "download", "-q", name], cwd=work)
            (package,) = Path(work).glob("*.deb")
            run(["dpkg-deb", "-x", str(package), str(place)])
    return str(place / "usr/bin")


def _is_known(name: str) -> bool:
    shown = subprocess.run(
        ["apt-cache", "show", name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return shown.returncode == 0
