"""A harmless spec and a policy for it, for tests to bend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rootless.model.defaults import MASKED_PATHS, READONLY_PATHS
from rootless.model.identity import Identity
from rootless.model.mounts import IdMap, RootfsMount
from rootless.model.request import ContainerRequest, HostConfig, PortBinding, Resources
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
from rootless.policy.load import load_policy
from rootless.policy.paths import EnginePaths
from rootless.policy.policy import Policy
from tests.support.facts import HOST

HOME = "/home/nobody-here"

IDENTITY = Identity("unix", "tester", uid=3_000_000_001)
"""Not the engine's own user, whoever runs the tests."""
FACTS = replace(HOST, fuse_overlayfs="")
PATHS = EnginePaths(
    data_root=Path(f"{HOME}/.local/share/rootless"),
    exec_root=Path("/run/user/4711/rootless"),
    config_dir=Path(f"{HOME}/.config/rootless"),
)

SPEC = ContainerSpec(
    id="f" * 64,
    name="quiet_heron",
    created_ns=0,
    image=ImageSpec("sha256:" + "0" * 64, "docker.io/library/busybox:latest", ()),
    process=ProcessSpec(("sh",), (), "/", ""),
    hostname="h",
    domainname="",
    userns=UsernsSpec("shared", (IdMap(0, 1, 65536),), 70000),
    rootfs=RootfsMount("overlay", ("/l",), "/u", "/w"),
    mounts=(),
    masked_paths=MASKED_PATHS,
    readonly_paths=READONLY_PATHS,
    namespaces=NamespacesSpec(),
    privileges=PrivilegesSpec(("CAP_CHOWN", "CAP_KILL")),
    seccomp=SeccompSpec("default", "{}"),
    network=NetworkSpec("slirp4netns", (PortBinding(80, "tcp", "127.0.0.1", 8080),)),
    resources=Resources(),
)


def spec(**changes: Any) -> ContainerSpec:
    return replace(SPEC, **changes)


def asked(**changes: Any) -> ContainerRequest:
    return ContainerRequest(host=HostConfig(**changes))


def policy(spec: str = "", *, extends: str = "none", more: str = "") -> Policy:
    """A policy with these areas (YAML, indented by two)."""
    text = (
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: test}\n"
        f"extends: {extends}\n{more}"
    )
    return load_policy(text + (f"spec:\n{spec}" if spec else ""), "test.yaml", home=HOME)
