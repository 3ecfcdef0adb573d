"""Every prerequisite, one small function each; this list is the order they are shown in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rootless.host.checks import devices, ids, kernel, programs, session
from rootless.host.facts import Host
from rootless.host.result import CheckResult

CHECKS: tuple[Callable[[Host], CheckResult], ...] = (
    kernel.version,
    kernel.user_namespaces,
    kernel.apparmor,
    partial(ids.helper, kind="uid"),
    partial(ids.helper, kind="gid"),
    partial(ids.ranges, kind="uid"),
    partial(ids.ranges, kind="gid"),
    ids.width,
    kernel.overlay,
    devices.fuse,
    programs.fuse_overlayfs,
    devices.tun,
    programs.slirp4netns,
    programs.libnftables,
    kernel.seccomp,
    kernel.seccomp_notify,
    programs.libseccomp,
    kernel.landlock,
    kernel.selinux,
    session.cgroup_v2,
    session.controllers,
    session.runtime_dir,
    session.linger,
    programs.busybox,
    programs.init,
)
