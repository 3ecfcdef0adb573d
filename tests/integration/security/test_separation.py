"""What separates containers from the user, from each other, and from what is mounted into them."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.archive import extract as unpacking
from rootless.archive.limits import NO_SHIFT
from rootless.errors import RootlessError
from rootless.model.mounts import MountSpec
from rootless.model.request import Resources
from rootless.model.spec import NamespacesSpec, UsernsSpec
from rootless.runtime.shim_client import read_state
from tests.integration.storage.conftest import run_in_engine
from tests.support import tarmaker
from tests.support.sandbox import Sandbox
from tests.support.userns import first_subid

from .test_defaults import SAFE, mounts_of

pytestmark = pytest.mark.integration

_NS_GET_OWNER_UID = 0xB704
"""ioctl_nsfs(2)."""


async def test_the_owner_of_a_containers_namespace_is_nobody(sandbox: Sandbox) -> None:
    """It may do everything in there (user_namespaces(7)): never the user, nor another's root."""
    spec = await sandbox.spec("sleep", "1000")
    created = await sandbox.create(spec)
    try:
        raw = fcntl.ioctl(created.userns_fd, _NS_GET_OWNER_UID, bytes(4))
        owner = struct.unpack("I", raw)[0]
        assert owner == first_subid() + spec.userns.owner - 1
        assert owner not in (os.getuid(), first_subid())
    finally:
        created.cancel()


async def test_limits_on_processes_are_each_containers_own(sandbox: Sandbox) -> None:
    """Two that would not fit into one limit, and neither is counted with the user's processes."""
    script = "for i in 1 2 3 4 5 6; do sleep 1000 & done; echo all; wait"
    clients = []
    for owner in (60001, 60002):
        spec = await sandbox.spec("sh", "-c", script, resources=Resources(pids_limit=8))
        spec = replace(spec, userns=UsernsSpec("shared", spec.userns.maps, owner))
        clients.append((spec, await sandbox.start(spec)))
    for spec, client in clients:
        attachment = await client.attach(stdin=False, stdout=True, stderr=True)
        while "all" not in sandbox.log(spec):
            await anext(aiter(attachment))
        assert "fork" not in sandbox.log(spec)
        await attachment.close()
        await client.signal(9)
        await client.wait()


async def test_read_only_holds_for_what_is_mounted_below(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    tmp_path.chmod(0o755)
    # In the launcher's own mount namespace, which ends with it.
    await sandbox.shell('mount -t tmpfs -o mode=1777 tmpfs "$0/below"', str(tmp_path))
    script = "touch /m/below/x && echo written; :"
    for recursive_read_only, written in ((True, False), (False, True)):
        mount = MountSpec(
            "bind",
            "/m",
            source=str(tmp_path),
            read_only=True,
            recursive_read_only=recursive_read_only,
        )
        _, log = await sandbox.run(await sandbox.spec("sh", "-c", script, mounts=(mount,)))
        assert ("written" in log) is written
    await sandbox.shell('umount "$0/below"', str(tmp_path))


async def test_a_subpath_stays_in_its_volume(sandbox: Sandbox, tmp_path: Path) -> None:
    """Whoever writes to the volume can put a link there (CVE-2017-1002101)."""
    volume = tmp_path / "volume"
    (volume / "inside").mkdir(parents=True)
    (volume / "inside/mark").touch()
    (tmp_path / "secret").mkdir()
    (volume / "up").symlink_to("../secret")
    (volume / "absolute").symlink_to(tmp_path / "secret")
    (volume / "link").symlink_to("/proc/self/cwd")
    tmp_path.chmod(0o755)

    async def run(subpath: str) -> str:
        mount = MountSpec("volume", "/v", str(volume), volume_name="vol", subpath=subpath)
        _, log = await sandbox.run(await sandbox.spec("ls", "/v", mounts=(mount,)))
        return log

    assert await run("inside") == "mark\n"
    for subpath in ("up", "absolute", "link", "../secret", "inside/../../secret", "/etc"):
        with pytest.raises(RootlessError, match=r"cannot use subpath|escapes the base"):
            await run(subpath)


def _unpack(target: str, archive: bytes) -> None:
    import io

    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    unpacking.extract(io.BytesIO(archive), fd)
    os.close(fd)


def test_a_hard_link_to_a_link_links_the_link(tmp_path: Path) -> None:
    """linkat(2) could follow it: to a file of the user's, which would then be in the layer."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    target = tmp_path / "layer"
    target.mkdir()
    entries = (
        tarmaker.symlink(b"a", os.fsencode(secret)),
        tarmaker.hard_link(b"b", b"a"),
    )
    run_in_engine(_unpack, str(target), tarmaker.archive(*entries))
    assert (target / "b").is_symlink()
    assert secret.stat().st_nlink == 1
    run_in_engine(_remove, str(target))


def _set_ids(target: str) -> list[int]:
    import io

    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    entries = (
        tarmaker.file(b"users", b"x", mode=0o6755, uid=0, gid=0),
        tarmaker.file(b"containers", b"x", mode=0o6755, uid=5, gid=6),
    )
    unpacking.extract(io.BytesIO(tarmaker.archive(*entries)), fd, shift=NO_SHIFT)
    os.close(fd)
    modes = [os.stat(f"{target}/{name}").st_mode & 0o7777 for name in ("users", "containers")]
    _remove(target)
    return modes


def _remove(target: str) -> None:
    for name in os.listdir(target):
        os.unlink(f"{target}/{name}")


def test_no_file_of_the_users_is_set_user_id(tmp_path: Path) -> None:
    """Id 0 of the engine's namespace is the user: such a program would run as him."""
    assert run_in_engine(_set_ids, str(tmp_path)) == [0o755, 0o6755]


@pytest.mark.parametrize("mode", ["host", "shared"])
async def test_sys_of_a_shared_network_is_read_only(sandbox: Sandbox, mode: str) -> None:
    first = await sandbox.spec("sleep", "1000")
    client = await sandbox.start(first)
    state = read_state(client.directory)
    assert state is not None
    network = "host" if mode == "host" else f"container:{first.id}"
    pids = () if mode == "host" else (("network", state.init_pid, state.init_start),)
    spec = await sandbox.spec(
        "cat", "/proc/self/mountinfo", namespaces=NamespacesSpec(network=network)
    )
    _, log = await sandbox.run(spec, namespace_pids=pids)
    assert mounts_of(log)["/sys"].options == {"ro", *SAFE}
    await client.signal(9)
    await client.wait()


async def test_mount_events_do_not_pass(sandbox: Sandbox, tmp_path: Path) -> None:
    """A shared source makes no peer of the container: private, or at most receiving."""
    source = tmp_path / "shared"
    source.mkdir()
    tmp_path.chmod(0o755)
    script = 'mount -t tmpfs tmpfs "$0" && mount --make-shared "$0"'
    await sandbox.shell(script, str(source))
    for propagation, tags in (("rprivate", []), ("private", []), ("rslave", ["master"])):
        mount = MountSpec("bind", "/m", source=str(source), propagation=propagation)
        spec = await sandbox.spec("cat", "/proc/self/mountinfo", mounts=(mount,))
        _, log = await sandbox.run(spec)
        assert [tag.partition(":")[0] for tag in mounts_of(log)["/m"].tags] == tags
    await sandbox.shell('umount "$0"', str(source))
