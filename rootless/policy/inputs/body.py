"""From the form of Docker's create and inspect bodies to the spec that rules judge.

Every input is brought into this form first. What nobody said is what the engine
would do: its default capabilities, seccomp profile and masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from rootless.errors import InvalidInput
from rootless.linux.process import CAPABILITIES
from rootless.model import egress
from rootless.model.defaults import DEFAULT_CAPABILITIES, MASKED_PATHS, READONLY_PATHS
from rootless.model.mounts import MountSpec, RootfsMount
from rootless.model.network import EGRESS, Attachment
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    DeviceRequest,
    Healthcheck,
    HostConfig,
    LogConfig,
    PortBinding,
    Resources,
    RestartPolicy,
    RlimitRequest,
)
from rootless.model.spec import (
    ContainerSpec,
    DeviceSpec,
    ImageSpec,
    NamespacesSpec,
    NetworkSpec,
    PrivilegesSpec,
    ProcessSpec,
    SeccompSpec,
    SelinuxSpec,
    UsernsSpec,
)
from rootless.policy.inputs.read import NotUnderstood
from rootless.units import MAX_NUMBER

Body = Mapping[str, Any]
_PORTS = ("HostConfig", "PortBindings")
_PROPAGATIONS = frozenset("private rprivate shared rshared slave rslave".split())


class Fields:
    """Typed access to an object; a wrong type is not understood."""

    def __init__(self, value: object, where: str) -> None:
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise NotUnderstood(f"{where} must be an object", path=tuple(where.split(".")))
        self.value: dict[str, Any] = value
        self.where = where

    def _bad(self, name: str, words: str) -> NotUnderstood:
        path = tuple(filter(None, (*self.where.split("."), name)))
        return NotUnderstood(f"{name} must be {words}", path=path)

    def text(self, name: str) -> str:
        """A string, '' when absent."""
        found = self.value.get(name)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise self._bad(name, "a string")
        return found

    def flag(self, name: str) -> bool:
        """A boolean, false when absent."""
        found = self.value.get(name)
        if found not in (None, True, False):
            raise self._bad(name, "true or false")
        return bool(found)

    def number(self, name: str) -> int:
        """An integer, 0 when absent."""
        found = self.value.get(name)
        if found is None:
            return 0
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int) or abs(found) > MAX_NUMBER:
            raise self._bad(name, "an integer")
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        found = self.value.get(name)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise self._bad(name, "a list of strings")
        return tuple(found)

    def objects(self, name: str) -> Iterator[Fields]:
        """A list of objects."""
        found = self.value.get(name)
        if found is None:
            return
        if not isinstance(found, list):
            raise self._bad(name, "a list")
        for item in found:
            yield Fields(item, f"{self.where}.{name}")

    def object(self, name: str) -> Fields:
        """An object; an absent one is empty."""
        return Fields(self.value.get(name), f"{self.where}.{name}".lstrip("."))


def capability(name: str) -> str:
    """``CAP_NET_RAW`` from ``net_raw``, ``NET_RAW`` …; ``CAP_ALL`` for all of them."""
    upper = name.upper()
    return upper if upper.startswith("CAP_") else f"CAP_{upper}"


def granted(added: tuple[str, ...], dropped: tuple[str, ...], *, privileged: bool) -> list[str]:
    """The capabilities of a container; the drop of ALL comes before what is added."""
    if privileged:
        return list(CAPABILITIES)
    drop = {capability(name) for name in dropped}
    add = {capability(name) for name in added}
    base = set() if "CAP_ALL" in drop else set(DEFAULT_CAPABILITIES)
    if "CAP_ALL" in add:
        base = set(CAPABILITIES)
    return [name for name in sorted((base | add) - drop) if name != "CAP_ALL"]


def security_option(option: str) -> tuple[str, str]:
    """Key and value of ``key=value`` or ``key:value``; the older ``label:`` prefix is dropped."""
    places = [at for at in (option.find("="), option.find(":")) if at >= 0]
    key, value = (option[: min(places)], option[min(places) + 1 :]) if places else (option, "")
    if key == "label" and value.startswith(("seccomp:", "seccomp=", "apparmor:", "apparmor=")):
        return security_option(value)
    return key, value


def _ports(host: Fields, network: Fields) -> Iterator[PortBinding]:
    """What was asked for and what is bound; an address that was left open is what is bound."""
    seen = set()
    asked, bound = host.object("PortBindings"), network.object("Ports")
    for source in (asked, bound):
        for key in source.value:
            number, _, protocol = key.partition("/")
            for binding in source.objects(key):
                if source is asked and not binding.text("HostIp") and bound.value.get(key):
                    continue
                port = binding.value.get("HostPort")
                first, last = _range(str(port or "0"))
                found = PortBinding(
                    container_port=_range(number)[0],
                    protocol="udp"
                    if protocol == "udp"
                    else "sctp"
                    if protocol == "sctp"
                    else "tcp",
                    host_ip=_address(binding.text("HostIp")),
                    host_port=first,
                    host_port_end=last if last != first else 0,
                )
                if found not in seen:
                    seen.add(found)
                    yield found


def _address(text: str) -> str:
    """An IP address, '' for any; brackets around it are dropped."""
    found = text.removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(found)) if found and found != "*" else ""
    except ValueError:
        raise NotUnderstood(f"{text!r} is not an IP address", path=_PORTS) from None


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.strip().partition("-")
    try:
        low = int(first or 0)
        high = int(last) if last else low
    except ValueError:
        raise NotUnderstood(f"{text!r} is not a port or a range of ports", path=_PORTS) from None
    if not 0 <= low <= high <= 65535:
        raise NotUnderstood(f"{text!r} is not a range of ports", path=_PORTS)
    return low, high


def _bind(text: str) -> MountSpec:
    parts = text.split(":")
    if len(parts) == 1:
        return MountSpec("volume", parts[0])
    options = set(parts[2].split(",")) if len(parts) > 2 else set()
    named = not parts[0].startswith(("/", ".", "~", "$"))
    propagation = next((o for o in sorted(options) if o in _PROPAGATIONS), "rprivate")
    return MountSpec(
        "volume" if named else "bind",
        parts[1],
        source=parts[0] if not named else "",
        volume_name=parts[0] if named else "",
        read_only="ro" in options or "readonly" in options,
        propagation=propagation,
    )


def _mount(mount: Fields, *, observed: bool) -> MountSpec | None:
    kind = mount.text("Type") or "bind"
    target = mount.text("Destination" if observed else "Target")
    if kind not in {"bind", "volume", "tmpfs", "image"}:
        if kind in {"npipe", "cluster"}:
            return None
        raise NotUnderstood(f"a mount of type {kind!r} is not known")
    source = mount.text("Source")
    volume = mount.text("Name") if observed else source
    name = volume if kind == "volume" else ""
    read_only = not mount.flag("RW") if observed else mount.flag("ReadOnly")
    propagation = mount.text("Propagation") or mount.object("BindOptions").text("Propagation")
    device = mount.object("VolumeOptions").object("DriverConfig").object("Options").text("device")
    return MountSpec(
        "bind" if kind == "volume" and device.startswith("/") else kind,  # type: ignore[arg-type]  # one of four: see above
        target,
        source=device or (source if kind == "bind" or observed else ""),
        volume_name="" if device else name,
        read_only=read_only,
        propagation=propagation or "rprivate",
        recursive=not mount.object("BindOptions").flag("NonRecursive"),
    )


def _mounts(body: Body, host: Fields) -> Iterator[MountSpec]:
    if body.get("Mounts"):  # as an engine reports them: everything, resolved
        found = Fields(body, "")
        yield from filter(None, (_mount(m, observed=True) for m in found.objects("Mounts")))
    else:
        yield from map(_bind, host.texts("Binds"))
        yield from filter(None, (_mount(m, observed=False) for m in host.objects("Mounts")))
    for target in host.object("Tmpfs").value:
        yield MountSpec("tmpfs", target)


def _resources(host: Fields) -> Resources:
    pids = host.value.get("PidsLimit")
    return Resources(
        memory=host.number("Memory"),
        memory_swap=host.number("MemorySwap"),
        nano_cpus=host.number("NanoCpus"),
        cpu_shares=host.number("CpuShares"),
        cpu_period=host.number("CpuPeriod"),
        cpu_quota=host.number("CpuQuota"),
        pids_limit=None if pids is None else host.number("PidsLimit"),
    )


def _health(config: Fields) -> Healthcheck | None:
    if config.value.get("Healthcheck") is None:
        return None
    return Healthcheck(test=config.object("Healthcheck").texts("Test"))


def _request(body: Body, config: Fields, host: Fields) -> ContainerRequest:
    restart = host.object("RestartPolicy")
    security = host.texts("SecurityOpt")
    return ContainerRequest(
        name=str(body.get("Name") or "").lstrip("/"),
        config=ContainerConfig(
            user=config.text("User"),
            env=config.texts("Env"),
            image=config.text("Image"),
            healthcheck=_health(config),
            exposed_ports=tuple(config.object("ExposedPorts").value),
            labels=tuple((k, str(v)) for k, v in config.object("Labels").value.items()),
        ),
        host=HostConfig(
            network_mode=host.text("NetworkMode"),
            extra_hosts=host.texts("ExtraHosts"),
            port_bindings=tuple(_ports(host, Fields(body, "").object("NetworkSettings"))),
            publish_all_ports=host.flag("PublishAllPorts"),
            restart_policy=RestartPolicy(
                restart.text("Name") or "no", restart.number("MaximumRetryCount")
            ),
            auto_remove=host.flag("AutoRemove"),
            timeout=host.number("Timeout")
            or Fields(body.get("Rootless"), "Rootless").number("Timeout"),
            cap_add=host.texts("CapAdd"),
            cap_drop=host.texts("CapDrop"),
            privileged=host.flag("Privileged"),
            security_opt=security,
            read_only_rootfs=host.flag("ReadonlyRootfs"),
            ipc_mode=host.text("IpcMode"),
            pid_mode=host.text("PidMode"),
            uts_mode=host.text("UTSMode"),
            userns_mode=host.text("UsernsMode"),
            cgroupns_mode=host.text("CgroupnsMode"),
            cgroup_parent=host.text("CgroupParent"),
            sysctls=tuple((k, str(v)) for k, v in host.object("Sysctls").value.items()),
            ulimits=tuple(
                RlimitRequest(u.text("Name"), u.number("Soft"), u.number("Hard"))
                for u in host.objects("Ulimits")
            ),
            devices=tuple(
                DeviceRequest(
                    d.text("PathOnHost"), d.text("PathInContainer"), d.text("CgroupPermissions")
                )
                for d in host.objects("Devices")
            ),
            resources=_resources(host),
        ),
    )


def _shared(mode: str) -> str:
    return mode if mode == "host" or mode.startswith("container:") else "private"


_ONES_OWN = frozenset({"", "default", "bridge", "none", "host", "slirp4netns"})
"""Networks that are not the user's."""


def _network(request: ContainerRequest, body: Fields) -> NetworkSpec:
    mode = request.host.network_mode
    known = mode in {"none", "host", "slirp4netns"} or mode.startswith("container:")
    found = NetworkSpec(mode if known else "bridge", request.host.port_bindings)
    places = body.object("NetworkingConfig").object("EndpointsConfig").value
    places = places or body.object("NetworkSettings").object("Networks").value
    lists = {name: _egress(Fields(place, name)) for name, place in places.items()}
    users = [name for name in lists if name not in _ONES_OWN]
    if not users and mode in {"default", "bridge"}:
        users = ["bridge"]
        lists["bridge"] = next((x for x in map(lists.get, ("bridge", "default")) if x), None)
    elif found.mode == "slirp4netns" or (mode in _ONES_OWN and not users):
        own = [lists.get(name) for name in _ONES_OWN if lists.get(name) is not None]
        found = replace(found, egress=own[0] if own else None)
    # Networks that are named without a mode are all there are.
    if found.mode == "bridge" and mode not in {*users, "", "default"}:
        users.append(mode)
    if found.mode in {"slirp4netns", "bridge"}:
        attached = (_attachment(name, lists.get(name), places.get(name)) for name in users)
        found = replace(found, attachments=tuple(attached))
    return found


def _attachment(name: str, own: tuple[str, ...] | None, place: Any) -> Attachment:
    """What is known of the network itself is said by inputs that declare it."""
    about = Fields(place or {}, name).object("Rootless")
    return Attachment(
        "",
        name,
        outward=not about.flag("Internal"),
        network_egress=_list(about.text("Egress")),
        egress=own,
    )


def _egress(place: Fields) -> tuple[str, ...] | None:
    """The list of a container on a network."""
    return _list(str(place.object("DriverOpts").value.get(EGRESS) or ""))


def _list(written: str) -> tuple[str, ...] | None:
    """What is no list does not restrict."""
    try:
        return egress.parse(written) if written else None
    except InvalidInput:
        return None


def _seccomp(request: ContainerRequest) -> SeccompSpec:
    for option in request.host.security_opt:
        key, value = security_option(option)
        if key == "seccomp" and value == "unconfined":
            return SeccompSpec("unconfined", "")
        if key == "seccomp" and value.lstrip().startswith("{"):
            return SeccompSpec("custom", value)
        if key == "seccomp" and value not in {"builtin", "default"}:
            # A file of the machine it runs on; what is in it cannot be known here.
            return SeccompSpec("custom", '{"defaultAction": "SCMP_ACT_ERRNO"}')
    return SeccompSpec("unconfined" if request.host.privileged else "default", "")


def no_new_privileges(options: tuple[str, ...], *, default: bool) -> bool:
    """What the security options say; the last one counts."""
    found = default
    for option in options:
        key, value = security_option(option)
        if key == "no-new-privileges":
            found = value.lower() in {"", "true", "1", "t"}
    return found


def _log(host: Fields) -> LogConfig:
    """The log's driver and options; the engine's default where nothing is said."""
    log = host.object("LogConfig")
    options = log.object("Config").value
    return LogConfig(
        log.text("Type") or "json-file", tuple((k, str(v)) for k, v in options.items())
    )


def container_spec(body: Body) -> ContainerSpec:
    """The spec of a create or inspect body; raises NotUnderstood with the field's path."""
    # A create body has the configuration at its top, an inspect document in "Config".
    config = Fields(body["Config"], "Config") if "Config" in body else Fields(dict(body), "")
    host = Fields(body.get("HostConfig"), "HostConfig")
    request = _request(body, config, host)
    asked = request.host
    options = asked.security_opt
    bare = asked.privileged or any(
        security_option(option) == ("systempaths", "unconfined") for option in options
    )
    masked, read_only = host.value.get("MaskedPaths"), host.value.get("ReadonlyPaths")
    return ContainerSpec(
        id=str(body.get("Id") or ""),
        name=request.name,
        created_ns=0,
        image=ImageSpec(str(body.get("Image") or ""), request.config.image, ()),
        process=ProcessSpec(
            ("-",), request.config.env, "/", request.config.user, group_add=host.texts("GroupAdd")
        ),
        hostname="",
        domainname="",
        userns=UsernsSpec("auto" if asked.userns_mode.startswith("auto") else "shared", (), 0),
        rootfs=RootfsMount("overlay", (), "", "", read_only=asked.read_only_rootfs),
        mounts=tuple(_mounts(body, host)),
        masked_paths=() if bare else MASKED_PATHS if masked is None else host.texts("MaskedPaths"),
        readonly_paths=(
            () if bare else READONLY_PATHS if read_only is None else host.texts("ReadonlyPaths")
        ),
        namespaces=NamespacesSpec(
            network=_shared(asked.network_mode),
            ipc=_shared(asked.ipc_mode),
            pid=_shared(asked.pid_mode),
            uts=_shared(asked.uts_mode),
            cgroup=_shared(asked.cgroupns_mode),
        ),
        privileges=PrivilegesSpec(
            tuple(granted(asked.cap_add, asked.cap_drop, privileged=asked.privileged)),
            no_new_privileges(options, default=not asked.privileged),
            asked.privileged,
        ),
        seccomp=_seccomp(request),
        network=_network(request, Fields(body, "")),
        resources=asked.resources,
        sysctls=asked.sysctls,
        devices=tuple(
            DeviceSpec(d.path_on_host, d.path_in_container, d.permissions) for d in asked.devices
        ),
        cgroup_parent=asked.cgroup_parent,
        restart=asked.restart_policy,
        auto_remove=asked.auto_remove,
        timeout=asked.timeout,
        log=_log(host),
        labels=request.config.labels,
        healthcheck=request.config.healthcheck,
        selinux=SelinuxSpec(str(body.get("ProcessLabel") or ""), str(body.get("MountLabel") or "")),
        request=request,
    )
