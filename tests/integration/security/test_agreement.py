"""What the policy admitted is what the kernel does: any options, one running process.

Random requests go the whole way (resolve, admit, plan, launch); then /proc of the
container's first process is compared with the admitted spec, field by field.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from rootless import ids
from rootless.engine import resolve as resolving
from rootless.engine.resolve import Allocation, World, resolve
from rootless.engine.settings import EngineSettings
from rootless.linux.process import CAPABILITIES, mask_of
from rootless.model.identity import Identity
from rootless.model.mounts import IdMap, MountSpec
from rootless.model.records import ImageRecord
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    HostConfig,
    MountRequest,
    Resources,
    RlimitRequest,
)
from rootless.model.spec import AdmittedSpec, ContainerSpec, UsernsSpec
from rootless.policy.admission import admit
from rootless.policy.load import builtin
from rootless.policy.paths import EnginePaths
from rootless.runtime.planner import plan_container
from rootless.runtime.shim_client import ShimClient
from rootless.seccomp.compile import filter_for, store_raw
from tests.support.sandbox import FACTS, Sandbox

from .test_defaults import SAFE, Mount, mounts_of

pytestmark = pytest.mark.integration

_LOOK = r"""
cd "/proc/$0"
for name in status uid_map gid_map limits oom_score_adj mountinfo; do
    echo "== $name"; cat "$name"
done
echo "== ns"; for name in ns/*; do readlink "$name"; done
echo "== environ"; tr '\0' '\n' < environ
echo "== fd"; ls fd
"""
_LIMITS = {
    "nofile": "Max open files",
    "core": "Max core file size",
    "msgqueue": "Max msgqueue size",
}
_MAPS = (
    UsernsSpec("shared", (IdMap(0, 1, 60000),), 60001),
    UsernsSpec("auto", (IdMap(0, 70000, 5000), IdMap(65534, 75000, 1)), 65540),
)

capabilities = st.lists(
    st.sampled_from(sorted(builtin("default", "/").constraints["capabilities.allow"])),  # type: ignore[arg-type]  # a list of names
    max_size=4,
)
limits = st.lists(
    st.builds(
        lambda name, soft, more: RlimitRequest(name, soft, soft + more),
        st.sampled_from(sorted(_LIMITS)),
        st.integers(64, 4096),
        st.integers(0, 4096),
    ),
    max_size=2,
    unique_by=lambda limit: limit.name,
)
tmpfs_options = st.lists(
    st.sampled_from(["ro", "exec", "suid", "dev", "noexec", "size=64k", "size=1m", "mode=700"]),
    max_size=3,
)
tmpfs = st.builds(
    lambda name, options: MountRequest("tmpfs", f"/t/{name}", tmpfs_options=tuple(options)),
    st.sampled_from("abc"),
    tmpfs_options,
)
binds = st.builds(
    lambda name, read_only, recursive, propagation: MountRequest(
        "bind",
        f"/b/{name}",
        source="SOURCE",
        read_only=read_only,
        non_recursive=not recursive,
        propagation=propagation,
    ),
    st.sampled_from("abc"),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "private", "rprivate", "slave", "rslave"]),
)
hosts = st.fixed_dictionaries(
    {
        "network_mode": st.just("none"),
        "mounts": st.lists(
            st.one_of(tmpfs, binds), max_size=4, unique_by=lambda mount: mount.target
        ).map(tuple),
        "cap_add": capabilities.map(tuple),
        "cap_drop": st.one_of(capabilities.map(tuple), st.just(("ALL",))),
        "read_only_rootfs": st.booleans(),
        "shm_size": st.sampled_from([0, 1 << 20, 8 << 20]),
        "oom_score_adj": st.integers(0, 1000),
        "group_add": st.lists(st.sampled_from(["7", "29", "audio"]), max_size=2).map(tuple),
        "ulimits": limits.map(tuple),
        "time_namespace": st.booleans(),
        "sysctls": st.sampled_from([(), (("kernel.msgmax", "4096"),)]),
        "resources": st.builds(
            Resources, pids_limit=st.one_of(st.none(), st.integers(20, 5000))
        ),
    }
)  # fmt: skip
configs = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["", "0", "1000", "alice", "7:8", "0:5"]),
        "working_dir": st.sampled_from(["", "/tmp", "/new/place"]),
        "hostname": st.sampled_from(["", "a-host"]),
        "env": st.lists(st.sampled_from(["A=1", "B=two words", "C=x=y"]), max_size=2).map(tuple),
    }
)


def _request(host: dict[str, Any], config: dict[str, Any], source: Path) -> ContainerRequest:
    mounts = tuple(
        replace(mount, source=str(source)) if mount.source else mount for mount in host["mounts"]
    )
    host = {**host, "mounts": mounts}
    return ContainerRequest(
        config=ContainerConfig(cmd=("sleep", "1000"), image="test", **config),
        host=HostConfig(**host),
    )


async def _admitted(box: Sandbox, request: ContainerRequest, userns: UsernsSpec) -> AdmittedSpec:
    """Through the same functions as in the engine."""
    made = await box.spec("true")
    rootfs = replace(made.rootfs, read_only=request.host.read_only_rootfs)
    if userns.mode == "auto":
        rootfs = replace(rootfs, driver="fuse-overlayfs", id_maps=userns.maps, volatile=False)
    image = ImageRecord("sha256:" + "a" * 64, 0, "amd64", "linux", ContainerConfig(), (), 0)
    world = World(
        settings=EngineSettings(box.base / "none", box.base / "none"),
        facts=FACTS,
        lookup=lambda ref: pytest.fail(f"nobody asked for {ref}"),
        networks=lambda ref: pytest.fail(f"nobody asked for network {ref}"),
        volume_path=lambda name: box.base / name,
        known_volumes={},
    )
    allocation = Allocation(made.id, ids.random_name(), 1, userns, rootfs)
    spec = resolve(request, image, allocation, world).spec
    paths = EnginePaths(*(box.base / "none" / name for name in ("data", "run", "config")))
    identity = Identity("unix", "tester", uid=1000)
    return admit(identity, spec, builtin("default", "/"), FACTS, paths)


def _sections(text: str) -> dict[str, str]:
    parts = text.split("== ")[1:]
    return {name: body for name, _, body in (part.partition("\n") for part in parts)}


def _status(text: str) -> dict[str, list[str]]:
    return {name: value.split() for name, _, value in (s.partition(":") for s in text.splitlines())}


def _outside(maps: tuple[IdMap, ...], inside: int) -> int:
    found = next(m for m in maps if m.inside <= inside < m.inside + m.size)
    return found.outside + inside - found.inside


def _check_credentials(spec: ContainerSpec, seen: dict[str, str]) -> None:
    status = _status(seen["status"])
    known = {"": (0, 0), "0": (0, 0), "1000": (1000, 1000), "alice": (1000, 1000)}
    uid, gid = known.get(spec.process.user) or map(int, spec.process.user.split(":"))
    maps = spec.userns.maps
    assert status["Uid"] == [str(_outside(maps, uid))] * 4
    assert status["Gid"] == [str(_outside(maps, gid))] * 4
    groups = {int(g) if g.isdigit() else 29 for g in spec.process.group_add}
    groups |= {29} if spec.process.user in ("1000", "alice") else set()
    assert {int(g) for g in status["Groups"]} - {_outside(maps, gid)} == {
        _outside(maps, g) for g in groups
    } - {_outside(maps, gid)}
    mask = f"{mask_of(spec.privileges.capabilities):016x}"
    assert status["CapBnd"] == [mask]
    held = mask if uid == 0 else "0" * 16
    assert (status["CapPrm"], status["CapEff"]) == ([held], [held])
    assert status["CapInh"] == status["CapAmb"] == ["0" * 16]
    assert status["NoNewPrivs"] == [str(int(spec.privileges.no_new_privileges))]
    assert (status["Seccomp"], status["Seccomp_filters"]) == (["2"], ["1"])
    wanted = [[str(m.inside), str(m.outside), str(m.size)] for m in maps]
    for name in ("uid_map", "gid_map"):
        assert [line.split() for line in seen[name].splitlines()] == wanted


def _check_mount(mount: MountSpec, found: Mount) -> None:
    flags = {"ro" if mount.read_only else "rw"}
    flags |= {name for name in SAFE if getattr(mount, name)}
    if mount.type == "tmpfs":
        assert (found.fstype, found.options, found.tags) == ("tmpfs", flags, ())
        if mount.size:
            assert f"size={mount.size >> 10}k" in found.super_options
        return
    assert found.options == flags
    if "slave" not in mount.propagation:
        assert found.tags == ()
    assert not any(tag.startswith("shared:") for tag in found.tags)


def _check_mounts(spec: ContainerSpec, seen: dict[str, str]) -> None:
    found = mounts_of(seen["mountinfo"])
    assert ("ro" in found["/"].options) is spec.rootfs.read_only
    for mount in spec.mounts:
        _check_mount(mount, found[mount.target])
    assert f"size={spec.shm_size >> 10}k" in found["/dev/shm"].super_options
    assert found["/sys"].options == found["/sys/fs/cgroup"].options == {"ro", *SAFE}
    for path in spec.readonly_paths:
        if os.path.exists(path):
            assert "ro" in found[path].options
    for path in spec.masked_paths:
        if os.path.exists(path):
            assert found[path].root == ("/" if os.path.isdir(path) else "/null")
    # Nothing of the host but what was asked for.
    asked = {mount.target for mount in spec.mounts}
    ours = ("/proc", "/sys", "/dev")
    others = {point for point in found if not point.startswith(ours)} - {"/"}
    assert others == asked


def _check_rest(spec: ContainerSpec, seen: dict[str, str]) -> None:
    lines = {line[:26].strip(): line[26:].split()[:2] for line in seen["limits"].splitlines()}
    for limit in spec.rlimits:
        assert lines[_LIMITS[limit.name]] == [str(limit.soft), str(limit.hard)]
    assert seen["oom_score_adj"].strip() == str(spec.oom_score_adj)
    host = {os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    own = set(seen["ns"].split())
    shared = {link.partition(":")[0] for link in own & host}
    assert shared == (
        set() if spec.namespaces.time == "private" else {"time", "time_for_children"} & shared
    )
    assert ("time" in shared) is (spec.namespaces.time == "host")
    env = dict(entry.split("=", 1) for entry in spec.process.env)
    there = dict(entry.split("=", 1) for entry in seen["environ"].splitlines())
    assert there.pop("HOME") in ("/root", "/home/alice", "/")
    assert there == env
    assert seen["fd"].split() == ["0", "1", "2"]


@hypothesis.settings(
    max_examples=8,
    # A start costs tenths of a second: a failure is shown as it was found.
    phases=[hypothesis.Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(host=hosts, config=configs, userns=st.sampled_from(_MAPS))
async def test_the_kernel_agrees_with_what_was_admitted(
    sandbox: Sandbox,
    tmp_path_factory: pytest.TempPathFactory,
    host: dict[str, Any],
    config: dict[str, Any],
    userns: UsernsSpec,
) -> None:
    source = tmp_path_factory.mktemp("source")
    source.parent.chmod(0o755)
    admitted = await _admitted(sandbox, _request(host, config, source), userns)
    spec = admitted.spec
    cache = sandbox.base / "filters"
    cache.mkdir(exist_ok=True)
    text = resolving.default_seccomp_profile("")
    capabilities = spec.privileges.capabilities
    made = filter_for(text, capabilities, os.uname().machine, (6, 1), cache_dir=cache)
    layout = sandbox.layout(
        spec, seccomp_path=str(store_raw(cache, made.loaded)), seccomp_flags=made.flags
    )
    created = await sandbox.launcher.create(plan_container(admitted, FACTS, layout))
    created.close_fds()
    client = ShimClient(sandbox.base / spec.id)
    await created.go()
    try:
        out = sandbox.base / f"{spec.id}.seen"
        script = f'exec > "{out}"\n{_LOOK}'
        await sandbox.shell(script, str(created.init_pid))
        seen = _sections(out.read_text())
        _check_credentials(spec, seen)
        _check_mounts(spec, seen)
        _check_rest(spec, seen)
    finally:
        await client.signal(9)
        await client.wait()


def test_capabilities_have_names() -> None:
    assert set(builtin("default", "/").names_of("capabilities.allow") or ()) <= set(CAPABILITIES)
