"""What this host can do, probed once by the daemon (``linux.probe``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CgroupFacts:
    """``root`` is the cgroup2 mount, ``delegated`` the writable subtree below it ('' for none).

    ``controllers`` are those the subtree can hand on (cgroup.controllers).
    """

    version: int
    root: str
    delegated: str
    controllers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Static facts the planner and the policy may look at."""

    kernel: tuple[int, int]
    arch: str
    """As in uname(2): x86_64, aarch64, …"""
    uid: int
    gid: int
    user: str
    id_count: int
    """Ids in the engine's user namespace, including 0."""
    native_overlay: bool
    fuse_overlayfs: str
    """Path of the program, '' when missing."""
    slirp4netns: str
    landlock_abi: int
    seccomp_user_notif: bool
    selinux: bool
    cgroup: CgroupFacts
    init_binary: str = ""
