"""A real distribution: Debian, made with debootstrap by the unprivileged user, and used."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.engine import Engine, new_engine
from tests.support.registry import running
from tests.support.userns import first_subid

# The first test waits for debootstrap where the cache of the test user has no archive yet.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]
IMAGE = "debian:bootstrapped"
QUIET = ("--network", "none")
MODES = pytest.mark.parametrize("mode", ["shared", "auto"])
SETUID = ("--security-opt", "no-new-privileges=false")

OWNERS = {
    "/usr/bin/passwd": "4755 0:0",
    "/usr/bin/chage": "2755 0:42",
    "/etc/shadow": "640 0:42",
    "/var/mail": "2775 0:8",
    "/tmp": "1777 0:0",
}
"""Modes and owners as Debian ships them (policy 10.9; 42 is shadow, 8 is mail)."""

PACKAGE = """
set -eu
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/share/greeting
printf '%s\\n' 'Package: greeting' 'Version: 1' 'Architecture: all' \
    'Maintainer: Nobody <nobody@example.org>' 'Description: hello' > /tmp/p/DEBIAN/control
printf '#!/bin/sh\\nchown nobody:mail /usr/share/greeting/text\\n' > /tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
echo hello > /tmp/p/usr/share/greeting/text
dpkg-deb --root-owner-group --build /tmp/p /tmp/greeting.deb
apt-get install --yes /tmp/greeting.deb
rm -r /tmp/p /tmp/greeting.deb
dpkg-query --show --showformat '${Status}' greeting
"""

ACCOUNT = """
set -eu
groupadd --gid 900 crew
useradd --create-home --shell /bin/bash --uid 1000 --groups crew alice
adduser --system --home /srv/robot --group --quiet robot
printf 'alice:knock\\nroot:hammer\\n' | chpasswd
install --mode 4755 --owner alice --group crew /bin/true /usr/local/bin/hers
ln /usr/local/bin/hers /usr/local/bin/hers-too
"""


@pytest.fixture(scope="session")
def archive() -> Path:
    """The root filesystem as a tar archive."""
    try:
        return debian.root_filesystem()
    except debian.NoMirror as error:
        pytest.skip(f"host lacks a Debian mirror: {error}")


@pytest.fixture(scope="module")
def shared_engine(archive: Path, repository: Path) -> Iterator[Engine]:
    """An engine with the image, whose policy allows setuid programs where they are asked for."""
    default = (repository / "policies/default.yaml").read_text()
    line = "    requireNoNewPrivileges: true\n"
    assert line in default
    with new_engine(start=False) as engine:
        place = engine.root / "c/rootless"
        place.mkdir()
        (place / "policy.yaml").write_text(default.replace(line, ""))
        engine.start()
        engine.ok("import", "--change", 'CMD ["bash"]', str(archive), IMAGE, timeout=300)
        yield engine


def bash(engine: Engine, script: str, *options: str, image: str = IMAGE) -> str:
    """What ``script`` prints in a new container."""
    return engine.ok("run", "--rm", *QUIET, *options, image, "bash", "-c", script, timeout=300)


def owners(engine: Engine, *options: str, image: str = IMAGE) -> dict[str, str]:
    """Modes and owners of the files of OWNERS."""
    shown = bash(engine, f"stat -c '%n %a %u:%g' {' '.join(OWNERS)}", *options, image=image)
    return dict(line.split(" ", 1) for line in shown.splitlines())


@MODES
def test_its_programs_run(engine: Engine, mode: str) -> None:
    option = f"--userns={mode}"
    assert bash(engine, "a=(x y z); echo ${#a[@]} $BASH_SUBSHELL", option) == "3 0"
    assert bash(engine, "perl -e 'print 6 * 7'", option) == "42"
    assert bash(engine, "apt-get --version", option).startswith("apt ")
    assert "\nii  bash " in bash(engine, "dpkg -l", option)
    assert bash(engine, "dpkg --audit; dpkg --verify libc6 dash", option) == ""
    assert bash(engine, "seq 3 | xargs -P 3 -n 1 echo | sort | tr '\\n' ' '", option) == "1 2 3 "
    assert bash(engine, "cat <<< $(getent passwd mail)", option).startswith("mail:x:8:8:")


@MODES
def test_owners_modes_links_and_attributes_are_those_of_the_archive(
    engine: Engine, mode: str
) -> None:
    option = f"--userns={mode}"
    assert owners(engine, option) == OWNERS
    one, two = (f"/{name}" for name in debian.LINKED)
    assert bash(engine, f"[ {one} -ef {two} ] && stat -c '%h %u' {one}", option) == "2 0"
    read = (
        "perl -e 'syscall(191, $ARGV[0], $ARGV[1], $v = qq(\\0) x 64, 64); print unpack(q(Z*), $v)'"
    )
    if "x86_64" in bash(engine, "uname -m"):  # the number of getxattr(2) is that machine's
        assert bash(engine, f"{read} {one} user.origin", option) == "debootstrap"


@MODES
def test_setuid_programs_and_file_capabilities(engine: Engine, mode: str) -> None:
    """They work inside when they are allowed to, and by default they give nothing."""
    name = f"accounts-{mode}"
    engine.ok("run", "--name", name, *QUIET, f"--userns={mode}", IMAGE, "bash", "-c", ACCOUNT)
    engine.ok("commit", name, f"{IMAGE}-{mode}")
    engine.ok("rm", name)
    words = ("--user", "alice", f"--userns={mode}")
    image = f"{IMAGE}-{mode}"
    become = "echo hammer | su --command 'id -u' 2>&1"
    capable = f"touch /tmp/f && /{debian.CAPABLE} robot /tmp/f && stat -c %U /tmp/f"
    assert bash(engine, become, *words, *SETUID, image=image).endswith("0")
    plain = engine.run("run", "--rm", *QUIET, *words, image, "bash", "-c", become)
    assert "Authentication failure" in plain.stdout
    plain = engine.run("run", "--rm", *QUIET, *words, image, "bash", "-c", capable)
    assert "Operation not permitted" in plain.stderr
    if mode == "shared":
        # The kernel honours a file's capability only in namespaces whose root is the
        # id it was stored for (capabilities(7)); ranges of their own have other roots.
        assert bash(engine, capable, *words, *SETUID, image=image) == "robot"
        # One that the container does not have: the kernel does not execute the file.
        dropped = (*words, *SETUID, "--cap-drop", "CHOWN")
        done = engine.run("run", "--rm", *QUIET, *dropped, image, f"/{debian.CAPABLE}", "--help")
        assert done.returncode == 126
    shown = bash(
        engine, "id -un; id -Gn; cd; pwd; su -c id < /dev/null 2>&1 | wc -l", *words, image=image
    )
    assert shown.splitlines()[:3] == ["alice", "alice crew", "/home/alice"]
    assert bash(engine, "su - alice -c 'id -un; umask; pwd'", f"--userns={mode}", image=image) == (
        "alice\n0022\n/home/alice"
    )
    mine = "stat -c '%a %U:%G %h' /usr/local/bin/hers /srv/robot /etc/shadow"
    assert bash(engine, mine, f"--userns={mode}", image=image).splitlines() == [
        "4755 alice:crew 2", "755 robot:robot 2", "640 root:shadow 1",
    ]  # fmt: skip
    engine.ok("rmi", image)


@MODES
def test_a_package_is_installed_and_the_image_travels(
    engine: Engine, mode: str, tmp_path: Path
) -> None:
    """apt, commit, then by archive and by registry: the same files with the same owners."""
    name, image = f"apt-{mode}", "greeting:1"
    engine.ok(
        "run", "--name", name, *QUIET, f"--userns={mode}", IMAGE, "bash", "-c", PACKAGE, timeout=300
    )
    assert engine.ok("logs", "--tail", "1", name) == "install ok installed"
    assert "A /usr/share/greeting/text" in engine.ok("diff", name).splitlines()
    exported = tmp_path / "exported.tar"
    engine.ok("export", "--output", str(exported), name)
    with tarfile.open(exported) as tar:
        for path, (mode_and_owner) in OWNERS.items():
            entry = tar.getmember(path[1:])
            assert f"{entry.mode:o} {entry.uid}:{entry.gid}" == mode_and_owner, path
        entry = tar.getmember("usr/share/greeting/text")
        assert (entry.uid, entry.gid) == (65534, 8)
        links = [tar.getmember(item) for item in debian.LINKED]
        assert sorted(item.type for item in links) == [tarfile.REGTYPE, tarfile.LNKTYPE]
        assert "SCHILY.xattr.user.origin" in tar.getmember(debian.LINKED[0]).pax_headers
        if mode == "shared":  # nobody but a namespace of that root sees it
            assert "SCHILY.xattr.security.capability" in tar.getmember(debian.CAPABLE).pax_headers
    engine.ok("commit", "--change", "USER mail", name, image)
    engine.ok("rm", name)
    ident = json.loads(engine.ok("image", "inspect", image))[0]["Id"]
    check = "id -un; cat /usr/share/greeting/text; stat -c %U:%G /usr/share/greeting/text"
    right = ["mail", "hello", "nobody:mail"]
    assert bash(engine, check, image=image).splitlines() == right

    saved = tmp_path / "saved.tar"
    engine.ok("save", "--output", str(saved), image, timeout=300)
    engine.ok("rmi", image)
    engine.ok("load", "--input", str(saved), timeout=300)
    assert json.loads(engine.ok("image", "inspect", image))[0]["Id"] == ident
    assert bash(engine, check, f"--userns={mode}", image=image).splitlines() == right

    with running(tmp_path / "registry") as registry:
        remote = f"{registry.host}/{image}"
        engine.ok("tag", image, remote)
        engine.ok("push", remote, timeout=300)
        engine.ok("rmi", image, remote)
        engine.ok("pull", remote, timeout=300)
        assert json.loads(engine.ok("image", "inspect", remote))[0]["Id"] == ident
        assert bash(engine, check, f"--userns={mode}", image=remote).splitlines() == right
        assert owners(engine, f"--userns={mode}", image=remote) == OWNERS
        engine.ok("rmi", remote)


def test_an_exported_container_is_an_image_again(engine: Engine, tmp_path: Path) -> None:
    engine.ok("create", "--name", "source", *QUIET, IMAGE)
    exported = tmp_path / "exported.tar"
    engine.ok("export", "--output", str(exported), "source", timeout=300)
    engine.ok("rm", "source")
    engine.ok("import", str(exported), "again:1", timeout=300)
    assert owners(engine, image="again:1") == OWNERS
    assert bash(engine, "dpkg --audit; dpkg --verify bash", image="again:1") == ""


def test_layers_on_the_host_belong_to_subordinate_ids(engine: Engine) -> None:
    """A setuid root program of the image is one of a subordinate id, for the user's eyes only."""
    found = [path.with_name("passwd") for path in engine.data.glob("layers/*/fs/usr/bin/apt-get")]
    assert found
    for path in found:
        assert path.stat().st_uid == first_subid()
        assert path.stat().st_mode & 0o7777 == 0o4755
    assert engine.data.stat().st_mode & 0o777 == 0o700
