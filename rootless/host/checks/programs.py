"""Programs and libraries the engine starts or loads."""

from __future__ import annotations

import ctypes.util
import re

from rootless.host.facts import Host
from rootless.host.result import CheckResult, Subject
from rootless.linux import probe

SLIRP_MINIMUM = (1, 0, 0)
"""--enable-sandbox and --enable-seccomp came with 0.4, and were made to last with 1.0."""


def fuse_overlayfs(host: Host) -> CheckResult:
    """fuse-overlayfs is installed."""
    found = host.program("fuse-overlayfs")
    return Subject("fuse-overlayfs", "fuse-overlayfs").judge(
        found or "not installed",
        ok=bool(found),
        cost="--userns=auto does not work, nor hosts without native overlay",
        fix="sudo apt-get install fuse-overlayfs",
    )


def slirp4netns(host: Host) -> CheckResult:
    """slirp4netns is installed and new enough."""
    subject = Subject("slirp4netns", "slirp4netns", required=True)
    fix = "sudo apt-get install slirp4netns"
    cost = "no network by default: only --network none and host work"
    found = host.program("slirp4netns")
    if not found:
        return subject.missing("not installed", cost=cost, fix=fix)
    if not host.live:
        return subject.found(found)
    _, output = host.run([found, "--version"])
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", output)
    version = tuple(int(part) for part in match.groups()) if match else (0, 0, 0)
    return subject.judge(
        f"{found} {'.'.join(map(str, version))}", ok=version >= SLIRP_MINIMUM, cost=cost, fix=fix
    )


def libseccomp(host: Host) -> CheckResult:
    """libseccomp.so.2, which compiles profiles."""
    subject = Subject("libseccomp", "libseccomp", required=True)
    name = _seccomp_library(host)
    return subject.judge(
        name or "not installed",
        ok=bool(name),
        cost="no seccomp profile can be compiled, so no container starts",
        fix="sudo apt-get install libseccomp2",
    )


def _seccomp_library(host: Host) -> str:
    return _library(host, "seccomp", 2)


def libnftables(host: Host) -> CheckResult:
    """libnftables.so.1, which makes the rules of bridge networks."""
    name = _library(host, "nftables", 1)
    return Subject("nftables", "libnftables").judge(
        name or "not installed",
        ok=bool(name),
        cost="there are no bridge networks: every container has a slirp4netns of its own, "
        "and rootless network create and compose files do not work",
        fix="sudo apt-get install nftables",
    )


def _library(host: Host, name: str, version: int) -> str:
    file = f"lib{name}.so.{version}"
    for directory in ("/usr/lib", "/lib", "/usr/lib64", "/lib64"):
        for found in host.path(directory).glob(f"*/{file}"):
            return f"/{found.relative_to(host.root)}"
        if host.path(f"{directory}/{file}").exists():
            return f"{directory}/{file}"
    return (ctypes.util.find_library(name) or "") if host.live else ""


def busybox(host: Host) -> CheckResult:
    """A static busybox, from which the built-in image is made."""
    found = host.program("busybox")
    static = bool(found) and probe.is_static(str(host.path(found)))
    return Subject("busybox", "static busybox").judge(
        found if static else f"{found} is not statically linked" if found else "not installed",
        ok=static,
        cost="there is no built-in image; others can be pulled or loaded",
        fix="sudo apt-get install busybox-static",
    )


def init(host: Host) -> CheckResult:
    """A static init program for ``--init``."""
    found = probe.init_binary() if host.live else host.program("catatonit")
    return Subject("init", "init program for --init").judge(
        found or "not installed",
        ok=bool(found),
        cost="rootless run --init does not work",
        fix="sudo apt-get install catatonit",
    )
