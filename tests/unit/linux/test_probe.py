"""Facts of the host."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.linux import probe


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-37-amd64", (6, 1)),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15)),
        ("6.18.44", (6, 18)),
        ("weird", (0, 0)),
    ],
)
def test_parse_release(release: str, version: tuple[int, int]) -> None:
    assert probe.parse_release(release) == version


def test_filesystem_loaded_or_loadable(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/filesystems").write_text("nodev\tproc\n\text4\n")
    assert probe.has_filesystem("ext4", root=tmp_path)
    assert not probe.has_filesystem("overlay", root=tmp_path)
    modules = tmp_path / "lib/modules" / os.uname().release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/fs/overlayfs/overlay.ko.xz:\n")
    assert probe.has_filesystem("overlay", root=tmp_path)


def test_selinux_states(tmp_path: Path) -> None:
    assert not probe.selinux_enabled(root=tmp_path)
    (tmp_path / "sys/fs/selinux").mkdir(parents=True)
    (tmp_path / "sys/fs/selinux/enforce").write_text("0")
    assert probe.selinux_enabled(root=tmp_path)
    assert not probe.selinux_enforcing(root=tmp_path)
    (tmp_path / "sys/fs/selinux/enforce").write_text("1")
    assert probe.selinux_enforcing(root=tmp_path)


def test_static_and_dynamic_programs(tmp_path: Path) -> None:
    assert not probe.is_static(os.path.realpath(sys.executable))
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is installed by ci/test"
    assert probe.is_static(busybox)
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n" + " " * 100)
    assert not probe.is_static(str(script))
    assert not probe.is_static(str(tmp_path / "absent"))


def test_truncated_program_is_not_static(tmp_path: Path) -> None:
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 4)
    (tmp_path / "cut").write_bytes(bytes(head))
    assert not probe.is_static(str(tmp_path / "cut"))


def test_facts_of_this_host() -> None:
    facts = probe.probe()
    assert (facts.uid, facts.gid) == (os.getuid(), os.getgid())
    assert facts.kernel == probe.parse_release(os.uname().release)
    assert facts.id_count > 65_536
    assert facts.slirp4netns.endswith("/slirp4netns")
    assert probe.is_static(facts.init_binary)


def test_probing_imports_nothing_heavy() -> None:
    """The daemon probes before it serves; these would cost more than the probe itself."""
    code = (
        "import sys; from rootless.linux import probe; probe.probe(); "
        "print([m for m in ('asyncio', 'json', 'argparse', 'socket', 'aiohttp') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )
    assert done.stdout.strip() == b"[]"
