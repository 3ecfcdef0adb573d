"""docker cp, export, diff and commit with Docker's own client, running and stopped."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.engine import Engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
SETUP = (
    "mkdir -p /d/s; echo hi >/d/f; ln -s /d /l; ln -s f /d/g; chown 7:8 /d/f; "
    "echo in >/v/in; chown 7:8 /v/in; touch /ready; sleep 1000"
)


class Docker:
    """Docker's client, in a directory of its own."""

    def __init__(self, engine: Engine, here: Path) -> None:
        self.env = {**engine.env, "DOCKER_HOST": f"unix://{engine.socket}"}
        self.here = here

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["docker", *arguments], env=self.env, cwd=self.here, capture_output=True, check=False
        )

    def ok(self, *arguments: str) -> bytes:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: member for member in opened}


def _out(docker: Docker) -> None:
    here = docker.here
    for source, target in (("/d", "."), ("/d", "new"), ("/d/.", "rest")):
        docker.ok("cp", f"cc:{source}", target)
        made = here / (target if target != "." else "d")
        assert sorted(os.listdir(made)) == ["f", "g", "s"]
    docker.ok("cp", "cc:/l", "link")
    assert (here / "link").is_symlink()
    docker.ok("cp", "-L", "cc:/l", "followed")
    assert sorted(os.listdir(here / "followed")) == ["f", "g", "s"]
    docker.ok("cp", "cc:/d/f", "renamed")
    assert (here / "renamed").read_text() == "hi\n"
    for path in ("/d/f", "/v/in"):
        (member,) = _members(docker.ok("cp", f"cc:{path}", "-")).values()
        assert (member.uid, member.gid) == (7, 8)
    docker.ok("cp", "cc:/", "all")
    shown = set(os.listdir(here / "all"))
    assert {"bin", "d", "etc", "v"} <= shown
    assert os.listdir(here / "all" / "v") == ["in"]
    refused = docker.run("cp", "cc:/nope", "x")
    assert refused.returncode == 1
    assert b"Could not find the file /nope" in refused.stderr


def _in(docker: Docker) -> None:
    for source, target in (
        ("new", "/d/s"), ("new", "/fresh"), ("renamed", "/l"), ("renamed", "/l/other"),
        ("renamed", "/v/copied"),
    ):  # fmt: skip
        docker.ok("cp", source, f"cc:{target}")
    assert docker.run("cp", "renamed", "cc:/nodir/other").returncode == 1
    assert docker.ok("cp", "cc:/v/copied", "-")


@pytest.mark.parametrize("userns", ["shared", "auto"])
@pytest.mark.parametrize("running", [True, False])
def test_copies_as_docker_makes_them(
    engine: Engine, tmp_path: Path, userns: str, running: bool
) -> None:
    docker = Docker(engine, tmp_path)
    run = ("run", "-d", "--name", "cc", "--network", "none", "--userns", userns, "-v", "vol:/v")
    engine.ok(*run, IMAGE, "sh", "-c", SETUP)
    while engine.run("exec", "cc", "test", "-e", "/ready").returncode:
        continue
    if not running:
        engine.ok("stop", "-t", "0", "cc")
    _out(docker)
    _in(docker)
    names = set(_members(docker.ok("export", "cc")))
    assert {"d/s/new/f", "fresh/f", "d/renamed", "d/other"} <= names
    assert "v/copied" not in names
    changed = docker.ok("diff", "cc").decode().splitlines()
    assert "A /d/s/new/f" in changed
    assert not [line for line in changed if line.startswith("C ")]
    assert not [line for line in changed if " /v" in line or " /etc" in line]
    docker.ok("commit", "cc", "snap")
    engine.ok("rm", "-f", "cc")
    show = ("run", "--rm", "--network", "none", "-v", "vol:/v")
    owners = engine.ok(*show, "snap", "stat", "-c", "%u:%g", "/d/f", "/v/in")
    assert owners.split() == ["7:8", "7:8"]
    assert engine.ok(*show, "snap", "cat", "/v/copied") == "hi"
    engine.ok("volume", "rm", "vol")
    engine.ok("rmi", "snap")


def test_the_root_and_paths_with_dots(engine: Engine, tmp_path: Path) -> None:
    """The words count, before any link, and no archive is called '..'."""
    script = "mkdir -p /a/b; echo 1 > /a/b/f; touch /ready; exec sleep 1000"
    engine.ok("run", "-d", "--name", "dots", "--network", "none", IMAGE, "sh", "-c", script)
    engine.ok("exec", "dots", "sh", "-c", "until test -e /ready; do :; done")
    docker = Docker(engine, tmp_path)
    cases = {
        "/a/b/..": {"a"},
        "/a/b/../.": {"b"},
        "/a/../a/b/../b/f": {"f"},
        "../../a/b": {"b"},
        "/": {"a", "bin"},
        "/..": {"a", "bin"},
    }
    for number, (path, names) in enumerate(cases.items()):
        for client in ("ours", "docker"):
            target = tmp_path / f"{client}{number}"
            target.mkdir()
            if client == "ours":
                engine.ok("cp", f"dots:{path}", str(target))
            else:
                docker.ok("cp", f"dots:{path}", str(target))
            found = {item.name for item in target.iterdir()}
            assert found & {"a", "b", "f", "bin"} == names, (client, path)
    engine.ok("rm", "-f", "dots")
