"""The machine's disk: Debian, SELinux enforcing, controllers delegated to an ordinary user.

Built once for each combination of what goes into it, and kept in the cache. Files
are labelled while it is built: where the host's kernel has no SELinux, the
attribute ``security.selinux`` is an ordinary one that root may write, and the
tree's own setfiles(8) knows the labels. A machine that relabels itself at its
first boot takes minutes under emulation.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import platform
import shutil
import subprocess
from pathlib import Path

from lib import pyenv
from lib.say import SetupFailed, note, run

SUITE = "trixie"
SIZE = 3 << 30
"""Bytes of the (sparse) disk."""
HOST_PACKAGES = (
    "mmdebstrap", "qemu-system-x86", "qemu-utils", "squashfs-tools", "e2fsprogs", "cpio",
)  # fmt: skip
PACKAGES = (
    "linux-image-cloud-amd64", "kmod", "udev", "systemd", "systemd-sysv", "dbus",
    "dbus-user-session", "libpam-systemd", "passwd", "login", "mount", "util-linux", "procps",
    "iproute2", "nftables", "ca-certificates", "uidmap", "slirp4netns", "fuse3", "fuse-overlayfs",
    "libseccomp2", "libnftables1", "crun", "busybox-static", "catatonit", "python3",
    "python3-venv", "python3-pip", "attr", "selinux-policy-default", "selinux-utils",
    "policycoreutils", "auditd",
)  # fmt: skip
MASKED = (
    "getty@tty1.service", "getty.target", "serial-getty@ttyS0.service", "fstrim.timer",
    "dpkg-db-backup.timer", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "systemd-pstore.service", "systemd-timesyncd.service",
    "systemd-hwdb-update.service", "systemd-journal-catalog-update.service",
    "systemd-update-done.service", "ldconfig.service", "systemd-firstboot.service",
    "systemd-networkd.service", "systemd-binfmt.service",
)  # fmt: skip
"""Each costs seconds under emulation."""
USER, UID, SUBIDS = "tester", 1000, "100000:1048576"
_GUEST = Path(__file__).resolve().parent / "guest"
_INSTALLED = {
    "delegate.conf": ("etc/systemd/system/user@.service.d/delegate.conf", 0o644),
    "modules.conf": ("etc/modules-load.d/lane.conf", 0o644),
    "lane.service": ("etc/systemd/system/lane.service", 0o644),
    "lane-session.service": ("etc/systemd/user/lane-session.service", 0o644),
    "lane-root": ("usr/local/sbin/lane-root", 0o755),
    "lane-tester": ("usr/local/bin/lane-tester", 0o755),
}
_CONTEXTS = "/etc/selinux/default/contexts/files/file_contexts"
_COMPLETE = "complete"


def ensure(project: Path) -> Path:
    """The directory with ``root.img``, ``vmlinuz`` and ``initrd``, made when absent."""
    if platform.machine() != "x86_64":
        raise SetupFailed("the machine is one for x86_64, and so must its host be")
    wanted = pyenv.requirements(project / "pyproject.toml", ("test",))
    directory = pyenv.cache_root() / f"vm-{_key(project, wanted)}"
    if (directory / _COMPLETE).exists():
        note(f"the machine's image is there: {directory}")
        return directory
    for old in directory.parent.glob("vm-*"):
        shutil.rmtree(old)
    directory.mkdir(parents=True)
    note(f"building the machine's image (Debian {SUITE})")
    root = directory / "tree"
    _bootstrap(directory, root)
    _configure(root)
    _install_python(project, root, wanted)
    _label(project, root)
    _boot_files(directory, root)
    _disk(directory, root)
    shutil.rmtree(root)
    (directory / _COMPLETE).touch()
    return directory


def _key(project: Path, wanted: list[str]) -> str:
    """Of everything that goes into the image."""
    digest = hashlib.sha256(json.dumps([SUITE, SIZE, PACKAGES, MASKED, wanted]).encode())
    for path in (*sorted(_GUEST.iterdir()), Path(__file__), *_modules(project)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _modules(project: Path) -> list[Path]:
    return sorted((project / "profiles/selinux").glob("*.cil"))


def _bootstrap(directory: Path, root: Path) -> None:
    # INITRD=No: initramfs-tools would make one that is not used.
    run(
        [
            "mmdebstrap", "--mode=root", "--variant=essential", "--architectures=amd64",
            '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
            "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*", f"--include={','.join(PACKAGES)}",
            SUITE, str(root),
        ],
        env={**os.environ, "INITRD": "No", "TMPDIR": str(directory)},
    )  # fmt: skip


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _configure(root: Path) -> None:
    """The user, what is delegated to it, and no unit that a test does not need."""
    _write(root / "etc/hostname", "vm\n")
    _write(root / "etc/hosts", "127.0.0.1 localhost vm\n::1 localhost\n")
    _write(root / "etc/fstab", "/dev/vda / ext4 rw,relatime 0 1\n")
    _write(root / "etc/resolv.conf", "")
    # Fixed: without one the first boot applies all presets.
    _write(root / "etc/machine-id", hashlib.sha256(b"rootless vm").hexdigest()[:32] + "\n")
    chroot = ["chroot", str(root)]
    run([*chroot, "useradd", "--uid", str(UID), "--user-group", "--create-home", "--shell",
         "/bin/bash", "--groups", "adm,systemd-journal", USER])  # fmt: skip
    run([*chroot, "passwd", "-q", "-l", "root"])
    for name in ("subuid", "subgid"):
        _write(root / "etc" / name, f"{USER}:{SUBIDS}\n")
    _write(root / "var/lib/systemd/linger" / USER, "")
    for name, (place, mode) in _INSTALLED.items():
        _write(root / place, (_GUEST / name).read_text(), mode)
    for name in ("srv/in", "srv/out"):
        (root / name).mkdir(parents=True)
    run([*chroot, "systemctl", "-q", "enable", "lane.service"])
    for unit in MASKED:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")


def _install_python(project: Path, root: Path, wanted: list[str]) -> None:
    """What engine and tests need from PyPI, in /opt/venv; for the guest's own Python."""
    chroot = ["chroot", str(root)]
    version = subprocess.run(
        [*chroot, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    wheels = root / "var/tmp/wheels"
    platforms = [f"--platform=manylinux{tag}_x86_64" for tag in ("_2_28", "_2_17", "2014")]
    needed = [one for one in wanted if not one.startswith(("mypy", "ruff", "types-", "import-"))]
    python = pyenv.ensure(project / "pyproject.toml", ("test",)) / "bin/python"
    run([
        str(python), "-m", "pip", "-q", "download", "--dest", str(wheels),
        "--only-binary=:all:", f"--python-version={version}", *platforms, *needed,
    ])  # fmt: skip
    run([*chroot, "python3", "-m", "venv", "/opt/venv"])
    names = [f"/var/tmp/wheels/{path.name}" for path in sorted(wheels.glob("*.whl"))]
    run([*chroot, "/opt/venv/bin/pip", "-q", "install", "--no-index", "--compile", *names])
    shutil.rmtree(wheels)


def _label(project: Path, root: Path) -> None:
    chroot = ["chroot", str(root)]
    config = root / "etc/selinux/config"
    lines = [
        "SELINUX=enforcing" if line.startswith("SELINUX=") else line
        for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines) + "\n")
    modules = _modules(project)
    for path in modules:
        shutil.copy(path, root / "var/tmp" / path.name)
    options = [word for path in modules for word in ("-i", f"/var/tmp/{path.name}")]
    run([*chroot, "semodule", "-n", "-s", "default", "-X", "400", *options])
    for path in modules:
        (root / "var/tmp" / path.name).unlink()
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    run([*chroot, "setfiles", "-F", _CONTEXTS, "/"])


def _boot_files(directory: Path, root: Path) -> None:
    """The kernel, and an initramfs with the one module it needs."""
    (kernel,) = (root / "lib/modules").iterdir()
    shutil.copy(root / f"boot/vmlinuz-{kernel.name}", directory / "vmlinuz")
    tree = directory / "initramfs"
    for name in ("bin", "dev", "proc", "sys", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", tree / "bin/busybox")
    _write(tree / "init", (_GUEST / "initramfs-init").read_text(), 0o755)
    (module,) = kernel.rglob("virtio_blk.ko*")
    data = module.read_bytes()
    (tree / "virtio_blk.ko").write_bytes(lzma.decompress(data) if module.suffix == ".xz" else data)
    names = [str(path.relative_to(tree)) for path in (tree, *sorted(tree.rglob("*")))]
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
        input="\n".join(names).encode(), stdout=subprocess.PIPE, cwd=tree, check=True,
    ).stdout  # fmt: skip
    (directory / "initrd").write_bytes(gzip.compress(packed, 1))
    shutil.rmtree(tree)
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()


def _disk(directory: Path, root: Path) -> None:
    """mke2fs keeps owners and attributes, labels and capabilities included."""
    disk = directory / "root.img"
    with open(disk, "wb") as file:
        file.truncate(SIZE)
    run([
        "mke2fs", "-q", "-t", "ext4", "-L", "root", "-m", "0", "-O",
        "^metadata_csum_seed,^orphan_file", "-E", "lazy_itable_init=0,lazy_journal_init=1",
        "-d", str(root), str(disk),
    ])  # fmt: skip
    label = directory / "label"
    label.write_bytes(b"system_u:object_r:lost_found_t:s0\0")
    run(["debugfs", "-w", "-R", f"ea_set -f {label} /lost+found security.selinux", str(disk)])
    label.unlink()
