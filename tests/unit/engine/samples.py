"""Records for the unit tests of the engine."""

from __future__ import annotations

import time
from dataclasses import replace

from rootless import ids
from rootless.model.decision import Decision
from rootless.model.identity import Identity
from rootless.model.mounts import IdMap, RootfsMount
from rootless.model.records import ContainerRecord, ContainerState
from rootless.model.request import ContainerConfig, MountRequest, PortBinding, Resources
from rootless.model.spec import (
    ContainerSpec,
    ImageSpec,
    NamespacesSpec,
    NetworkSpec,
    PrivilegesSpec,
    ProcessSpec,
    SeccompSpec,
    UsernsSpec,
)

USER = Identity("unix", "tester", uid=1000, gid=1000)


def spec(name: str = "web", **changes: object) -> ContainerSpec:
    made = ContainerSpec(
        id=ids.new_id(),
        name=name,
        created_ns=time.time_ns(),
        image=ImageSpec("sha256:" + "a" * 64, "busybox:latest", ("sha256:" + "b" * 64,)),
        process=ProcessSpec(("sh",), ("PATH=/bin",), "/", ""),
        hostname="web",
        domainname="",
        userns=UsernsSpec("shared", (IdMap(0, 1, 65536),), 70000),
        rootfs=RootfsMount("overlay", ("/l/a",), "/c/upper", "/c/work"),
        mounts=(),
        masked_paths=(),
        readonly_paths=(),
        namespaces=NamespacesSpec(),
        privileges=PrivilegesSpec(()),
        seccomp=SeccompSpec("default", "{}"),
        network=NetworkSpec("none", ports=(PortBinding(80, "tcp"),)),
        resources=Resources(),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # keywords of any field


def record(name: str = "web", **state: object) -> ContainerRecord:
    made = spec(name)
    request = replace(made.request, host=replace(made.request.host, mounts=(
        MountRequest("bind", "/data", "/srv"),
    )))  # fmt: skip
    return ContainerRecord(
        spec=replace(made, request=request),
        config=ContainerConfig(cmd=("sh",), labels=(("tier", "front"),)),
        identity=USER,
        decision=Decision(allowed=True, policy="builtin"),
        state=ContainerState(**state),  # type: ignore[arg-type]  # keywords of any field
    )
