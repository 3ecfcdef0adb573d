"""Device nodes that helpers open."""

from __future__ import annotations

from rootless.host.facts import Host
from rootless.host.result import CheckResult, Subject


def fuse(host: Host) -> CheckResult:
    """/dev/fuse, for fuse-overlayfs."""
    return _device(
        host,
        Subject("dev-fuse", "/dev/fuse"),
        "/dev/fuse",
        "no fuse-overlayfs: --userns=auto does not work, nor hosts without native overlay",
    )


def tun(host: Host) -> CheckResult:
    """/dev/net/tun, for slirp4netns."""
    return _device(
        host,
        Subject("dev-tun", "/dev/net/tun", required=True),
        "/dev/net/tun",
        "no network by default: only --network none and host work",
    )


def _device(host: Host, subject: Subject, path: str, cost: str) -> CheckResult:
    if not host.path(path).exists():
        detail = "no such device"
    elif not host.may_open(path):
        mode = host.path(path).stat().st_mode & 0o7777
        detail = f"{host.user} may not open it (mode {mode:04o})"
    else:
        return subject.found("readable and writable")
    return subject.missing(detail, cost=cost, fix=f"sudo rootless setup --user {host.user}")
