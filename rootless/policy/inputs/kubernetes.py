"""Pods and the workloads that make them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.read import MAX_CONTAINERS, InputDocument, NotUnderstood, Path
from rootless.policy.inputs.unit import Container, FieldPath, Unit
from rootless.policy.podsecurity.pod import View, pod_of
from rootless.units import parse_quantity

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "PodTemplate": ("template",),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_POD_FIELDS = frozenset(
    "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig dnsPolicy "
    "enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID hostUsers "
    "hostname hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os overhead "
    "preemptionPolicy priority priorityClassName readinessGates resourceClaims resources "
    "restartPolicy runtimeClassName schedulerName schedulingGates securityContext serviceAccount "
    "serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain "
    "terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes "
    "workloadRef".split()
)
_MAX_LISTS = 4


def is_manifest(value: Any) -> bool:
    """Whether a document is a Kubernetes object of any kind."""
    return isinstance(value, dict) and "apiVersion" in value and "kind" in value


def units_of(document: InputDocument, *, lenient: bool) -> Iterator[Unit]:
    """The workloads in a manifest.

    ``lenient`` leaves out kinds that start no container (a Service beside a
    Deployment); otherwise they are not understood.
    """
    yield from _units(document, View(document.value, ()), lenient=lenient, depth=0)


def _units(
    document: InputDocument, view: View, *, lenient: bool, depth: int, listed: str = ""
) -> Iterator[Unit]:
    """``listed`` is the kind of what does not say its own: of the items of a PodList."""
    try:
        kind = view.text("kind") or listed
        if kind.endswith("List") and "items" in view.value and depth < _MAX_LISTS:
            items = list(view.objects("items"))
            beside = lenient or len(items) > 1
            of = kind.removesuffix("List")
            for item in items:
                yield from _units(document, item, lenient=beside, depth=depth + 1, listed=of)
            return
        metadata = view.object("metadata")
        name = (metadata.text("name") or metadata.text("generateName") or "") if metadata else ""
    except NotUnderstood as problem:
        yield Unit(document, str(view.value.get("kind", listed)), "", problems=(problem,))
        return
    if kind not in _TEMPLATES:
        if not lenient:
            known = ", ".join(_TEMPLATES)
            unknown = NotUnderstood(
                f"kind {kind!r} starts no container that is known (known are {known}, List)",
                path=(*view.path, "kind"),
            )
            yield Unit(document, kind, name, problems=(unknown,))
        return
    yield _workload(document, view, kind, name)


def _workload(document: InputDocument, view: View, kind: str, name: str) -> Unit:
    try:
        template = view.object(*_TEMPLATES[kind])
        if template is None:
            raise NotUnderstood("there is no pod template", path=view.path)
        pod = pod_of(template)
        found = list(islice(pod.containers(), MAX_CONTAINERS + 1))
        if len(found) > MAX_CONTAINERS:
            raise NotUnderstood(f"more than {MAX_CONTAINERS} containers", path=pod.spec.path)
        containers = tuple(_container(pod.spec, container, name) for container in found)
        if not containers:
            _known_fields(pod.spec)
    except NotUnderstood as problem:
        return Unit(document, kind, name, problems=(problem,))
    return Unit(document, kind, name, containers, pod)


def _known_fields(spec: View) -> None:
    """A pod without containers is one only when nothing in it may be misspelt."""
    for key in spec.value:
        if key not in _POD_FIELDS:
            raise NotUnderstood(f"a pod has no field {key!r}", path=(*spec.path, key))


def _container(spec: View, container: View, name: str) -> Container:
    """The container as Docker would be asked for it, for the rules that are not Kubernetes'."""
    places: dict[FieldPath, Path] = {}
    host: dict[str, Any] = {}
    config: dict[str, Any] = {"Image": container.text("image") or ""}
    body = {"Name": container.text("name") or name, "Config": config, "HostConfig": host}
    _config(spec, container, config, places)
    _security(spec, container, host, places)
    _namespaces(spec, host, places)
    _ports(container, host, places)
    _resources(container, host, places)
    _volumes(spec, container, host, places)
    probed = any(
        container.value.get(p) for p in ("livenessProbe", "readinessProbe", "startupProbe")
    )
    if probed:
        config["Healthcheck"] = {"Test": ["CMD", "(probe)"]}
    places["Config.Image",] = (*container.path, "image")
    return Container(str(body["Name"]), container_spec(body), container.path, places)


def _inherited(spec: View, container: View, name: str) -> tuple[View, Any] | None:
    for owner in (container, spec):
        context = owner.object("securityContext")
        if context is not None and context.value.get(name) is not None:
            return context, context.value[name]
    return None


def _config(spec: View, container: View, config: dict[str, Any], places: Any) -> None:
    user = _inherited(spec, container, "runAsUser")
    group = _inherited(spec, container, "runAsGroup")
    forced = _inherited(spec, container, "runAsNonRoot")
    if user is not None:
        number = user[0].number("runAsUser")
        config["User"] = f"{number}:{group[0].number('runAsGroup')}" if group else str(number)
        places["Config.User",] = (*user[0].path, "runAsUser")
    elif forced is not None and forced[0].flag("runAsNonRoot"):
        config["User"] = "(non-root)"
        places["Config.User",] = (*forced[0].path, "runAsNonRoot")
    config["Env"] = [
        f"{entry.text('name') or ''}={entry.value.get('value') or ''}"
        for entry in container.objects("env")
    ]
    places["Config.Env",] = (*container.path, "env")


def _security(spec: View, container: View, host: dict[str, Any], places: Any) -> None:
    options: list[str] = []
    context = container.object("securityContext")
    if context is not None:
        host["Privileged"] = bool(context.flag("privileged"))
        host["ReadonlyRootfs"] = bool(context.flag("readOnlyRootFilesystem"))
        places["HostConfig.SecurityOpt",] = context.path
        places["HostConfig.Privileged",] = (*context.path, "privileged")
        if context.flag("allowPrivilegeEscalation") is False:
            options.append("no-new-privileges")
        elif context.flag("allowPrivilegeEscalation"):
            options.append("no-new-privileges=false")
        found = context.object("capabilities")
        if found is not None:
            host["CapAdd"] = list(found.texts("add"))
            host["CapDrop"] = list(found.texts("drop"))
            places["HostConfig.CapAdd",] = (*found.path, "add")
            places["HostConfig.CapDrop",] = (*found.path, "drop")
        if context.text("procMount") not in (None, "Default"):
            options.append("systempaths=unconfined")
    for name, key in (("seccompProfile", "seccomp"), ("appArmorProfile", "apparmor")):
        profile = _inherited(spec, container, name)
        if profile is None:
            continue
        view = profile[0].object(name)
        kind = (view.text("type") if view else "") or ""
        if kind == "Unconfined":
            options.append(f"{key}=unconfined")
        elif kind == "Localhost" and view is not None:
            options.append(f"{key}={view.text('localhostProfile') or 'localhost'}")
    labels = _inherited(spec, container, "seLinuxOptions")
    if labels is not None and isinstance(labels[1], dict):
        options += [f"label={name}:{value}" for name, value in labels[1].items()]
    host["SecurityOpt"] = options


def _namespaces(spec: View, host: dict[str, Any], places: Any) -> None:
    for name, field in (
        ("hostNetwork", "NetworkMode"),
        ("hostPID", "PidMode"),
        ("hostIPC", "IpcMode"),
    ):
        if spec.flag(name):
            host[field] = "host"
            places[f"HostConfig.{field}",] = (*spec.path, name)
    if spec.flag("hostUsers"):
        host["UsernsMode"] = "host"
        places["HostConfig.UsernsMode",] = (*spec.path, "hostUsers")
    context = spec.object("securityContext")
    if context is not None and context.value.get("sysctls"):
        host["Sysctls"] = {
            entry.text("name") or "": entry.text("value") or ""
            for entry in context.objects("sysctls")
        }
        places["HostConfig.Sysctls",] = (*context.path, "sysctls")


def _ports(container: View, host: dict[str, Any], places: Any) -> None:
    bindings: dict[str, Any] = {}
    for port in container.objects("ports"):
        number = port.number("hostPort")
        if number:
            key = f"{port.number('containerPort') or 0}/{(port.text('protocol') or 'TCP').lower()}"
            address = port.text("hostIP") or ""
            bindings.setdefault(key, []).append({"HostIp": address, "HostPort": str(number)})
    host["PortBindings"] = bindings
    places["HostConfig.PortBindings",] = (*container.path, "ports")


def _resources(container: View, host: dict[str, Any], places: Any) -> None:
    limits = container.object("resources", "limits")
    if limits is None:
        return
    for name, field, factor in (("memory", "Memory", 1), ("cpu", "NanoCpus", 10**9)):
        found = limits.value.get(name)
        if found is not None:
            amount = parse_quantity(str(found))
            if amount is None:
                raise NotUnderstood(f"{found!r} is not a quantity", path=(*limits.path, name))
            host[field] = int(amount * factor)
            places[f"HostConfig.{field}",] = (*limits.path, name)


def _volumes(spec: View, container: View, host: dict[str, Any], places: Any) -> None:
    sources = {volume.text("name"): volume.object("hostPath") for volume in spec.objects("volumes")}
    mounts = []
    for mount in container.objects("volumeMounts"):
        source = sources.get(mount.text("name"))
        target = mount.text("mountPath") or ""
        places["HostConfig.Mounts", target] = mount.path
        spread = {"Bidirectional": "rshared", "HostToContainer": "rslave"}
        mounts.append(
            {
                "Type": "bind" if source else "volume",
                "Source": (source.text("path") or "/") if source else mount.text("name"),
                "Target": target,
                "ReadOnly": bool(mount.flag("readOnly")),
                "BindOptions": {
                    "Propagation": spread.get(mount.text("mountPropagation") or "", "rprivate")
                },
            }
        )
    host["Mounts"] = mounts
    places["HostConfig.Mounts",] = (*container.path, "volumeMounts")
