"""Bounds that are neither memory nor CPU: counts, ids, mount options, system calls, labels."""

from __future__ import annotations

from collections.abc import Iterator

from rootless.linux.seccomp import RET_ALLOW, RET_LOG, RET_TRACE
from rootless.policy.rules.base import Case, Violation, rule
from rootless.policy.rules.user import is_root
from rootless.seccomp.profile import parse_profile

_LETS_PASS = frozenset({RET_ALLOW, RET_LOG, RET_TRACE})
_ACTION = 0xFFFF0000


@rule(
    "mounts.count",
    "low",
    keys=("mounts.maximum",),
    remediation="mount fewer things",
)
def count(case: Case) -> Iterator[Violation]:
    """Each mount is a way out of the container's own files."""
    most = case.policy.number("mounts.maximum")
    have = sum(mount.type in {"bind", "volume", "tmpfs", "image"} for mount in case.spec.mounts)
    if most is not None and have > most:
        reason = f"the policy allows {most} mounts at most"
        yield Violation("HostConfig.Mounts", str(have), reason, "mounts.maximum")


@rule(
    "mounts.options",
    "medium",
    keys=("mounts.requireOptions",),
    remediation="add the option to the mount",
)
def options(case: Case) -> Iterator[Violation]:
    """Mounts carry the options that the policy asks for."""
    wanted = case.policy.names_of("mounts.requireOptions")
    for mount in case.spec.mounts if wanted else ():
        if mount.type not in {"bind", "volume", "tmpfs"}:
            continue
        have = {
            "ro": mount.read_only,
            "nosuid": mount.nosuid,
            "nodev": mount.nodev,
            "noexec": mount.noexec,
        }
        for name in sorted(wanted or ()):
            if not have[name]:
                yield Violation(
                    "HostConfig.Mounts",
                    f"{mount.target} without {name}",
                    "the policy requires this option of every mount",
                    "mounts.requireOptions",
                    at=(mount.target,),
                )


@rule(
    "user.uid",
    "medium",
    keys=("user.minimumUid",),
    remediation="run with --user and a higher number",
)
def uid(case: Case) -> Iterator[Violation]:
    """The user is a number from the policy's on, so that no name can mean another."""
    least = case.policy.number("user.minimumUid")
    name = case.spec.process.user.partition(":")[0]
    if not least or (name.isdecimal() and int(name) >= least):
        return
    shown = case.spec.process.user or "(unset)"
    number = name.isdecimal() or is_root(name)
    reason = f"it is below {least}" if number else "a name can mean any id; write the number"
    yield Violation("Config.User", shown, reason, "user.minimumUid")


@rule(
    "userns.range",
    "medium",
    keys=("userns.maximumRange",),
    remediation="run with --userns=auto:size=N and a smaller N",
)
def id_range(case: Case) -> Iterator[Violation]:
    """No container takes more of the user's ids than the policy says."""
    most = case.policy.number("userns.maximumRange")
    size = sum(part.size for part in case.spec.userns.maps)
    if most is not None and case.spec.userns.mode == "auto" and size > most:
        reason = f"the policy allows {most} ids at most"
        yield Violation("HostConfig.UsernsMode", f"auto:size={size}", reason, "userns.maximumRange")


@rule(
    "ports.count",
    "low",
    keys=("ports.maximum", "ports.maximumHostPort"),
    references=("CIS 5.9",),
    remediation="publish fewer ports, and on lower numbers",
)
def ports(case: Case) -> Iterator[Violation]:
    """Published ports are few and where the policy says."""
    most, top = case.policy.number("ports.maximum"), case.policy.number("ports.maximumHostPort")
    have = case.spec.network.ports
    if most is not None and len(have) > most:
        reason = f"the policy allows {most} published ports at most"
        yield Violation("HostConfig.PortBindings", str(len(have)), reason, "ports.maximum")
    for port in have if top is not None else ():
        if max(port.host_port, port.host_port_end) > (top or 0):
            reason = f"ports of the host above {top} are not allowed"
            shown = f"{port.host_port}:{port.container_port}/{port.protocol}"
            yield Violation("HostConfig.PortBindings", shown, reason, "ports.maximumHostPort")


@rule(
    "ports.publish-all",
    "low",
    keys=("ports.allowPublishAll",),
    references=("CIS 5.9",),
    remediation="publish the ports that are needed: -p 127.0.0.1:8080:80",
)
def publish_all(case: Case) -> Iterator[Violation]:
    """What an image exposes is not for the image to publish."""
    if case.spec.request.host.publish_all_ports and not case.policy.permits(
        "ports.allowPublishAll"
    ):
        reason = "every port of the image would be published"
        yield Violation("HostConfig.PublishAllPorts", "true", reason, "ports.allowPublishAll")


@rule(
    "resources.cgroup-parent",
    "medium",
    keys=("resources.allowCgroupParent",),
    references=("CIS 5.25",),
    remediation="leave out --cgroup-parent",
)
def cgroup_parent(case: Case) -> Iterator[Violation]:
    """The container's limits are those of its own cgroup."""
    found = case.spec.cgroup_parent
    if found and not case.policy.permits("resources.allowCgroupParent"):
        reason = "the container would leave the engine's cgroup"
        yield Violation("HostConfig.CgroupParent", found, reason, "resources.allowCgroupParent")


@rule(
    "seccomp.calls",
    "high",
    keys=("seccomp.denyCalls",),
    references=("CIS 5.22",),
    remediation="deny the system call {value} in the profile, or leave the profile out",
)
def calls(case: Case) -> Iterator[Violation]:
    """A profile of one's own stays below the policy's floor."""
    denied = case.policy.names_of("seccomp.denyCalls") or frozenset()
    found = case.spec.seccomp
    if not denied or found.kind == "default":
        return
    if found.kind == "unconfined":
        allowed = sorted(denied)
    else:
        profile = parse_profile(found.profile)
        listed = {name: rule.action for rule in profile.rules for name in rule.names}
        passing = {
            name
            for rule in profile.rules
            if (rule.action & _ACTION) in _LETS_PASS
            for name in rule.names
        }
        open_ended = (profile.default & _ACTION) in _LETS_PASS
        allowed = sorted(n for n in denied if n in passing or (open_ended and n not in listed))
    for name in allowed:
        reason = "the policy denies this system call to every profile"
        yield Violation("HostConfig.SecurityOpt", name, reason, "seccomp.denyCalls")


@rule(
    "selinux.type",
    "high",
    keys=("selinux.allowTypes", "selinux.allowLevels"),
    references=("PSS baseline: seLinuxOptions",),
    remediation="leave out the label option",
)
def selinux(case: Case) -> Iterator[Violation]:
    """SELinux types and levels that are asked for are those the policy names."""
    for option in case.spec.request.host.security_opt:
        parts = option.replace("=", ":", 1).split(":", 2)
        if parts[0] != "label" or len(parts) != 3 or parts[1] not in {"type", "level"}:
            continue
        key = "selinux.allowTypes" if parts[1] == "type" else "selinux.allowLevels"
        allow = case.policy.names_of(key)
        if allow is not None and parts[2] not in allow:
            reason = f"the policy does not allow this {parts[1]}"
            yield Violation("HostConfig.SecurityOpt", option, reason, key, at=(option,))


RULES = (
    count,
    options,
    uid,
    id_range,
    ports,
    publish_all,
    cgroup_parent,
    calls,
    selinux,
)
