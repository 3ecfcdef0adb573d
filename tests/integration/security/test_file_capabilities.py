"""Programs whose files carry capabilities, as Debian's ping: they run, and raise no right."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
NAME = "capable:1"
CAP_NET_RAW = 13
# struct vfs_cap_data, revision 2 with the effective bit (linux/capability.h).
EFFECTIVE = struct.pack("<5I", 0x02000001, 1 << CAP_NET_RAW, 0, 0, 0).decode("ascii")


@pytest.fixture
def capable(engine: Engine, tmp_path: Path) -> Iterator[None]:
    """An image whose busybox wants CAP_NET_RAW."""
    archive = tmp_path / "image.tar"
    content = Path("/bin/busybox").read_bytes()
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, mode, headers in (
            ("busybox", 0o755, {}),
            ("capable/busybox", 0o755, {"SCHILY.xattr.security.capability": EFFECTIVE}),
            ("setuid/busybox", 0o4755, {}),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.pax_headers = len(content), mode, headers
            tar.addfile(entry, io.BytesIO(content))
    engine.ok("import", str(archive), NAME)
    yield
    engine.run("rmi", "-f", NAME)


@pytest.mark.usefixtures("capable")
@pytest.mark.parametrize("user", ["0", "1000"])
@pytest.mark.parametrize(
    "how",
    [
        ("--storage-driver", "overlay"),
        ("--storage-driver", "fuse-overlayfs"),
        ("--storage-driver", "vfs"),
        ("--read-only",),
        ("--userns", "auto"),
    ],
    ids=" ".join,
)
def test_a_capable_file_runs_without_its_capability(
    engine: Engine, how: tuple[str, ...], user: str
) -> None:
    """The kernel would refuse to execute it: what it is granted is not in the bounding set."""
    run = ("run", "--rm", "--network", "none", "--user", user, *how, NAME)
    shown = engine.ok(*run, "/capable/busybox", "grep", "-E", "Cap(Prm|Bnd)", "/proc/self/status")
    permitted, bounding = (int(line.split()[1], 16) for line in shown.splitlines())
    assert permitted == (bounding if user == "0" else 0)
    assert not bounding & 1 << CAP_NET_RAW
    assert engine.ok(*run, "/setuid/busybox", "id", "-u") == user


@pytest.mark.usefixtures("capable")
def test_an_exec_runs_it_too(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "box", "--network", "none", NAME, "/busybox", "sleep", "1000")
    try:
        assert engine.ok("exec", "--user", "7", "box", "/capable/busybox", "id", "-u") == "7"
    finally:
        engine.ok("rm", "-f", "box")
