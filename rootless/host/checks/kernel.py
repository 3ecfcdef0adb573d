"""The kernel: version, user namespaces, filters, security modules, overlay."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from rootless.host.facts import Host
from rootless.host.result import CheckResult, Subject
from rootless.linux import probe
from rootless.linux import selinux as labels

_NO_CONTAINER = "no container can start"
_NEW_KERNEL = "install a newer kernel, on Debian: sudo apt-get install linux-image-amd64"
MINIMUM = (5, 11)
"""Oldest kernel that has what every sandbox uses: openat2 (5.6), close_range (5.9),
and mounts in user namespaces without the gaps closed in 5.11."""


def version(host: Host) -> CheckResult:
    """The running kernel is new enough."""
    subject = Subject("kernel", "Linux kernel", required=True)
    release = host.sysctl("kernel.osrelease")
    return subject.judge(
        release or "unknown",
        ok=probe.parse_release(release) >= MINIMUM,
        cost=f"{_NO_CONTAINER}: Linux {MINIMUM[0]}.{MINIMUM[1]} is the oldest that works",
        fix=_NEW_KERNEL,
    )


def user_namespaces(host: Host) -> CheckResult:
    """Unprivileged users may make user namespaces, by the sysctls and by trying."""
    subject = Subject("userns", "user namespaces", required=True)
    fix = f"sudo rootless setup --user {host.user}"
    if not host.path("/proc/self/ns/user").is_symlink():
        return subject.missing(
            "the kernel was built without CONFIG_USER_NS", cost=_NO_CONTAINER, fix=_NEW_KERNEL
        )
    for name in ("user.max_user_namespaces", "kernel.unprivileged_userns_clone"):
        if host.sysctl(name) == "0":
            return subject.missing(f"sysctl {name} is 0", cost=_NO_CONTAINER, fix=fix)
    if host.live and host.program("unshare"):
        status, output = host.run(["unshare", "--user", "--map-root-user", "true"])
        if status != 0:
            return subject.missing(output.strip(), cost=_NO_CONTAINER, fix=fix)
    return subject.found(f"up to {host.sysctl('user.max_user_namespaces') or 'any number'}")


def apparmor(host: Host) -> CheckResult:
    """Ubuntu's AppArmor (23.10 and later) leaves unconfined programs without rights in them."""
    subject = Subject("apparmor", "AppArmor restriction of user namespaces", required=True)
    name = "kernel.apparmor_restrict_unprivileged_userns"
    value = host.sysctl(name)
    return subject.judge(
        f"{name} is {value}" if value else "this kernel has none",
        ok=value in ("", "0"),
        cost=f"{_NO_CONTAINER}: namespaces are made without capabilities",
        fix=f"sudo rootless setup --user {host.user}  (sets {name}=0)",
    )


def seccomp(host: Host) -> CheckResult:
    """Seccomp filters exist."""
    subject = Subject("seccomp", "seccomp filters", required=True)
    actions = probe.seccomp_actions(root=host.root)
    return subject.judge(
        "actions: " + " ".join(actions) if actions else "the kernel has no seccomp filters",
        ok="errno" in actions,
        cost=f"{_NO_CONTAINER} without --security-opt seccomp=unconfined",
        fix=_NEW_KERNEL,
    )


def seccomp_notify(host: Host) -> CheckResult:
    """User notification (Linux 5.0), which shows the calls that a profile denies."""
    subject = Subject("seccomp-notify", "seccomp user notification")
    ok = "user_notif" in probe.seccomp_actions(root=host.root)
    return subject.judge(
        "known to the kernel" if ok else "not known to the kernel",
        ok=ok,
        cost="--security-opt seccomp-log cannot name denied calls",
        fix=_NEW_KERNEL,
    )


def landlock(host: Host) -> CheckResult:
    """Landlock, asked of the kernel itself."""
    subject = Subject("landlock", "Landlock")
    abi = probe.landlock_abi() if host.live else 0
    return subject.judge(
        f"ABI {abi}" if abi else "not enabled",
        ok=abi > 0,
        cost="policies that need path or port rules of Landlock cannot be kept",
        fix="boot with lsm=landlock,… added to the kernel command line (Linux 5.13 or newer)",
    )


def selinux(host: Host) -> CheckResult:
    """SELinux, which only some distributions have: its state, policy, and container types."""
    subject = Subject("selinux", "SELinux")
    cost = "containers are separated by ids, namespaces and seccomp, not also by labels"
    if not probe.selinux_enabled(root=host.root):
        return subject.missing(
            "not enabled",
            cost=cost,
            fix="sudo apt-get install selinux-basics && sudo selinux-activate, then reboot",
        )
    enforcing = probe.selinux_enforcing(root=host.root)
    state = f"{'enforcing' if enforcing else 'permissive'}, policy {policy_name(host) or 'unknown'}"
    lacking = labels.lacking(labels.own_label()) if host.live else []
    if lacking:
        return subject.missing(
            f"{state}, which lacks {', '.join(lacking)}",
            cost=f"selinux-enabled does not work: {cost}",
            fix=f"sudo rootless setup --user {host.user}"
            if not lacking[0].startswith("the type")
            else "a policy with container types: container-selinux, or that of Debian 13",
        )
    return subject.judge(
        f"{state}, with container types", ok=enforcing, cost=cost, fix="sudo setenforce 1"
    )


def policy_name(host: Host) -> str:
    """The policy that is loaded at boot (selinux_config(5)), '' for none."""
    for line in host.read("/etc/selinux/config").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "SELINUXTYPE":
            return value.strip()
    return ""


def overlay(host: Host) -> CheckResult:
    """Overlay mounts inside a user namespace (Linux 5.13), tried where images will lie."""
    subject = Subject("overlay", "kernel overlay in user namespaces")
    cost = "fuse-overlayfs serves instead: 5 to 10 times slower on file metadata"
    release = probe.parse_release(host.sysctl("kernel.osrelease"))
    if release < (5, 13):
        return subject.missing(
            f"Linux {release[0]}.{release[1]} has it not", cost=cost, fix=_NEW_KERNEL
        )
    if not probe.has_filesystem("overlay", root=host.root):
        return subject.missing("no overlay file system", cost=cost, fix="sudo modprobe overlay")
    if host.live and host.uid == os.geteuid():
        return _try_overlay(host, subject, cost)
    return subject.found("the kernel has it (not tried: run doctor as the user itself)")


def _try_overlay(host: Host, subject: Subject, cost: str) -> CheckResult:
    """Mount one, in a namespace of its own, on the file system of the user's data."""
    base = Path(host.data_home)
    while not base.is_dir():
        base = base.parent
    if not os.access(base, os.W_OK):
        return subject.missing(
            f"{base} is not writable", cost="no image can be stored", fix=f"ls -ld {base}"
        )
    place = tempfile.mkdtemp(prefix=".rootless-doctor-", dir=base)
    try:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{place}/{name}")
        options = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work,userxattr"
        status, output = host.run(
            [
                *("unshare", "--user", "--map-root-user", "--mount", "mount"),
                *("-t", "overlay", "overlay", "-o", options, f"{place}/merged"),
            ]
        )
    finally:
        # overlayfs leaves work/work with mode 0, which its owner may still enter after a chmod.
        inner = f"{place}/work/work"
        if os.path.isdir(inner):
            os.chmod(inner, 0o700)
        shutil.rmtree(place)
    if status == 0:
        return subject.found(f"mounted one on {base}")
    return subject.missing(
        output.strip().splitlines()[-1] if output.strip() else f"mount ended with {status}",
        cost=cost,
        fix=f"keep the data on ext4, xfs or btrfs: set XDG_DATA_HOME (now below {base})",
    )
