"""A minimal Debian root filesystem, made with debootstrap by an unprivileged user.

It takes a minute and a hundred packages from the machine's own mirror, so the
archive is kept in the user's cache directory, by suite, architecture and recipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.engine import remove_tree

SECONDS = 900
"""Bound of debootstrap: a minute on an idle machine with a near mirror."""

PACKAGES = ("adduser",)
"""Besides what --variant=minbase brings."""

CAPABLE = "usr/local/bin/chown-capable"
"""A chown(1) with the file capability cap_chown=ep."""

LINKED = ("usr/local/share/one", "usr/local/share/two")
"""Two names of one file, which has the attribute user.origin=debootstrap."""

_NAMESPACE = "unshare --user --map-root-user --map-auto --mount --pid --fork".split()
_KEPT = 30 * 86_400
"""Age in seconds above which an archive of the cache is of no use to anybody."""

# What packages of minbase do not have and images do. The kernel stores the
# capability for the root of the namespace this runs in, as setcap(8) would.
_ADDITIONS = f"""
import os, shutil, struct, sys
root = sys.argv[1]
one, two = (os.path.join(root, name) for name in {LINKED!r})
with open(one, "w") as file:
    file.write("linked")
os.link(one, two)
os.setxattr(one, "user.origin", b"debootstrap")
capable = os.path.join(root, {CAPABLE!r})
shutil.copy(os.path.join(root, "bin/chown"), capable)
os.setxattr(capable, "security.capability", struct.pack("<5I", 0x02000001, 1, 0, 0, 0))
"""


class NoMirror(Exception):
    """This machine has no Debian mirror; the text says what was tried."""


@dataclass(frozen=True)
class Source:
    """What the machine's own apt takes its packages from."""

    mirror: str
    suite: str


def find_source() -> Source:
    """The first repository of apt's configuration with the machine's release; or NoMirror."""
    release = platform.freedesktop_os_release()
    suite = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not suite:
        raise NoMirror(f"this is {release.get('PRETTY_NAME', 'no Debian')}")
    # Whatever files and formats the configuration is spread over, this names its parts.
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for line in listed.splitlines():
        mirror, found, component = line.split()
        if (found, component) == (suite, "main"):
            return Source(mirror.rstrip("/"), suite)
    raise NoMirror(f"apt's sources have no main section of {suite}")


def _ask(source: Source) -> None:
    url = f"{source.mirror}/dists/{source.suite}/InRelease"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            answer.read(1)
    except (urllib.error.URLError, OSError) as error:
        raise NoMirror(f"{url}: {error}") from None


def root_filesystem() -> Path:
    """The tar archive of the root filesystem, from the cache or made now.

    Raises NoMirror when it is not in the cache and there is no mirror to make it from.
    """
    source = find_source()
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    cache = Path(home) / "rootless-tests"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = cache / f"debian-{source.suite}-{platform.machine()}-{recipe}.tar"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(path):
            _ask(source)
            _prune(cache)
            _make(source, path)
        os.utime(path)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        return path.with_suffix(".sha256").read_text() == _digest(path)
    except FileNotFoundError:
        return False


def _prune(cache: Path) -> None:
    for old in cache.glob("debian-*"):
        if time.time() - old.stat().st_mtime > _KEPT:
            old.unlink(missing_ok=True)


def _make(source: Source, path: Path) -> None:
    """Bootstrap, add, pack; the digest is written last."""
    path.with_suffix(".sha256").unlink(missing_ok=True)
    with _scratch() as place:
        root = str(place / "root")
        # With this value debootstrap makes no device nodes, which no user
        # namespace may (user_namespaces(7)), but binds those of the host.
        _run(
            [*_NAMESPACE, "env", "container=lxc", "debootstrap", "--variant=minbase",
             f"--include={','.join(PACKAGES)}", source.suite, root, source.mirror],
            log=place / "log",
        )  # fmt: skip
        _run([*_NAMESPACE, sys.executable, "-c", _ADDITIONS, root], log=place / "log")
        _run(
            [*_NAMESPACE, "tar", "--create", "--file", str(path), "--numeric-owner", "--xattrs",
             "--xattrs-include=*", "--directory", root, "--exclude=./dev/*",
             "--exclude=./var/cache/apt/archives/*.deb", "."],
            log=place / "log",
        )  # fmt: skip
    path.with_suffix(".sha256").write_text(_digest(path))


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="debian-"))
    try:
        place.chmod(0o755)  # apt and man are other users, who must get through
        yield place
    finally:
        remove_tree(place)


def _run(command: list[str], *, log: Path) -> None:
    with log.open("ab") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=SECONDS,
            check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
    if done.returncode != 0:
        said = log.read_text(errors="replace")[-3000:]
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
