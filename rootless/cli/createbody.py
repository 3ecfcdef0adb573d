"""From the flags of ``run`` and ``create`` to the API's create body.

Only what was asked for is sent: an absent field means the daemon's default.
"""

from __future__ import annotations

from rootless.cli import createspec as spec
from rootless.cli.flags import UsageError
from rootless.cli.trust import refuse_trust
from rootless.client import clientconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.command import Invocation

_REFUSED = {
    "gpus": "devices of the host are not handed out to containers without root",
    "kernel-memory": "the kernel removed this limit (cgroup v2 has none)",
    "cpu-count": "it is for Windows only",
    "cpu-percent": "it is for Windows only",
}
_HOST_STRINGS = (
    ("cgroup-parent", "CgroupParent"),
    ("cgroupns", "CgroupnsMode"),
    ("cpuset-cpus", "CpusetCpus"),
    ("cpuset-mems", "CpusetMems"),
    ("ipc", "IpcMode"),
    ("pid", "PidMode"),
    ("uts", "UTSMode"),
    ("userns", "UsernsMode"),
    ("isolation", "Isolation"),
    ("runtime", "Runtime"),
    ("volume-driver", "VolumeDriver"),
    ("cidfile", "ContainerIDFile"),
    ("storage-driver", "StorageDriver"),
)
_HOST_NUMBERS = (
    ("blkio-weight", "BlkioWeight"),
    ("cpu-period", "CpuPeriod"),
    ("cpu-quota", "CpuQuota"),
    ("cpu-rt-period", "CpuRealtimePeriod"),
    ("cpu-rt-runtime", "CpuRealtimeRuntime"),
    ("cpu-shares", "CpuShares"),
    ("cpus", "NanoCpus"),
    ("memory", "Memory"),
    ("memory-reservation", "MemoryReservation"),
    ("memory-swap", "MemorySwap"),
    ("memory-swappiness", "MemorySwappiness"),
    ("oom-score-adj", "OomScoreAdj"),
    ("pids-limit", "PidsLimit"),
    ("shm-size", "ShmSize"),
    ("timeout", "Timeout"),
)
_HOST_BOOLS = (
    ("oom-kill-disable", "OomKillDisable"),
    ("privileged", "Privileged"),
    ("publish-all", "PublishAllPorts"),
    ("read-only", "ReadonlyRootfs"),
    ("rm", "AutoRemove"),
    ("timens", "TimeNamespace"),
)
_HOST_LISTS = (
    ("cap-add", "CapAdd"),
    ("cap-drop", "CapDrop"),
    ("device-cgroup-rule", "DeviceCgroupRules"),
    ("dns", "Dns"),
    ("dns-search", "DnsSearch"),
    ("add-host", "ExtraHosts"),
    ("group-add", "GroupAdd"),
    ("link", "Links"),
    ("volumes-from", "VolumesFrom"),
)
_HOST_MAPS = (("annotation", "Annotations"), ("storage-opt", "StorageOpt"), ("sysctl", "Sysctls"))
_RATES = (
    ("device-read-bps", "BlkioDeviceReadBps", True, "Rate"),
    ("device-write-bps", "BlkioDeviceWriteBps", True, "Rate"),
    ("device-read-iops", "BlkioDeviceReadIOps", False, "Rate"),
    ("device-write-iops", "BlkioDeviceWriteIOps", False, "Rate"),
    ("blkio-weight-device", "BlkioWeightDevice", False, "Weight"),
)


def create_body(call: Invocation, *, detach: bool = False) -> dict[str, Any]:
    """The body of ``POST /containers/create``."""
    for name, reason in _REFUSED.items():
        if call.given(name):
            raise UsageError(f"--{name} is not supported: {reason}")
    refuse_trust(call)
    if call["rm"] and call["restart"] not in ("no", ""):
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    body = _config(call, detach=detach)
    host = _host_config(call)
    _ports(call, body, host)
    _storage(call, body, host)
    _network(call, body, host)
    body["HostConfig"] = host
    return body


def _config(call: Invocation, *, detach: bool) -> dict[str, Any]:
    attach = _attached(call, detach=detach)
    config: dict[str, Any] = {
        "Image": call.args[0],
        "AttachStdin": attach[0],
        "AttachStdout": attach[1],
        "AttachStderr": attach[2],
        "OpenStdin": call["interactive"],
        "StdinOnce": call["interactive"] and attach[0],
        "Tty": call["tty"],
    }
    if len(call.args) > 1:
        config["Cmd"] = call.args[1:]
    if call.given("entrypoint"):
        # Docker: an empty --entrypoint clears the image's.
        config["Entrypoint"] = [call["entrypoint"]]
    for flag, key in (
        ("hostname", "Hostname"),
        ("domainname", "Domainname"),
        ("user", "User"),
        ("workdir", "WorkingDir"),
        ("stop-signal", "StopSignal"),
    ):
        if call[flag]:
            config[key] = call[flag]
    if call.given("stop-timeout"):
        config["StopTimeout"] = call["stop-timeout"]
    proxies = clientconfig.proxies(call.client.endpoint.host)
    if proxies or call["env"] or call["env-file"]:
        config["Env"] = spec.environment(call["env-file"], call["env"], proxies)
    if call["label"] or call["label-file"]:
        config["Labels"] = spec.labels(call["label-file"], call["label"])
    health = _health(call)
    if health:
        config["Healthcheck"] = health
    return config


def _attached(call: Invocation, *, detach: bool) -> tuple[bool, bool, bool]:
    asked = [stream.lower() for stream in call["attach"]]
    for stream in asked:
        if stream not in ("stdin", "stdout", "stderr"):
            raise UsageError(f"invalid stream to attach to: {stream} (stdin, stdout or stderr)")
    if detach:
        if asked:
            raise UsageError("conflicting options: cannot specify both --attach and --detach")
        return False, False, False
    if asked:
        return "stdin" in asked, "stdout" in asked, "stderr" in asked
    return call["interactive"], True, True


def _health(call: Invocation) -> dict[str, Any]:
    durations = (
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    )
    names = ["health-cmd", "health-retries", *[name for name, _ in durations]]
    given = [name for name in names if call.given(name)]
    if call["no-healthcheck"]:
        if given:
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    health: dict[str, Any] = {}
    if call["health-cmd"]:
        health["Test"] = ["CMD-SHELL", call["health-cmd"]]
    for name, key in durations:
        if call[name] < 0:
            raise UsageError(f"--{name} cannot be negative")
        if call[name]:
            health[key] = call[name]
    if call["health-retries"] < 0:
        raise UsageError("--health-retries cannot be negative")
    if call["health-retries"]:
        health["Retries"] = call["health-retries"]
    return health


def _host_config(call: Invocation) -> dict[str, Any]:
    values, given = call.values, call.set_flags
    host: dict[str, Any] = {}
    for flag, key in _HOST_STRINGS:
        if values[flag]:
            host[key] = values[flag]
    for flag, key in _HOST_NUMBERS:
        if flag in given:
            host[key] = values[flag]
    for flag, key in _HOST_BOOLS:
        if values[flag]:
            host[key] = True
    for flag, key in _HOST_LISTS:
        if values[flag]:
            host[key] = values[flag]
    for flag, key in _HOST_MAPS:
        if values[flag]:
            host[key] = spec.key_values(values[flag])
    for flag, key, size, name in _RATES:
        if values[flag]:
            host[key] = [spec.parse_rate(item, size=size, key=name) for item in values[flag]]
    if "init" in given:
        host["Init"] = values["init"]
    if values["dns-option"] or values["dns-opt"]:
        host["DnsOptions"] = values["dns-opt"] + values["dns-option"]
    if values["device"]:
        host["Devices"] = [spec.parse_device(item) for item in values["device"]]
    if values["ulimit"]:
        host["Ulimits"] = [spec.parse_ulimit(item) for item in values["ulimit"]]
    if "restart" in given:
        host["RestartPolicy"] = spec.parse_restart(values["restart"])
    if values["log-driver"] or values["log-opt"]:
        options = spec.key_values(values["log-opt"])
        if options and values["log-driver"] == "none":
            raise UsageError("invalid logging opts for driver none", hint="leave out --log-opt")
        host["LogConfig"] = {"Type": values["log-driver"], "Config": options}
    _security(call, host)
    return host


def _security(call: Invocation, host: dict[str, Any]) -> None:
    if not call["security-opt"]:
        return
    options = spec.security_options(call["security-opt"])
    if "systempaths=unconfined" in options:
        host["MaskedPaths"] = []
        host["ReadonlyPaths"] = []
        options = [item for item in options if item != "systempaths=unconfined"]
    host["SecurityOpt"] = options


def _ports(call: Invocation, body: dict[str, Any], host: dict[str, Any]) -> None:
    exposed: dict[str, dict[str, str]] = {}
    bindings: dict[str, list[dict[str, str]]] = {}
    for item in call["publish"]:
        for port, binding in spec.parse_publish(item):
            exposed[port] = {}
            bindings.setdefault(port, []).append(binding)
    for item in call["expose"]:
        exposed.update({port: {} for port in spec.parse_expose(item)})
    if exposed:
        body["ExposedPorts"] = exposed
    if bindings:
        host["PortBindings"] = bindings


def _storage(call: Invocation, body: dict[str, Any], host: dict[str, Any]) -> None:
    binds = []
    volumes: dict[str, dict[str, str]] = {}
    for item in dict.fromkeys(call["volume"]):  # the same twice is one, as in Docker
        bind, anonymous = spec.parse_volume(item)
        if bind:
            binds.append(bind)
        else:
            volumes[anonymous] = {}
    if binds:
        host["Binds"] = binds
    if volumes:
        body["Volumes"] = volumes
    if call["tmpfs"]:
        host["Tmpfs"] = dict(spec.parse_tmpfs(item) for item in call["tmpfs"])
    if call["mount"]:
        from rootless.cli.mountspec import parse_mount

        host["Mounts"] = [parse_mount(item) for item in call["mount"]]


def _network(call: Invocation, body: dict[str, Any], host: dict[str, Any]) -> None:
    networks = call["net"] + call["network"]
    names = []
    endpoints: dict[str, dict[str, Any]] = {}
    for text in networks:
        name, endpoint = _one_network(text)
        names.append(name)
        endpoints[name] = endpoint
    if names:
        host["NetworkMode"] = names[0]
    first = names[0] if names else "default"
    endpoint = endpoints.setdefault(first, {})
    aliases = call["net-alias"] + call["network-alias"]
    if aliases:
        endpoint["Aliases"] = aliases
    ipam: dict[str, Any] = {}
    if call["ip"]:
        ipam["IPv4Address"] = call["ip"]
    if call["ip6"]:
        ipam["IPv6Address"] = call["ip6"]
    if call["link-local-ip"]:
        ipam["LinkLocalIPs"] = call["link-local-ip"]
    if ipam:
        endpoint["IPAMConfig"] = ipam
    if call["mac-address"]:
        endpoint["MacAddress"] = call["mac-address"]
    if call["link"] and names:
        endpoint["Links"] = call["link"]
    if options := spec.joined_options(call["network-opt"]):
        for place in endpoints.values():
            place["DriverOpts"] = {**options, **place.get("DriverOpts", {})}
    if len(endpoints) > 1 or endpoint:
        body["NetworkingConfig"] = {"EndpointsConfig": endpoints}


def _number(value: str, text: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"invalid gw-priority in --network {text!r}: {value}") from None


def _one_network(text: str) -> tuple[str, dict[str, Any]]:
    """``NAME``, or ``name=NAME,alias=A,ip=…,ip6=…,mac-address=…,gw-priority=N,driver-opt=K=V``.

    ``egress=…`` is short for ``driver-opt=egress=…``.
    """
    if "=" not in text:
        return text, {}
    name = ""
    endpoint: dict[str, Any] = {}
    options: list[str] = []
    for part in text.split(","):
        key, _, value = part.partition("=")
        if key == "name":
            name = value
        elif key == "alias":
            endpoint.setdefault("Aliases", []).append(value)
        elif key in ("ip", "ip6"):
            address = "IPv4Address" if key == "ip" else "IPv6Address"
            endpoint.setdefault("IPAMConfig", {})[address] = value
        elif key == "mac-address":
            endpoint["MacAddress"] = value
        elif key == "link":
            endpoint.setdefault("Links", []).append(value)
        elif key == "gw-priority":
            endpoint["GwPriority"] = _number(value, text)
        elif key == "driver-opt":
            options.append(value)
        elif key == "egress":
            options.append(part)
        else:
            raise UsageError(f"invalid field key {key!r} in --network {text!r}")
    if not name:
        raise UsageError(f"--network {text!r} lacks name=NETWORK")
    if options:
        endpoint["DriverOpts"] = spec.joined_options(options)
    return name, endpoint
