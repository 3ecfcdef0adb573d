"""The checks of level baseline (kubernetes.io/docs/concepts/security/pod-security-standards)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from rootless.policy.podsecurity.pod import Pod, View, name_of
from rootless.policy.podsecurity.types import Breach

_CAPABILITIES = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID "
    "SETPCAP SETUID SYS_CHROOT".split()
)
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
_SYSCTLS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        0,
        (
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.ping_group_range",
            "net.ipv4.tcp_syncookies",
        ),
    ),
    (27, ("net.ipv4.ip_local_reserved_ports",)),
    (
        29,
        (
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
            "net.ipv4.tcp_keepalive_time",
        ),
    ),
    (32, ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")),
    (37, ("net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_slow_start_after_idle")),
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
SECCOMP_TYPES = frozenset({"RuntimeDefault", "Localhost"})


def contexts(pod: Pod) -> Iterator[tuple[str, View]]:
    """Who sets a securityContext, and it; the pod first."""
    if pod.security is not None:
        yield "pod", pod.security
    for container in pod.containers():
        context = container.object("securityContext")
        if context is not None:
            yield f'container "{name_of(container)}"', context


def privileged(pod: Pod, _: int) -> Iterator[Breach]:
    """No container is privileged."""
    for container in pod.containers():
        context = container.object("securityContext")
        if context is not None and context.flag("privileged"):
            message = f'container "{name_of(container)}" is privileged'
            yield Breach(message, (*context.path, "privileged"), "HostConfig.Privileged", "true")


def capabilities(pod: Pod, _: int) -> Iterator[Breach]:
    """Only capabilities of the default set are added."""
    for container in pod.containers():
        found = container.object("securityContext", "capabilities")
        for index, name in enumerate(found.texts("add") if found else ()):
            if found is not None and name not in _CAPABILITIES:
                yield Breach(
                    f'container "{name_of(container)}" adds the capability {name}',
                    (*found.path, "add", index),
                    "HostConfig.CapAdd",
                    name,
                )


def host_namespaces(pod: Pod, _: int) -> Iterator[Breach]:
    """Neither network, PIDs nor IPC of the host."""
    for name, field in (
        ("hostNetwork", "NetworkMode"),
        ("hostPID", "PidMode"),
        ("hostIPC", "IpcMode"),
    ):
        if pod.spec.flag(name):
            yield Breach(
                f"the pod sets {name}", (*pod.spec.path, name), f"HostConfig.{field}", "host"
            )


def host_path_volumes(pod: Pod, _: int) -> Iterator[Breach]:
    """No volume is a path of the host."""
    for volume in pod.spec.objects("volumes"):
        found = volume.object("hostPath")
        if found is not None:
            yield Breach(
                f'volume "{volume.text("name") or ""}" is a path of the host',
                found.path,
                "HostConfig.Mounts",
                found.text("path") or "",
            )


def host_ports(pod: Pod, _: int) -> Iterator[Breach]:
    """No port of the host is taken; with hostNetwork every container port is one."""
    shared = pod.spec.flag("hostNetwork")
    for container in pod.containers():
        for port in container.objects("ports"):
            number = port.number("hostPort")
            at = (*port.path, "hostPort")
            if not number and shared:
                number, at = port.number("containerPort"), (*port.path, "containerPort")
            if number:
                message = f'container "{name_of(container)}" takes port {number} of the host'
                yield Breach(message, at, "HostConfig.PortBindings", str(number))


def _handlers(container: View) -> Iterator[View]:
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield from filter(None, [container.object(name)])
    for name in ("postStart", "preStop"):
        yield from filter(None, [container.object("lifecycle", name)])


def host_probes(pod: Pod, _: int) -> Iterator[Breach]:
    """Probes and lifecycle handlers name no host, which the node would connect to."""
    for container in pod.containers():
        for handler in _handlers(container):
            for action in filter(None, map(handler.object, ("httpGet", "tcpSocket"))):
                host = action.text("host")
                if host:
                    message = f'container "{name_of(container)}" has the node connect to {host}'
                    yield Breach(message, (*action.path, "host"), "Config.Healthcheck", host)


def proc_mount(pod: Pod, minor: int) -> Iterator[Breach]:
    """/proc stays masked, outside of user namespaces."""
    if minor >= 35 and pod.in_user_namespace:
        return
    yield from unmasked(pod)


def unmasked(pod: Pod) -> Iterator[Breach]:
    """Containers that ask for another /proc than the default."""
    for container in pod.containers():
        context = container.object("securityContext")
        found = context.text("procMount") if context else None
        if context is not None and found is not None and found != "Default":
            message = f'container "{name_of(container)}" has procMount {found}'
            yield Breach(message, (*context.path, "procMount"), "HostConfig.MaskedPaths", found)


def selinux(pod: Pod, minor: int) -> Iterator[Breach]:
    """SELinux types are those for containers; user and role are not set."""
    types = _SELINUX_TYPES | ({"container_engine_t"} if minor >= 31 else set())
    for who, context in contexts(pod):
        options = context.object("seLinuxOptions")
        if options is None:
            continue
        for name in ("type", "user", "role"):
            found = options.text(name) or ""
            if found not in (types if name == "type" else {""}):
                message = f"{who} sets the SELinux {name} {found}"
                yield Breach(
                    message,
                    (*options.path, name),
                    "HostConfig.SecurityOpt",
                    f"label={name}:{found}",
                )


def seccomp(pod: Pod, minor: int) -> Iterator[Breach]:
    """A seccomp profile that is named is the runtime's or a local one."""
    yield from seccomp_fields(pod) if minor >= 19 else _seccomp_annotations(pod)


def seccomp_fields(pod: Pod) -> Iterator[Breach]:
    """securityContext.seccompProfile.type of pod and containers."""
    for who, context in contexts(pod):
        profile = context.object("seccompProfile")
        if profile is not None and profile.text("type") not in SECCOMP_TYPES:
            found = profile.text("type") or ""
            yield Breach(
                f"{who} sets the seccomp profile {found or '(none)'}",
                (*profile.path, "type"),
                "HostConfig.SecurityOpt",
                f"seccomp={found.lower()}",
            )


def _seccomp_annotations(pod: Pod) -> Iterator[Breach]:
    names = (f"{_SECCOMP_CONTAINER}{name_of(container)}" for container in pod.containers())
    for key in chain([_SECCOMP_POD], names):
        found = pod.annotations.text(key)
        if found is None or found in {"runtime/default", "docker/default"}:
            continue
        if not found.startswith("localhost/"):
            message = f"the annotation {key} is {found}"
            yield Breach(
                message, (*pod.annotations.path, key), "HostConfig.SecurityOpt", f"seccomp={found}"
            )


def apparmor(pod: Pod, _: int) -> Iterator[Breach]:
    """The AppArmor profile is the runtime's or a local one."""
    for key in sorted(pod.annotations.value):
        if not key.startswith(_APPARMOR):
            continue
        found = pod.annotations.text(key) or ""
        if found and found != "runtime/default" and not found.startswith("localhost/"):
            yield Breach(
                f"the annotation {key} is {found}",
                (*pod.annotations.path, key),
                "HostConfig.SecurityOpt",
                f"apparmor={found}",
            )
    for who, context in contexts(pod):
        profile = context.object("appArmorProfile")
        if profile is not None and profile.text("type") not in SECCOMP_TYPES:
            found = profile.text("type") or ""
            yield Breach(
                f"{who} sets the AppArmor profile {found or '(none)'}",
                (*profile.path, "type"),
                "HostConfig.SecurityOpt",
                f"apparmor={found.lower()}",
            )


def sysctls(pod: Pod, minor: int) -> Iterator[Breach]:
    """Only sysctls that are the pod's own and harm nobody else."""
    safe = {name for since, names in _SYSCTLS if since <= minor for name in names}
    for entry in pod.security.objects("sysctls") if pod.security else ():
        name = entry.text("name") or ""
        if name not in safe:
            yield Breach(
                f"the pod sets the sysctl {name}", (*entry.path, "name"), "HostConfig.Sysctls", name
            )


def windows_host_process(pod: Pod, _: int) -> Iterator[Breach]:
    """No HostProcess container."""
    for who, context in contexts(pod):
        options = context.object("windowsOptions")
        if options is not None and options.flag("hostProcess"):
            message = f"{who} runs on the Windows host"
            yield Breach(message, (*options.path, "hostProcess"), "HostConfig.Isolation", "true")
