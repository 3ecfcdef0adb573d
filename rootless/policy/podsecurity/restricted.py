"""The checks that level restricted adds (or puts in the place of baseline's)."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.policy.podsecurity.baseline import SECCOMP_TYPES, contexts, seccomp_fields, unmasked
from rootless.policy.podsecurity.pod import Pod, name_of
from rootless.policy.podsecurity.types import Breach

_WINDOWS_RELAXED = 25
"""From 1.25 pods for Windows need not set what only Linux has."""
_USERNS_RELAXED = 35
"""From 1.35 pods in a user namespace may be root in it."""
_VOLUMES = frozenset(
    "configMap csi downwardAPI emptyDir ephemeral image persistentVolumeClaim projected "
    "secret".split()
)
_SOURCES = frozenset(
    "awsElasticBlockStore azureDisk azureFile cephfs cinder fc flexVolume flocker "
    "gcePersistentDisk gitRepo glusterfs hostPath iscsi nfs photonPersistentDisk portworxVolume "
    "quobyte rbd scaleIO storageos vsphereVolume".split()
)


def privilege_escalation(pod: Pod, minor: int) -> Iterator[Breach]:
    """Every container says allowPrivilegeEscalation: false."""
    if minor >= _WINDOWS_RELAXED and pod.windows:
        return
    for container in pod.containers():
        context = container.object("securityContext")
        if context is None or context.flag("allowPrivilegeEscalation") is not False:
            at = (*context.path, "allowPrivilegeEscalation") if context else container.path
            yield Breach(
                f'container "{name_of(container)}" may gain privileges',
                at,
                "HostConfig.SecurityOpt",
                "no-new-privileges=false",
            )


def capabilities(pod: Pod, minor: int) -> Iterator[Breach]:
    """Every container drops ALL and adds at most NET_BIND_SERVICE."""
    if minor >= _WINDOWS_RELAXED and pod.windows:
        return
    for container in pod.containers():
        name = name_of(container)
        found = container.object("securityContext", "capabilities")
        if found is None or "ALL" not in found.texts("drop"):
            at = (*found.path, "drop") if found else container.path
            yield Breach(
                f'container "{name}" does not drop ALL capabilities', at, "HostConfig.CapDrop", ""
            )
        for index, added in enumerate(found.texts("add") if found else ()):
            if found is not None and added != "NET_BIND_SERVICE":
                message = f'container "{name}" adds the capability {added}'
                yield Breach(message, (*found.path, "add", index), "HostConfig.CapAdd", added)


def volumes(pod: Pod, _: int) -> Iterator[Breach]:
    """Volumes are of kinds that show nothing of a host or a network."""
    for volume in pod.spec.objects("volumes"):
        if any(volume.value.get(kind) is not None for kind in _VOLUMES):
            continue
        for kind in sorted(_SOURCES):
            if volume.value.get(kind) is not None:
                message = f'volume "{volume.text("name") or ""}" is of kind {kind}'
                yield Breach(message, (*volume.path, kind), "HostConfig.Mounts", kind)
                break


def run_as_non_root(pod: Pod, minor: int) -> Iterator[Breach]:
    """runAsNonRoot is true for every container, and false nowhere."""
    if minor >= _USERNS_RELAXED and pod.in_user_namespace:
        return
    asked = pod.security.flag("runAsNonRoot") if pod.security else None
    for who, context in contexts(pod):
        if context.flag("runAsNonRoot") is False:
            message = f"{who} sets runAsNonRoot to false"
            yield Breach(message, (*context.path, "runAsNonRoot"), "Config.User", "root")
    for container in pod.containers():
        own = container.object("securityContext")
        if (own is None or own.flag("runAsNonRoot") is None) and not asked:
            message = f'neither the pod nor container "{name_of(container)}" sets runAsNonRoot'
            yield Breach(message, own.path if own else container.path, "Config.User", "")


def run_as_user(pod: Pod, minor: int) -> Iterator[Breach]:
    """Nobody sets runAsUser: 0."""
    if minor >= _USERNS_RELAXED and pod.in_user_namespace:
        return
    for who, context in contexts(pod):
        if context.number("runAsUser") == 0:
            message = f"{who} sets runAsUser to 0"
            yield Breach(message, (*context.path, "runAsUser"), "Config.User", "0")


def seccomp(pod: Pod, minor: int) -> Iterator[Breach]:
    """A seccomp profile is named, and it is the runtime's or a local one."""
    if minor >= _WINDOWS_RELAXED and pod.windows:
        return
    yield from seccomp_fields(pod)
    own = pod.security.object("seccompProfile") if pod.security else None
    if own is not None and own.text("type") in SECCOMP_TYPES:
        return
    for container in pod.containers():
        context = container.object("securityContext")
        if context is None or context.object("seccompProfile") is None:
            yield Breach(
                f'neither the pod nor container "{name_of(container)}" names a seccomp profile',
                context.path if context else container.path,
                "HostConfig.SecurityOpt",
                "",
            )


def proc_mount(pod: Pod, _: int) -> Iterator[Breach]:
    """/proc stays masked, in user namespaces too."""
    yield from unmasked(pod)
