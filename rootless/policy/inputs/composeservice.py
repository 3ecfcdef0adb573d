"""A compose service as Docker would be asked for it, with the place of each field."""

from __future__ import annotations

from typing import Any

from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.composebuild import build_spec
from rootless.policy.inputs.composenetworks import ProjectNetworks
from rootless.policy.inputs.composevolumes import volumes
from rootless.policy.inputs.read import NotUnderstood, Path
from rootless.policy.inputs.unit import Container, FieldPath
from rootless.policy.inputs.values import flag, number, pairs, size, text, texts
from rootless.policy.rules.user import is_root

_KNOWN = frozenset(
    "annotations attach build blkio_config cap_add cap_drop cgroup cgroup_parent command configs "
    "container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime "
    "cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices "
    "dns dns_opt dns_search domainname entrypoint env_file environment expose extends "
    "external_links extra_hosts gpus group_add healthcheck hostname image init ipc isolation "
    "label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness "
    "memswap_limit models net network_mode networks oom_kill_disable oom_score_adj pid pids_limit "
    "platform ports post_start pre_start pre_stop privileged profiles provider pull_policy "
    "pull_refresh_after read_only restart runtime scale secrets security_opt shm_size stdin_open "
    "stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user "
    "userns_mode uts volume_driver volumes volumes_from working_dir".split()
)


class Service:
    """Builds the body; every field notes where it was found."""

    def __init__(self, name: str, service: dict[str, Any], path: Path) -> None:
        self.name = name
        self.service = service
        self.home = path
        self.places: dict[FieldPath, Path] = {}
        self.host: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.endpoints: dict[str, Any] = {}
        self.problems: list[NotUnderstood] = []
        """What was not understood and left out."""

    def at(self, field: str, *keys: str | int) -> None:
        """``field`` is found at the service's ``keys``."""
        self.places[field,] = (*self.home, *keys)

    def copy(self, key: str, field: str, convert: Any, *, config: bool = False) -> None:
        """One key that is one field."""
        if key in self.service:
            place = f"Config.{field}" if config else f"HostConfig.{field}"
            target = self.config if config else self.host
            self.at(place, key)
            try:
                target[field] = convert(self.service[key], key)
            except NotUnderstood as problem:
                self.problems.append(NotUnderstood(problem.message, path=(*self.home, key)))

    def mapping(self, *keys: str) -> dict[str, Any] | None:
        """The mapping at ``keys``, None when it is absent or empty."""
        found: Any = self.service
        for index, key in enumerate(keys):
            found = found.get(key)
            if found is None:
                return None
            if not isinstance(found, dict):
                path = (*self.home, *keys[: index + 1])
                raise NotUnderstood(f"{key} must be a mapping", path=path)
        return dict(found)


def service_container(
    name: str,
    service: dict[str, Any],
    declared: dict[str, Any],
    path: Path,
    networks: ProjectNetworks,
    *,
    problems: list[NotUnderstood],
) -> Container:
    """One service; raises NotUnderstood with the place of what is wrong.

    A key that is not understood is among the ``problems``, and the rest is judged: what is
    wrong with one hides nothing of the others.
    """
    built = Service(name, service, path)
    built.problems = problems
    for key in service:
        if key not in _KNOWN and not key.startswith("x-"):
            problems.append(NotUnderstood(f"a service has no {key!r}", path=(*path, key)))
    for part in (
        _plain, _modes, _limits, _restart, _logging, _health, _ports, _devices, _hooks,
        lambda one: volumes(one.service, declared, path, one.host, one.places),
        lambda one: one.endpoints.update(networks.endpoints(one.service, path, one.places)),
    ):  # fmt: skip
        try:
            part(built)
        except NotUnderstood as problem:
            problems.append(NotUnderstood(problem.message, path=problem.path or path))
    body = {
        "Name": name,
        "Config": built.config,
        "HostConfig": built.host,
        "NetworkingConfig": {"EndpointsConfig": built.endpoints},
    }
    try:
        spec = container_spec(body)
    except NotUnderstood as problem:
        # The path is in the body's terms: where that is in the file, if anywhere.
        field = ".".join(map(str, problem.path or ()))
        raise NotUnderstood(problem.message, path=built.places.get((field,), path)) from problem
    build = build_spec(name, built.service.get("build"), (*path, "build"), built.places)
    return Container(name, spec, path, built.places, build=build)


def _plain(built: Service) -> None:
    built.copy("image", "Image", text, config=True)
    built.copy("user", "User", text, config=True)
    built.copy("labels", "Labels", pairs, config=True)
    built.copy(
        "environment",
        "Env",
        lambda value, what: [f"{k}={v}" for k, v in pairs(value, what).items()],
        config=True,
    )
    built.copy("privileged", "Privileged", flag)
    built.copy("read_only", "ReadonlyRootfs", flag)
    built.copy("cap_add", "CapAdd", texts)
    built.copy("cap_drop", "CapDrop", texts)
    built.copy("group_add", "GroupAdd", texts)
    built.copy("security_opt", "SecurityOpt", texts)
    built.copy("extra_hosts", "ExtraHosts", _hosts)
    built.copy("sysctls", "Sysctls", pairs)
    built.copy("cgroup_parent", "CgroupParent", text)
    for index, option in enumerate(built.host.get("SecurityOpt", ())):
        written = built.service["security_opt"]
        place = ("security_opt", index) if isinstance(written, list) else ("security_opt",)
        built.places["HostConfig.SecurityOpt", option] = (*built.home, *place)
    ulimits = built.mapping("ulimits")
    if ulimits:
        built.host["Ulimits"] = [{"Name": str(key), "Soft": 0, "Hard": 0} for key in ulimits]
        built.at("HostConfig.Ulimits", "ulimits")


def _hosts(value: Any, what: str) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}:{at}" for name, found in value.items() for at in texts(found, what)]
    return texts(value, what)


def _modes(built: Service) -> None:
    for key, field in (
        ("network_mode", "NetworkMode"),
        ("net", "NetworkMode"),
        ("pid", "PidMode"),
        ("ipc", "IpcMode"),
        ("uts", "UTSMode"),
        ("userns_mode", "UsernsMode"),
        ("cgroup", "CgroupnsMode"),
    ):
        built.copy(key, field, text)
        mode = built.host.get(field, "")
        if mode.startswith("service:"):
            built.host[field] = f"container:{mode.removeprefix('service:')}"


def _limits(built: Service) -> None:
    built.copy("mem_limit", "Memory", size)
    built.copy("cpus", "NanoCpus", lambda value, what: int(number(value, what) * 10**9))
    for key, field in (
        ("cpu_shares", "CpuShares"),
        ("cpu_quota", "CpuQuota"),
        ("cpu_period", "CpuPeriod"),
    ):
        built.copy(key, field, lambda value, what: int(number(value, what)))
    if built.service.get("pids_limit") is not None:
        built.copy("pids_limit", "PidsLimit", lambda value, what: int(number(value, what)))
    limits = built.mapping("deploy", "resources", "limits")
    deepest: tuple[str, ...] = ()
    for depth in range(1, 4):
        keys = ("deploy", "resources", "limits")[:depth]
        if built.mapping(*keys) is not None:
            deepest = keys
    for name, field, convert in (
        ("memory", "Memory", size),
        ("cpus", "NanoCpus", lambda value, what: int(number(value, what) * 10**9)),
        ("pids", "PidsLimit", lambda value, what: int(number(value, what))),
    ):
        if limits is not None and limits.get(name) is not None:
            try:
                built.host[field] = convert(limits[name], name)
            except NotUnderstood as problem:
                path = (*built.home, *deepest, name)
                raise NotUnderstood(problem.message, path=path) from problem
            built.at(f"HostConfig.{field}", *deepest, name)
        elif deepest and not built.host.get(field):
            built.at(f"HostConfig.{field}", *deepest)


def _restart(built: Service) -> None:
    written = text(built.service.get("restart"), "restart")
    policy = built.mapping("deploy", "restart_policy") or {}
    if written:
        name, _, count = written.partition(":")
        if name not in {"no", "false", "always", "on-failure", "unless-stopped"} or (
            count and not count.isdecimal()
        ):
            raise NotUnderstood(
                f"{written!r} is not a restart policy", path=(*built.home, "restart")
            )
        built.host["RestartPolicy"] = {
            "Name": "no" if name == "false" else name,
            "MaximumRetryCount": int(count or 0),
        }
        built.at("HostConfig.RestartPolicy", "restart")
    elif policy:
        condition = {"on-failure": "on-failure", "none": "no"}.get(
            text(policy.get("condition"), "condition") or "any", "always"
        )
        attempts = int(number(policy.get("max_attempts"), "max_attempts"))
        built.host["RestartPolicy"] = {"Name": condition, "MaximumRetryCount": attempts}
        last = ("max_attempts",) if "max_attempts" in policy else ()
        built.at("HostConfig.RestartPolicy", "deploy", "restart_policy", *last)


def _logging(built: Service) -> None:
    log = built.mapping("logging")
    if log is not None:
        options = built.mapping("logging", "options") or {}
        built.host["LogConfig"] = {
            "Type": text(log.get("driver"), "driver"),
            "Config": {key: text(value, key) for key, value in options.items()},
        }
        built.at("HostConfig.LogConfig", "logging")


def _health(built: Service) -> None:
    check = built.mapping("healthcheck")
    if check is None:
        return
    built.at("Config.Healthcheck", "healthcheck")
    test = check.get("test")
    words = ["CMD-SHELL", test] if isinstance(test, str) else texts(test, "test")
    if "test" in check:
        built.places["Config.Healthcheck", "test"] = (*built.home, "healthcheck", "test")
    if flag(check.get("disable"), "disable"):
        words = ["NONE"]
        built.places["Config.Healthcheck", "test"] = (*built.home, "healthcheck", "disable")
    built.config["Healthcheck"] = {"Test": words}


def _hooks(built: Service) -> None:
    """Commands that run in the container besides its own: what they may, it may."""
    for key in ("pre_start", "post_start", "pre_stop"):
        written = built.service.get(key)
        if written is not None and not isinstance(written, list):
            raise NotUnderstood(f"{key} must be a list", path=(*built.home, key))
        for index, hook in enumerate(written or ()):
            path = (*built.home, key, index)
            if not isinstance(hook, dict):
                raise NotUnderstood("a hook must be a mapping", path=path)
            try:
                privileged = flag(hook.get("privileged"), "privileged")
                user = text(hook.get("user"), "user")
            except NotUnderstood as problem:
                raise NotUnderstood(problem.message, path=path) from problem
            if privileged and not built.host.get("Privileged"):
                built.host["Privileged"] = True
                built.at("HostConfig.Privileged", key, index, "privileged")
            if user and is_root(user.partition(":")[0]):
                built.config["User"] = user
                built.at("Config.User", key, index, "user")


def _ports(built: Service) -> None:
    written = built.service.get("ports")
    if written is None:
        return
    built.at("HostConfig.PortBindings", "ports")
    if not isinstance(written, list):
        raise NotUnderstood("ports must be a list", path=(*built.home, "ports"))
    bindings: dict[str, list[dict[str, str]]] = {}
    for index, entry in enumerate(written):
        try:
            key, address, port = (
                _long_port(entry) if isinstance(entry, dict) else _short_port(text(entry, "a port"))
            )
        except NotUnderstood as problem:
            path = (*built.home, "ports", index)
            raise NotUnderstood(problem.message, path=path) from problem
        bindings.setdefault(key, []).append({"HostIp": address, "HostPort": port})
    built.host["PortBindings"] = bindings


def _short_port(written: str) -> tuple[str, str, str]:
    """``[[address:]port:]port[/protocol]``; an IPv6 address stands in brackets."""
    body, _, protocol = written.partition("/")
    head, _, inside = body.rpartition(":")
    address, outside = "", head
    if head.startswith("["):
        address, _, outside = head[1:].partition("]")
        outside = outside.lstrip(":")
    elif ":" in head or "." in head:
        address, _, outside = head.rpartition(":")
        if not address and "." in outside:
            address, outside = outside, ""
    return f"{inside}/{protocol or 'tcp'}", address, outside


def _long_port(entry: dict[str, Any]) -> tuple[str, str, str]:
    if "target" not in entry:
        raise NotUnderstood("a port needs a target")
    target = text(entry["target"], "target")
    protocol = text(entry.get("protocol"), "protocol") or "tcp"
    return (
        f"{target}/{protocol}",
        text(entry.get("host_ip"), "host_ip"),
        text(entry.get("published"), "published"),
    )


def _devices(built: Service) -> None:
    written = built.service.get("devices")
    if written is None:
        return
    built.at("HostConfig.Devices", "devices")
    if not isinstance(written, list):
        raise NotUnderstood("devices must be a list", path=(*built.home, "devices"))
    found = []
    for index, entry in enumerate(written):
        if isinstance(entry, dict):
            source = text(entry.get("source"), "source")
            target = text(entry.get("target"), "target") or source
        else:
            source, _, target = text(entry, "a device").partition(":")
            target = target.partition(":")[0] or source
        found.append({"PathOnHost": source, "PathInContainer": target})
        built.places["HostConfig.Devices", target] = (*built.home, "devices", index)
    built.host["Devices"] = found
