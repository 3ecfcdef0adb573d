"""The container checks of the CIS Docker Benchmark, as docker-bench-security numbers them.

Where docker-bench is laxer than the benchmark's text (a parent of the socket's
directory, ``0:0`` as user, IPv6's any address), the text counts. A file that
somebody writes (``case.declared``) is held to what the text says to write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from rootless.model.decision import Severity
from rootless.policy.inputs.body import capability, no_new_privileges, security_option
from rootless.policy.kinds import beneath
from rootless.policy.paths import socket_by_name
from rootless.policy.rules.base import Case, Check, Rule, Violation
from rootless.policy.rules.user import is_root

KEY = "cisDocker.require"
_DEFAULT_CAPABILITIES = frozenset(
    "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD "
    "CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID "
    "CAP_SYS_CHROOT".split()
)
_SENSITIVE = (
    "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /root /run /sbin /sys /usr /var"
).split()
_HARMLESS = frozenset(
    f"/dev/{name}" for name in ("full", "null", "random", "urandom", "zero", "log")
)
_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})
_PRIVILEGED_PORTS = 1024
_RETRIES = 5

_Wrap = Callable[[Check], Rule]


def _cis(number: str, severity: Severity, remediation: str, *, also: str = "") -> _Wrap:
    """A check that counts where the policy requires its number; ``also`` a second reference."""

    def wrap(check: Check) -> Rule:
        def gated(case: Case) -> Iterator[Violation]:
            if number in (case.policy.names_of(KEY) or ()):
                yield from check(case)

        gated.__doc__ = check.__doc__
        references = (f"CIS {number}{also}",)
        return Rule(f"cis-docker.{number}", severity, references, remediation, gated, keys=(KEY,))

    return wrap


def _found(field: str, value: str, reason: str, *at: str) -> Violation:
    return Violation(field, value, reason, KEY, at=at)


@_cis("4.1", "high", "name a user: USER in the image, or --user 1000:1000")
def user(case: Case) -> Iterator[Violation]:
    """The process is neither root nor in root's group."""
    name, _, group = case.spec.process.user.partition(":")
    if is_root(name) or (group and is_root(group)):
        shown = case.spec.process.user or "(unset)"
        yield _found("Config.User", shown, "the process runs as root or in its group")


@_cis("5.2", "medium", "run with an AppArmor profile, such as docker-default")
def apparmor(case: Case) -> Iterator[Violation]:
    """An AppArmor profile confines the container."""
    profile = case.observed.get("AppArmorProfile")
    if profile is None:
        options = map(security_option, case.spec.request.host.security_opt)
        profile = dict(options).get("apparmor", "(default)")
        profile = "unconfined" if case.spec.privileges.privileged else profile
    if profile in {"", "unconfined"}:
        yield _found("AppArmorProfile", profile or "(none)", "no AppArmor profile confines it")


@_cis("5.3", "medium", "set SELinux options: --security-opt label=type:container_t")
def selinux(case: Case) -> Iterator[Violation]:
    """Security options are set, and they do not switch labels off."""
    options = case.spec.request.host.security_opt
    if not options:
        yield _found("HostConfig.SecurityOpt", "(unset)", "no SELinux options are set")
    for option in options:
        if security_option(option) in {("label", "disable"), ("label", "disabled")}:
            yield _found(
                "HostConfig.SecurityOpt", option, "SELinux labels are switched off", option
            )


@_cis("5.4", "high", "drop ALL capabilities and add those the program needs")
def capabilities(case: Case) -> Iterator[Violation]:
    """Nothing beyond Docker's default set is added."""
    asked = case.spec.request.host
    dropped = {capability(name) for name in asked.cap_drop}
    for name in asked.cap_add:
        listed = capability(name) in _DEFAULT_CAPABILITIES
        if not listed or (case.declared and "CAP_ALL" not in dropped):
            reason = "it adds a capability" if listed else "it is beyond the default set"
            yield _found("HostConfig.CapAdd", name, reason)
    if case.declared and not asked.cap_drop:
        yield _found("HostConfig.CapDrop", "(unset)", "no capability is dropped")


def _one_capability(number: str, name: str, what: str) -> Rule:
    def check(case: Case) -> Iterator[Violation]:
        for added in case.spec.request.host.cap_add:
            if capability(added) in {f"CAP_{name}", "CAP_ALL"}:
                yield _found("HostConfig.CapAdd", added, what)

    check.__doc__ = f"The capability {name} is not added: {what}."
    return _cis(number, "critical", f"leave out --cap-add {name}")(check)


@_cis("5.5", "critical", "leave out --privileged and add what the program needs")
def privileged(case: Case) -> Iterator[Violation]:
    """The container is not privileged."""
    if case.spec.request.host.privileged:
        yield _found("HostConfig.Privileged", "true", "no protection is left")


def sensitive(path: str) -> bool:
    """Whether a path is the host's root or in one of its system directories."""
    if path in _HARMLESS or not path.startswith("/"):
        return False
    return path == "/" or any(beneath(path, root) for root in _SENSITIVE)


@_cis("5.6", "high", "mount the files that are needed, read-only, or use a named volume")
def system_directories(case: Case) -> Iterator[Violation]:
    """No system directory of the host is mounted to be written, and never the root."""
    for mount, source in case.host_mounts:
        if socket_by_name(source) == source:
            continue  # 5.32
        if sensitive(source) and (source == "/" or not mount.read_only):
            reason = "a system directory of the host is mounted"
            yield _found("HostConfig.Mounts", source, reason, mount.target, "source")
    for mount in case.spec.mounts:
        lone = mount.type == "volume" and not mount.volume_name and not mount.source
        if case.declared and lone and sensitive(mount.target) and not beneath(mount.target, "/usr"):
            reason = "a lone path makes a nameless volume; a host path would need a target"
            yield _found("HostConfig.Mounts", mount.target, reason, mount.target)


@_cis("5.8", "medium", "publish a port from 1024, and listen on such a port")
def privileged_ports(case: Case) -> Iterator[Violation]:
    """Ports below 1024 of the host are not mapped, nor, in what is written, of the container."""
    dropped = {capability(name) for name in case.spec.request.host.cap_drop}
    if case.declared and "CAP_NET_BIND_SERVICE" in dropped:
        return  # said by name: nothing privileged can listen in there
    for port in case.spec.network.ports:
        for number in (port.host_port, port.container_port if case.declared else 0):
            if 0 < number < _PRIVILEGED_PORTS:
                reason = "it is a privileged port"
                yield _found(
                    "HostConfig.PortBindings",
                    str(number),
                    reason,
                    f"{port.container_port}/{port.protocol}",
                )
                break


@_cis("5.9", "low", "publish only the ports that are needed")
def open_ports(case: Case) -> Iterator[Violation]:
    """Published ports are worth a look each."""
    for port in case.spec.network.ports:
        shown = f"{port.host_ip}:{port.host_port}:{port.container_port}/{port.protocol}"
        reason = "the port is open on the host"
        yield _found(
            "HostConfig.PortBindings", shown, reason, f"{port.container_port}/{port.protocol}"
        )


@_cis("5.10", "critical", "leave out --network host")
def host_network(case: Case) -> Iterator[Violation]:
    """The network namespace is not the host's."""
    if case.spec.network.mode == "host":
        yield _found("HostConfig.NetworkMode", "host", "the host's network is shared")


@_cis("5.11", "medium", "run with --memory")
def memory(case: Case) -> Iterator[Violation]:
    """Memory is limited."""
    if case.spec.resources.memory <= 0:
        yield _found("HostConfig.Memory", "unlimited", "memory is not limited")


@_cis("5.12", "medium", "run with --cpus or --cpu-shares")
def cpus(case: Case) -> Iterator[Violation]:
    """CPU time is limited or weighed."""
    found = case.spec.resources
    if found.nano_cpus <= 0 and found.cpu_shares <= 0 and found.cpu_quota <= 0:
        yield _found("HostConfig.NanoCpus", "unlimited", "CPU time is not limited")


@_cis("5.13", "medium", "run with --read-only, and --tmpfs for what must be written")
def read_only_root(case: Case) -> Iterator[Violation]:
    """The root file system is read-only."""
    if not case.spec.rootfs.read_only:
        yield _found("HostConfig.ReadonlyRootfs", "false", "the root file system can be written")


@_cis("5.14", "medium", "publish on one address: -p 127.0.0.1:8080:80")
def bound_address(case: Case) -> Iterator[Violation]:
    """Published ports are bound to one address of the host."""
    for port in case.spec.network.ports:
        if port.host_ip in _ANY_ADDRESS:
            shown = f"{port.host_ip or '(any)'}:{port.host_port}"
            reason = "the port is open on every address of the host"
            yield _found(
                "HostConfig.PortBindings", shown, reason, f"{port.container_port}/{port.protocol}"
            )


@_cis("5.15", "low", "restart with on-failure:5")
def restarts(case: Case) -> Iterator[Violation]:
    """A container that fails is restarted five times at most."""
    policy = case.spec.restart
    count = policy.maximum_retry_count
    if policy.name in {"", "no"}:
        return
    if policy.name == "on-failure" and (count == _RETRIES if case.declared else count <= _RETRIES):
        return
    shown = f"{policy.name}:{count}" if policy.name == "on-failure" else policy.name
    yield _found("HostConfig.RestartPolicy", shown, "the text asks for on-failure:5")


def _host_mode(number: str, field: str, attribute: str, what: str) -> Rule:
    def check(case: Case) -> Iterator[Violation]:
        if getattr(case.spec.request.host, attribute) == "host":
            yield _found(f"HostConfig.{field}", "host", f"the host's {what} is shared")

    check.__doc__ = f"The {what} is not the host's."
    fix = f"leave out the option that shares the host's {what}"
    return _cis(number, "critical", fix)(check)


@_cis("5.18", "medium", "leave out --device")
def devices(case: Case) -> Iterator[Violation]:
    """No device of the host is exposed."""
    for device in case.spec.devices:
        reason = "a device of the host is exposed"
        yield _found("HostConfig.Devices", device.source, reason, device.target)


@_cis("5.19", "low", "set --ulimit where the default does not fit")
def ulimits(case: Case) -> Iterator[Violation]:
    """Limits of the process are set where that is needed."""
    if not case.spec.request.host.ulimits:
        yield _found("HostConfig.Ulimits", "(unset)", "the engine's default limits hold")


@_cis("5.20", "high", "leave out the propagation option")
def propagation(case: Case) -> Iterator[Violation]:
    """Mounts do not propagate to the host, nor, in what is written, from it."""
    for mount in case.spec.mounts:
        if "shared" in mount.propagation or (case.declared and "slave" in mount.propagation):
            reason = "mounts propagate between container and host"
            yield _found(
                "HostConfig.Mounts", mount.propagation, reason, mount.target, "propagation"
            )


@_cis("5.22", "critical", "leave out seccomp=unconfined")
def seccomp(case: Case) -> Iterator[Violation]:
    """The default seccomp profile is not disabled."""
    for option in case.spec.request.host.security_opt:
        key, value = security_option(option)
        if key == "seccomp" and (value == "unconfined" or _allows_all(value)):
            reason = "every system call is allowed"
            yield _found("HostConfig.SecurityOpt", option[:60], reason, option)


def _allows_all(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        profile = json.loads(text)
    except (ValueError, RecursionError):
        return True
    return profile.get("defaultAction") in {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"}


@_cis("5.25", "medium", "leave out --cgroup-parent")
def cgroup_parent(case: Case) -> Iterator[Violation]:
    """The container stays in the engine's own cgroup."""
    if case.spec.cgroup_parent:
        yield _found("HostConfig.CgroupParent", case.spec.cgroup_parent, "another cgroup is used")


@_cis("5.26", "high", "run with --security-opt no-new-privileges")
def new_privileges(case: Case) -> Iterator[Violation]:
    """Processes cannot gain privileges."""
    options = case.spec.request.host.security_opt
    if not no_new_privileges(options, default=False):
        yield _found("HostConfig.SecurityOpt", "(unset)", "no-new-privileges is not set")


@_cis("5.27", "low", "give the image a HEALTHCHECK, or run with --health-cmd", also=", 4.6")
def health(case: Case) -> Iterator[Violation]:
    """The container's health is checked."""
    check = case.spec.healthcheck
    disabled = check is not None and check.test[:1] == ("NONE",)
    if "State.Health" in case.observed or (check is not None and check.test and not disabled):
        return
    shown = "NONE" if disabled else "(unset)"
    yield _found("Config.Healthcheck", shown, "nothing checks the container's health", "test")


@_cis("5.29", "medium", "run with --pids-limit")
def pids(case: Case) -> Iterator[Violation]:
    """The number of processes is limited."""
    if (case.spec.resources.pids_limit or 0) <= 0:
        yield _found("HostConfig.PidsLimit", "unlimited", "the number of processes is not limited")


@_cis("5.32", "critical", "leave out the engine's socket")
def engine_socket(case: Case) -> Iterator[Violation]:
    """No engine's socket, nor a directory that holds one, is mounted."""
    for mount, source in case.host_mounts:
        found = socket_by_name(source)
        if found is not None and source != "/":  # that is 5.6
            reason = f"{found} controls a container engine"
            yield _found("HostConfig.Mounts", source, reason, mount.target)


RULES = (
    user,
    apparmor,
    selinux,
    capabilities,
    privileged,
    system_directories,
    privileged_ports,
    open_ports,
    host_network,
    memory,
    cpus,
    read_only_root,
    bound_address,
    restarts,
    _host_mode("5.16", "PidMode", "pid_mode", "process namespace"),
    _host_mode("5.17", "IpcMode", "ipc_mode", "IPC namespace"),
    devices,
    ulimits,
    propagation,
    _host_mode("5.21", "UTSMode", "uts_mode", "UTS namespace"),
    seccomp,
    cgroup_parent,
    new_privileges,
    health,
    pids,
    _host_mode("5.31", "UsernsMode", "userns_mode", "user namespace"),
    engine_socket,
    _one_capability("C.5.3.1", "DAC_READ_SEARCH", "it opens files past every directory"),
    _one_capability("C.5.3.2", "SYS_MODULE", "it loads kernel modules"),
    _one_capability("C.5.3.3", "SYS_ADMIN", "it is nearly root"),
    _one_capability("C.5.3.4", "SYS_PTRACE", "it reads and writes other processes"),
)
NUMBERS = tuple(rule.id.removeprefix("cis-docker.") for rule in RULES)
