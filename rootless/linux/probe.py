"""What this host can do, in a few milliseconds and without starting anything.

The daemon takes these facts once. Proofs that cost a process (mounting an
overlay, say) are ``rootless doctor``'s.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path

from rootless.errors import SyscallError
from rootless.linux import cgroupfs, libc, subids
from rootless.model.facts import HostFacts

_LANDLOCK_CREATE_RULESET_VERSION = 1
_PT_INTERP = 3
_NATIVE_OVERLAY = (5, 13)
# Debian keeps administrators' programs off an ordinary user's PATH.
_EXTRA_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_INITS = ("catatonit", "tini-static", "docker-init", "tini")


def probe() -> HostFacts:
    """The facts of this host for the calling user.

    Raises HostUnsupported when the user has no subordinate ids.
    """
    uid = os.getuid()
    uname = os.uname()
    kernel = parse_release(uname.release)
    return HostFacts(
        kernel=kernel,
        arch=uname.machine,
        uid=uid,
        gid=os.getgid(),
        user=subids.user_name(uid),
        id_count=subids.id_count(),
        native_overlay=kernel >= _NATIVE_OVERLAY and has_filesystem("overlay"),
        fuse_overlayfs=program("fuse-overlayfs") if os.access("/dev/fuse", os.R_OK) else "",
        slirp4netns=program("slirp4netns"),
        landlock_abi=landlock_abi(),
        seccomp_user_notif="user_notif" in seccomp_actions(),
        selinux=selinux_enabled(),
        cgroup=cgroupfs.find(),
        init_binary=init_binary(),
    )


def parse_release(release: str) -> tuple[int, int]:
    """Major and minor of uname's release: ``6.1.0-37-amd64`` → (6, 1)."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def program(name: str) -> str:
    """The absolute path of a program, '' when it is not installed."""
    return shutil.which(name) or shutil.which(name, path=_EXTRA_PATH) or ""


def has_filesystem(name: str, *, root: Path = Path("/")) -> bool:
    """Is the file system built in, loaded, or a module that mounting would load?"""
    try:
        text = (root / "proc/filesystems").read_text()
    except OSError:
        text = ""
    if any(line.split()[-1] == name for line in text.splitlines() if line.strip()):
        return True
    modules = root / "lib/modules" / os.uname().release / "modules.dep"
    try:
        return f"/{name}.ko" in modules.read_text()
    except OSError:
        return False


def landlock_abi() -> int:
    """Version of Landlock the kernel enforces (landlock(7)), 0 for none."""
    try:
        return libc.syscall("landlock_create_ruleset", None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    except SyscallError:
        return 0  # ENOSYS: not built in; EOPNOTSUPP: off at boot


def seccomp_actions(*, root: Path = Path("/")) -> tuple[str, ...]:
    """Filter actions the kernel knows (seccomp(2), Linux 4.14); empty without seccomp."""
    try:
        return tuple((root / "proc/sys/kernel/seccomp/actions_avail").read_text().split())
    except OSError:
        return ()


def selinux_enabled(*, root: Path = Path("/")) -> bool:
    """Is SELinux on, enforcing or permissive (its file system is mounted)?"""
    return (root / "sys/fs/selinux/enforce").exists()


def selinux_enforcing(*, root: Path = Path("/")) -> bool:
    """Does SELinux enforce its policy?"""
    try:
        return (root / "sys/fs/selinux/enforce").read_text().strip() == "1"
    except OSError:
        return False


def init_binary() -> str:
    """A statically linked init for ``--init``, '' when none is installed.

    It is executed inside the image, which may have no C library: a dynamically
    linked one (Debian's /usr/bin/tini) would only start in some images.
    """
    for name in _INITS:
        found = program(name)
        if found and is_static(found):
            return found
    return ""


def is_static(path: str) -> bool:
    """Does this ELF file need no dynamic loader (no PT_INTERP, elf(5))?"""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if len(head) < 64 or head[:4] != b"\x7fELF":
                return False
            wide = head[4] == 2
            order = "<" if head[5] == 1 else ">"
            offset = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
            size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
            file.seek(offset)
            table = file.read(size * count)
    except OSError:
        return False
    kinds = (struct.unpack_from(order + "I", table, index * size)[0] for index in range(count))
    return len(table) == size * count and _PT_INTERP not in kinds
