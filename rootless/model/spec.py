"""What will run: a request after image config, defaults and host facts were applied.

The policy decides on this form, and nothing is added after its decision: the
planner turns an :class:`AdmittedSpec` into a launch plan without defaults of
its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rootless.model.decision import Decision
from rootless.model.identity import Identity
from rootless.model.mounts import IdMap, MountSpec, RootfsMount
from rootless.model.network import BRIDGE, Attachment, EgressLists
from rootless.model.request import (
    ContainerRequest,
    Healthcheck,
    LogConfig,
    PortBinding,
    Resources,
    RestartPolicy,
    RlimitRequest,
)


@dataclass(frozen=True, slots=True)
class UsernsSpec:
    """The container's user namespace.

    ``maps`` serve uids and gids alike. ``owner`` is an id of the engine's
    namespace that only this container's namespace is created with, so that
    RLIMIT_NPROC counts its processes alone (user_namespaces(7)).
    """

    mode: Literal["shared", "auto"]
    maps: tuple[IdMap, ...]
    owner: int


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """The image a container is made from. ``id`` is the config digest ``sha256:…``."""

    id: str
    reference: str
    diff_ids: tuple[str, ...]
    """Lowest layer first."""
    name: str = ""
    """The reference in full, as policies read it; '' in records of older versions."""


@dataclass(frozen=True, slots=True)
class LandlockSpec:
    """What the policy lets the container's processes reach; None restricts nothing.

    ``read`` and ``write`` are paths in the container with all below them (``write`` is
    part of ``read``), ``connect`` and ``bind`` TCP ports. ``abi`` is the kernel's.
    """

    abi: int
    read: tuple[str, ...] | None = None
    write: tuple[str, ...] | None = None
    connect: tuple[int, ...] | None = None
    bind: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """The container's process. ``args[0]`` is looked up in the container's PATH by init."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    """As given (``name``, ``uid``, ``name:group``…); resolved in the rootfs by init."""
    group_add: tuple[str, ...] = ()
    terminal: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    console_size: tuple[int, int] = (0, 0)
    forbid_root: bool = False
    """An obligation of the policy: init refuses when the user resolves to uid 0."""
    init_binary: str = ""
    """Host path of tini or catatonit for ``--init``; '' for none."""
    landlock: LandlockSpec | None = None
    """An obligation of the policy; admission sets it anew at each start."""


@dataclass(frozen=True, slots=True)
class NamespacesSpec:
    """'private', 'host', or 'container:ID' (a full id) each; mount and user are always private."""

    network: str = "private"
    ipc: str = "private"
    pid: str = "private"
    uts: str = "private"
    cgroup: str = "private"
    time: str = "host"


@dataclass(frozen=True, slots=True)
class SeccompSpec:
    """``profile`` is the JSON text of an OCI/Docker seccomp profile, '' when unconfined."""

    kind: Literal["default", "custom", "unconfined"]
    profile: str
    log: bool = False
    """Denied calls are also logged (``seccomp-log``)."""


@dataclass(frozen=True, slots=True)
class SelinuxSpec:
    """SELinux labels: of the container's processes, and of files that are its alone.

    Both '' where labels are off. ``nested`` lets its processes see the host's policy.
    """

    process: str = ""
    mount: str = ""
    nested: bool = False


@dataclass(frozen=True, slots=True)
class PrivilegesSpec:
    """Capability names are upper case with ``CAP_``.

    ``capabilities`` is the bounding, permitted and effective set.
    """

    capabilities: tuple[str, ...]
    no_new_privileges: bool = True
    privileged: bool = False


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A host device node bound into /dev."""

    source: str
    target: str
    permissions: str


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """``mode`` is slirp4netns, bridge, none, host or ``container:ID``.

    With ``attachments`` the container is on bridge networks: in mode bridge on
    nothing else, in mode slirp4netns besides its own way out.
    """

    mode: str
    ports: tuple[PortBinding, ...] = ()
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    mac_address: str = ""
    ipv6: bool = True
    attachments: tuple[Attachment, ...] = ()
    asked_mode: str = ""
    """In mode bridge: the name or id the client gave, which inspect shows."""
    egress: tuple[str, ...] | None = None
    """The egress list of all its ways out, besides those of its networks (``model.egress``)."""

    @property
    def ways_out(self) -> list[tuple[str, EgressLists]]:
        """Networks that lead out, by name, and the egress lists that count there.

        A network that is shared, or not known, has none.
        """
        own = () if self.egress is None else (self.egress,)
        if self.mode == "host" or self.mode.startswith("container:"):
            return [(self.mode, ())]
        found: list[tuple[str, EgressLists]] = []
        if self.mode == "slirp4netns" or (self.mode == BRIDGE and not self.attachments):
            found.append((self.asked_mode or self.mode, own))
        for one in self.attachments:
            if one.outward:
                lists = tuple(x for x in (one.network_egress, one.egress) if x is not None)
                found.append((one.network, (*lists, *own)))
        return found

    @property
    def shown_mode(self) -> str:
        """``HostConfig.NetworkMode``."""
        return self.asked_mode or self.mode


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that decides how the container runs."""

    id: str
    name: str
    created_ns: int
    """Unix time in nanoseconds."""
    image: ImageSpec
    process: ProcessSpec
    hostname: str
    domainname: str
    userns: UsernsSpec
    rootfs: RootfsMount
    mounts: tuple[MountSpec, ...]
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]
    namespaces: NamespacesSpec
    privileges: PrivilegesSpec
    seccomp: SeccompSpec
    network: NetworkSpec
    resources: Resources
    rlimits: tuple[RlimitRequest, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    devices: tuple[DeviceSpec, ...] = ()
    shm_size: int = 64 << 20
    oom_score_adj: int = 0
    cgroup_parent: str = ""
    stop_signal: int = 15
    stop_timeout: int = 10
    timeout: int = 0
    """Seconds it may run, 0 for ever; admission sets it to what the policy allows."""
    restart: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    log: LogConfig = LogConfig(type="json-file")
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    healthcheck: Healthcheck | None = None
    mounted: tuple[ImageSpec, ...] = ()
    """Images that ``mounts`` show, besides the one it is made from."""
    selinux: SelinuxSpec = SelinuxSpec()
    request: ContainerRequest = ContainerRequest()
    """The request this came from, for inspect; nothing below reads it."""


@dataclass(frozen=True, slots=True)
class AdmittedSpec:
    """A spec the policy let through; only :func:`rootless.policy.admission.admit` makes one."""

    spec: ContainerSpec
    identity: Identity
    decision: Decision
