"""SELinux labels: what a container's processes run as, and what its files carry.

Processes get a pair of categories that no other container of the engine has, files
the same: type enforcement keeps containers from the host, the pair from one another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rootless.errors import Exhausted, HostUnsupported, InvalidInput
from rootless.linux.selinux import FILE_TYPE, PROCESS_TYPE, level_of
from rootless.model.mounts import MountSpec, RootfsMount
from rootless.model.request import HostConfig
from rootless.model.spec import SelinuxSpec

_CATEGORIES = 1024
_PAIRS = _CATEGORIES * (_CATEGORIES - 1) // 2
_KEYS = ("user", "role", "type", "level", "filetype")
SELINUXFS = "/sys/fs/selinux"


@dataclass(frozen=True, slots=True)
class SelinuxHost:
    """The engine's own label, and the kernel's judgement whether the policy has a label."""

    own: str
    is_valid: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """``label=`` options taken apart; ``asked`` when any of them wants a label."""

    values: Mapping[str, str]
    disable: bool = False
    nested: bool = False

    @property
    def asked(self) -> bool:
        """Whether any option makes sense with a label only."""
        return bool(self.values or self.nested)


def parse_options(options: Sequence[str]) -> LabelOptions:
    """The values of all ``--security-opt label=…`` of a container."""
    values: dict[str, str] = {}
    disable = nested = False
    for option in options:
        key, colon, value = option.partition(":")
        if option in ("disable", "disabled"):
            disable = True
        elif option == "nested":
            nested = True
        elif colon and key in _KEYS and value and "\0" not in value:
            values[key] = value
        else:
            raise InvalidInput(
                f'invalid --security-opt: "label={option[:80]}"',
                hint="label=type:T, level:L, user:U, role:R, filetype:T, disable or nested",
            )
    return LabelOptions(values, disable, nested)


def choose_categories(used: Collection[str]) -> str:
    """A pair such as ``c12,c900`` that is in none of the levels ``used``; Exhausted without one.

    At random, as other engines on the machine choose theirs.
    """
    taken = {level.rpartition(":")[2] for level in used}
    if len(taken) >= _PAIRS:
        raise Exhausted("every pair of SELinux categories is in use", hint="remove containers")
    while True:
        low, high = sorted(random.sample(range(_CATEGORIES), 2))
        pair = f"c{low},c{high}"
        if pair not in taken:
            return pair


def resolve_labels(
    options: LabelOptions,
    host: HostConfig,
    selinux: SelinuxHost | None,
    *,
    enabled: bool,
    categories: str,
    shared_with: SelinuxSpec | None,
) -> SelinuxSpec:
    """The labels of a new container.

    ``enabled`` is the daemon's setting; ``shared_with`` has the labels of a container whose
    processes or memory it shares. As in Docker there are none for privileged containers and
    those in the host's pid or ipc namespace, unless options ask for them.
    """
    if selinux is None:
        if options.asked:
            raise HostUnsupported(
                "the security option label asks for SELinux, which this host does not run",
                hint="drop the option or enable SELinux",
            )
        return SelinuxSpec()
    if options.disable or not (enabled or options.asked):
        return SelinuxSpec()
    if not options.asked:
        if host.privileged or "host" in (host.pid_mode, host.ipc_mode):
            return SelinuxSpec()
        if shared_with is not None:
            return shared_with
    return _compose(options, selinux, categories)


def _compose(options: LabelOptions, selinux: SelinuxHost, categories: str) -> SelinuxSpec:
    values = options.values
    own_level = level_of(selinux.own)
    if not own_level:
        raise HostUnsupported(
            "this host's SELinux policy has no levels: they keep containers apart",
            hint="use a policy with MCS, or --security-opt label=disable",
        )
    sensitivity = own_level.partition(":")[0].partition("-")[0]
    level = values.get("level") or f"{sensitivity}:{categories}"
    own_user, own_role, _ = selinux.own.split(":", 2)
    user, kind = values.get("user", own_user), values.get("type", PROCESS_TYPE)
    roles = [values["role"]] if "role" in values else [own_role, "system_r"]
    process = _first_valid([f"{user}:{role}:{kind}:{level}" for role in roles], selinux)
    file_type = values.get("filetype", FILE_TYPE)
    mount = _first_valid([f"{user}:object_r:{file_type}:{level}"], selinux)
    return SelinuxSpec(process, mount, options.nested)


def _first_valid(labels: Sequence[str], selinux: SelinuxHost) -> str:
    for label in labels:
        if selinux.is_valid(label):
            return label
    raise HostUnsupported(
        f"the loaded SELinux policy does not know the label {labels[0]}",
        hint="its container types come with container-selinux, or sudo rootless setup; see "
        "rootless doctor",
    )


def check_types(selinux: SelinuxHost) -> None:
    """Raise HostUnsupported when no container could get a label here."""
    _compose(LabelOptions({}), selinux, "c0,c1")


def shared_label(mount: str) -> str:
    """The label of files that every container may use: without categories."""
    user, role, kind, level = mount.split(":", 3)
    return f"{user}:{role}:{kind}:{level.partition(':')[0]}"


def relabel_to(mode: str, labels: SelinuxSpec) -> str:
    """What ``z`` (for all) and ``Z`` (this container's alone) in ``mode`` mean; '' for neither."""
    if "Z" in mode:
        return labels.mount
    return shared_label(labels.mount) if labels.mount and "z" in mode else ""


def label_mounts(
    mounts: Iterable[MountSpec], modes: Mapping[str, str], labels: SelinuxSpec
) -> tuple[MountSpec, ...]:
    """The mounts with their labels; ``modes`` has z and Z by target.

    A volume belongs to containers: without a mode it is labelled for all of them.
    """
    if not labels.mount:
        return tuple(mounts)
    found = []
    for mount in mounts:
        label = relabel_to(modes.get(mount.target, ""), labels) or mount.label
        if mount.type == "tmpfs":
            label = labels.mount
        elif mount.type == "volume" and not label:
            label = shared_label(labels.mount)
        layers = None if mount.layers is None else label_rootfs(mount.layers, labels)
        found.append(replace(mount, label=label, layers=layers))
    if labels.nested and all(mount.target != SELINUXFS for mount in found):
        found.append(MountSpec("bind", SELINUXFS, SELINUXFS, noexec=True))
    return tuple(found)


def label_rootfs(rootfs: RootfsMount, labels: SelinuxSpec) -> RootfsMount:
    """The root file system with its label, where the driver keeps one."""
    if not labels.mount or rootfs.driver == "fuse-overlayfs":
        return rootfs
    return replace(rootfs, label=labels.mount)


def warnings_of(labels: SelinuxSpec, rootfs: RootfsMount, *, enabled: bool) -> tuple[str, ...]:
    """Where labels hold less than one might think."""
    if labels.mount and rootfs.driver == "fuse-overlayfs":
        return (
            "SELinux: fuse-overlayfs keeps no labels, so the files of the root file system are "
            "kept apart by their ids alone",
        )
    if enabled and not labels.process:
        return ("SELinux labels are off for this container",)
    return ()
