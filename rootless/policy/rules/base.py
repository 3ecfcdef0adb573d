"""What a rule is."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rootless.model.build import BuildSpec
from rootless.model.decision import Severity
from rootless.model.facts import CgroupFacts, HostFacts
from rootless.model.image import ImageFacts
from rootless.model.mounts import MountSpec
from rootless.model.spec import ContainerSpec
from rootless.model.usage import Usage
from rootless.policy.paths import EnginePaths, MountTable, own_storage
from rootless.policy.podsecurity.pod import Pod
from rootless.policy.policy import Policy

_NOWHERE = Path("/nonexistent")
ANY_HOST = HostFacts(
    kernel=(0, 0), arch="x86_64", uid=-1, gid=-1, user="", id_count=65536, native_overlay=True,
    fuse_overlayfs="", slirp4netns="", landlock_abi=0, seccomp_user_notif=False, selinux=False,
    cgroup=CgroupFacts(2, "", "", ()),
)  # fmt: skip
"""Rules on files look at no host; these facts stand where one is needed."""
NO_PATHS = EnginePaths(_NOWHERE, _NOWHERE, _NOWHERE, _NOWHERE)


@dataclass(frozen=True)  # without slots: host_mounts is computed once
class Case:
    """What rules look at: one spec under one policy on one host.

    ``offline`` cases come from files: paths in them are those of another machine
    and are compared as they are written. ``declared`` and ``observed`` are those of
    the input's container (``policy.inputs.unit``).
    """

    spec: ContainerSpec
    policy: Policy
    facts: HostFacts
    paths: EnginePaths
    offline: bool = False
    declared: bool = False
    observed: Mapping[str, str] = field(default_factory=dict)
    pod: Pod | None = None
    """The pod itself, where the input is one; ``spec`` is then one of its containers."""
    usage: Usage | None = None
    """What the container's owner would have; None where nobody has anything: for files."""
    images: tuple[ImageFacts, ...] = ()
    """The container's image and those it mounts. In the engine they are always given when it is
    made or started; a file's are known by the name in ``spec``."""
    build: BuildSpec | None = None
    """The build of the container's image, where it is asked for."""

    def resolve(self, path: str) -> str:
        """A path of the host without symlinks."""
        return posixpath.normpath(path) if self.offline else os.path.realpath(path)

    @cached_property
    def host_mounts(self) -> tuple[tuple[MountSpec, str], ...]:
        """Mounts that show something of the host, each with its resolved source."""
        found = []
        for mount in self.spec.mounts:
            if mount.type in {"bind", "volume", "image"}:
                if self.offline and mount.type != "bind":
                    continue  # an engine's own storage
                source = self.resolve(mount.source)
                if not own_storage(source, mount.type, mount.volume_name, self.paths):
                    found.append((mount, source))
        return tuple(found)

    @cached_property
    def mount_table(self) -> MountTable:
        """The engine's mounts as they are now."""
        return MountTable.read()

    def roots(self, key: str) -> tuple[tuple[str, frozenset[str]], ...]:
        """A policy's list of paths: each as written, and that with symlinks resolved as well."""
        names = sorted(self.policy.names_of(key) or ())
        if not names or not self.host_mounts:
            return ()
        return tuple((name, frozenset({name, self.resolve(name)})) for name in names)


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a rule does not hold.

    ``field`` is the request's field as in the Engine API, ``key`` the policy's
    field that says so ('' for what no policy can allow).
    """

    field: str
    value: str
    reason: str
    key: str = ""
    fix: str = ""
    at: tuple[str, ...] = ()
    """What in ``field``: a mount's target and its option."""
    path: tuple[str | int, ...] | None = None
    """Where in the input's document, when the rule looked at that itself."""


Check = Callable[[Case], Iterator[Violation]]


@dataclass(frozen=True, slots=True)
class Rule:
    """``remediation`` is the fix when a violation names none. ``floor`` rules always deny.

    ``keys`` are the policy's fields that can make a finding of it.
    """

    id: str
    severity: Severity
    references: tuple[str, ...]
    remediation: str
    check: Check
    floor: bool = False
    keys: tuple[str, ...] = ()

    @property
    def rationale(self) -> str:
        """Why, on one line: the check's docstring."""
        return " ".join((self.check.__doc__ or "").split())


def rule(
    id: str,
    severity: Severity,
    *,
    keys: tuple[str, ...] = (),
    references: tuple[str, ...] = (),
    remediation: str,
    floor: bool = False,
) -> Callable[[Check], Rule]:
    """Make a rule of a function; its docstring is the rule's rationale."""

    def wrap(check: Check) -> Rule:
        return Rule(id, severity, references, remediation, check, floor, keys)

    return wrap
