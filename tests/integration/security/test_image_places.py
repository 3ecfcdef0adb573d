"""What an image has where the engine mounts: links that lead elsewhere, the wrong kind of file."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
RUN = ("run", "--rm", "--network", "none")
NAME = "places:1"


@pytest.fixture
def places(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    """Where to write the archive that ``_import`` makes the image of."""
    yield tmp_path / "image.tar"
    engine.run("rmi", "-f", NAME)


def _import(engine: Engine, archive: Path, *links: tuple[str, str], directory: str = "") -> None:
    """An image of busybox and symbolic links (name, target)."""
    with tarfile.open(archive, "w") as tar:
        for name in ("bin", "etc", directory):
            if name:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        content = Path("/bin/busybox").read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
        for name, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    archive.chmod(0o644)
    engine.ok("import", str(archive), NAME)


def test_a_link_to_what_only_an_init_system_makes(engine: Engine, places: Path) -> None:
    """As in images of whole Debian systems, whose resolver has its file below /run."""
    _import(
        engine,
        places,
        ("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        ("etc/hosts", "../../../up/hosts"),
        ("one", "two/b"),
        ("two", "/three"),
    )
    for _ in range(2):  # the second in a spare, where there is one
        made = engine.ok(
            *("run", "--rm", "--network", "slirp4netns", "--dns", "192.0.2.1"),
            *("--workdir", "/one/here"),
            *(NAME, "busybox", "sh", "-c"),
            "busybox pwd; busybox cat /run/systemd/resolve/stub-resolv.conf; "
            "busybox grep -o localhost /up/hosts",
        )
        assert made.split("\n")[:3] == ["/three/b/here", "nameserver 192.0.2.1", "localhost"]


@pytest.mark.parametrize(
    "target", ["/proc/self/fd/3", "/missing/../proc/self/fd/3", "/etc/resolv.conf", "/proc/none"]
)
def test_a_link_to_nowhere_a_file_could_be(engine: Engine, places: Path, target: str) -> None:
    _import(engine, places, ("etc/resolv.conf", target))
    done = engine.run(*RUN, NAME, "busybox", "true")
    assert done.returncode == 125
    assert "cannot make the mount point /etc/resolv.conf: " in done.stderr


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_a_link_does_not_move_what_the_sandbox_relies_on(
    engine: Engine, places: Path, name: str
) -> None:
    """Who reads /proc would read what the image has there (CVE-2019-19921)."""
    _import(engine, places, (name, "/etc"))
    for _ in range(2):
        done = engine.run(*RUN, NAME, "busybox", "true")
        assert done.returncode == 125
        assert f"cannot mount /{name}: the image's is a symbolic link" in done.stderr


def test_a_file_over_a_directory_is_named(engine: Engine, places: Path, tmp_path: Path) -> None:
    _import(engine, places, directory="etc/hosts")
    done = engine.run(*RUN, NAME, "busybox", "true")
    assert done.returncode == 125
    assert "hosts over the directory /etc/hosts of the container" in done.stderr
    file = tmp_path / "file"
    file.touch()
    done = engine.run(*RUN, "-v", f"{file}:/etc", "rootless/busybox", "true")
    assert done.returncode == 125
    assert f"cannot mount the file {file} over the directory /etc of the container" in done.stderr
