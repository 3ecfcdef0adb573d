"""A host that has everything but delegated cgroups; tests replace what they are about."""

from __future__ import annotations

from rootless.model.facts import CgroupFacts, HostFacts

HOST = HostFacts(
    kernel=(6, 1),
    arch="x86_64",
    uid=1000,
    gid=1000,
    user="tester",
    id_count=65537,
    native_overlay=True,
    fuse_overlayfs="/usr/bin/fuse-overlayfs",
    slirp4netns="/usr/bin/slirp4netns",
    landlock_abi=4,
    seccomp_user_notif=True,
    selinux=False,
    cgroup=CgroupFacts(2, "/sys/fs/cgroup", "", ()),
)
