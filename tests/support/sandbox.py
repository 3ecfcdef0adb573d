"""Containers without an engine: a launcher, one busybox layer, and plans made by hand."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import replace
from pathlib import Path

from rootless.model.decision import Decision
from rootless.model.facts import CgroupFacts
from rootless.model.identity import Identity
from rootless.model.mounts import IdMap, RootfsMount
from rootless.model.plan import LogPlan
from rootless.model.request import ExecRequest, Resources
from rootless.model.spec import (
    AdmittedSpec,
    ContainerSpec,
    ImageSpec,
    NamespacesSpec,
    NetworkSpec,
    PrivilegesSpec,
    ProcessSpec,
    SeccompSpec,
    UsernsSpec,
)
from rootless.runtime.launcher_client import Created, Launcher
from rootless.runtime.planner import ContainerLayout, plan_container, plan_exec
from rootless.runtime.shim_client import ExitStatus, ShimClient, read_state
from tests.support.facts import HOST

FACTS = replace(
    HOST,
    fuse_overlayfs="",
    slirp4netns="",
    landlock_abi=0,
    cgroup=CgroupFacts(2, "", "", ()),
)

_LAYER = r"""
set -e
mkdir -p "$0/bin" "$0/etc" "$0/tmp" "$0/root" "$0/home/alice"
busybox=$(command -v busybox)
cp "$busybox" "$0/bin/busybox"
for name in $(busybox --list); do
    [ "$name" = busybox ] || ln -s busybox "$0/bin/$name"
done
printf 'root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n' > "$0/etc/passwd"
printf 'root:x:0:\nalice:x:1000:\naudio:x:29:alice\n' > "$0/etc/group"
chmod 1777 "$0/tmp"
chown -R 1:1 "$0"
chown 1001:1001 "$0/home/alice"
"""

MASKED = ("/proc/kcore", "/proc/keys", "/proc/acpi", "/sys/firmware")
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class Sandbox:
    """Starts containers below ``base``; ``close`` removes everything again."""

    def __init__(self, base: Path, launcher: Launcher) -> None:
        self.base = base
        self.launcher = launcher

    @classmethod
    async def open(cls, base: Path) -> Sandbox:
        """Start a launcher and make the layer."""
        launcher = await Launcher.start(modules=("storage.tree",))
        box = cls(base, launcher)
        layer = base / "layer"
        layer.mkdir()
        await box.shell(_LAYER, str(layer))
        return box

    async def shell(self, script: str, *arguments: str) -> None:
        """Run a script as the engine's root."""
        spawned = await self.launcher.spawn(["/bin/sh", "-c", script, *arguments], fds={})
        assert await spawned.wait() == 0

    async def close(self) -> None:
        """Remove every file and end the launcher."""
        for path in self.base.iterdir():
            await self.launcher.call("storage.tree.remove_tree", path=str(path))
        await self.launcher.close()

    async def spec(self, *args: str, **changes: object) -> ContainerSpec:
        """A spec running ``args`` with conservative settings; ``changes`` replace fields."""
        ident = secrets.token_hex(32)
        directory = self.base / ident
        directory.mkdir()
        for name in ("upper", "work"):
            (directory / name).mkdir()
        script = 'chown 1:1 "$0/upper" "$0/work"; chmod 755 "$0/upper"'
        await self.shell(script, str(directory))
        spec = ContainerSpec(
            id=ident,
            name="test",
            created_ns=0,
            image=ImageSpec("sha256:0", "test", ()),
            process=ProcessSpec(args=args, env=("PATH=/bin",), cwd="/", user="", stdin_once=True),
            hostname="box",
            domainname="",
            userns=UsernsSpec("shared", (IdMap(0, 1, 60000),), 60001 + secrets.randbelow(5000)),
            rootfs=RootfsMount(
                "overlay",
                (str(self.base / "layer"),),
                str(directory / "upper"),
                str(directory / "work"),
                volatile=True,
            ),
            mounts=(),
            masked_paths=MASKED,
            readonly_paths=READONLY,
            namespaces=NamespacesSpec(),
            privileges=PrivilegesSpec(("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL")),
            seccomp=SeccompSpec("unconfined", ""),
            network=NetworkSpec("none"),
            resources=Resources(),
        )
        return replace(spec, **changes)  # type: ignore[arg-type]  # keywords of any field

    def layout(self, spec: ContainerSpec, **changes: object) -> ContainerLayout:
        """Where the container of ``spec`` lives."""
        directory = self.base / spec.id
        layout = ContainerLayout(str(directory), log=LogPlan(str(directory / "container.log")))
        return replace(layout, **changes)  # type: ignore[arg-type]  # keywords of any field

    @staticmethod
    def admitted(spec: ContainerSpec) -> AdmittedSpec:
        """The runtime below the policy is what is tested here, so every spec counts as admitted."""
        return AdmittedSpec(spec, Identity("unix", "tester"), Decision(allowed=True, policy="test"))

    async def create(self, spec: ContainerSpec, **layout: object) -> Created:
        """Make the sandbox; it stands and waits for ``go``."""
        plan = plan_container(self.admitted(spec), FACTS, self.layout(spec, **layout))
        created = await self.launcher.create(replace(plan, trace=True))
        try:
            await created.ready()
        except BaseException:
            created.close_fds()
            raise
        return created

    async def start(self, spec: ContainerSpec, **layout: object) -> ShimClient:
        """Start the container."""
        created = await self.create(spec, **layout)
        created.close_fds()
        await created.go()
        return ShimClient(self.base / spec.id)

    async def run(self, spec: ContainerSpec, **layout: object) -> tuple[ExitStatus, str]:
        """Run it to its end: exit status and both streams of output, as logged."""
        client = await self.start(spec, **layout)
        status = await asyncio.wait_for(client.wait(), 60)
        return status, self.log(spec)

    def log(self, spec: ContainerSpec) -> str:
        """What the container wrote."""
        lines = (self.base / spec.id / "container.log").read_text().splitlines()
        return "".join(json.loads(line)["log"] for line in lines)

    async def exec(
        self, spec: ContainerSpec, *cmd: str, **changes: object
    ) -> tuple[Created, ShimClient]:
        """Make a further process in a running container, waiting for ``go``."""
        state = read_state(self.base / spec.id)
        assert state is not None
        name = secrets.token_hex(8)
        directory = self.base / spec.id / "exec" / name
        directory.mkdir(parents=True)
        request = replace(ExecRequest(cmd=cmd), **changes)  # type: ignore[arg-type]  # keywords of any field
        plan = plan_exec(
            self.admitted(spec),
            request,
            self.layout(spec),
            exec_id=name,
            directory=str(directory),
            init_pid=state.init_pid,
            init_start=state.init_start,
            env=spec.process.env,
        )
        return await self.launcher.exec(plan), ShimClient(directory)
