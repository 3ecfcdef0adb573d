"""Kubernetes' Pod Security Standards as rules, one for each upstream check.

A container of this engine is judged as the pod it would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rootless.model.spec import ContainerSpec
from rootless.policy.inputs.body import security_option
from rootless.policy.podsecurity.checks import CHECKS, checks_of, parse_standard
from rootless.policy.podsecurity.checks import Check as PodCheck
from rootless.policy.podsecurity.pod import Pod, View, pod_of
from rootless.policy.rules.base import Case, Rule, Violation
from rootless.policy.rules.user import is_root

KEY = "podSecurity.require"


def pod_of_spec(spec: ContainerSpec) -> Pod:
    """The pod that a container would be, with the fields the standards look at."""
    host = spec.request.host
    name, _, _ = spec.process.user.partition(":")
    context: dict[str, Any] = {
        "privileged": spec.privileges.privileged,
        "allowPrivilegeEscalation": not spec.privileges.no_new_privileges,
        "capabilities": {
            "add": [cap.upper().removeprefix("CAP_") for cap in host.cap_add],
            "drop": [cap.upper().removeprefix("CAP_") for cap in host.cap_drop],
        },
        "runAsNonRoot": not is_root(name),
        "procMount": "Default" if spec.masked_paths else "Unmasked",
        "seccompProfile": {
            "type": {"default": "RuntimeDefault", "custom": "Localhost"}.get(
                spec.seccomp.kind, "Unconfined"
            )
        },
    }
    if name.isdecimal():
        context["runAsUser"] = int(name)
    _labels(host.security_opt, context)
    pod: dict[str, Any] = {
        "hostNetwork": spec.network.mode == "host",
        "hostPID": spec.namespaces.pid == "host",
        "hostIPC": spec.namespaces.ipc == "host",
        "securityContext": {"sysctls": [{"name": key} for key, _ in host.sysctls]},
        "volumes": [
            {"name": mount.target, "hostPath": {"path": mount.source}}
            for mount in spec.mounts
            if mount.type == "bind"
        ],
        "containers": [
            {
                "name": spec.name,
                "securityContext": context,
                "ports": [
                    {
                        "containerPort": port.container_port,
                        "hostPort": port.host_port or port.container_port,
                    }
                    for port in spec.network.ports
                ],
            }
        ],
    }
    return pod_of(View({"spec": pod}, ()))


def _labels(options: tuple[str, ...], context: dict[str, Any]) -> None:
    labels: dict[str, str] = {}
    for option in options:
        key, value = security_option(option)
        if key == "label" and ":" in value:
            name, _, text = value.partition(":")
            labels[name] = text
        if key == "apparmor":
            kind = "Unconfined" if value == "unconfined" else "Localhost"
            context["appArmorProfile"] = {"type": kind}
    if labels:
        context["seLinuxOptions"] = labels


def breaches(case: Case, check: PodCheck, pod: Pod | None) -> Iterator[Violation]:
    """A check at every level and revision that the policy requires, each breach once."""
    seen = set()
    for standard in sorted(case.policy.names_of(KEY) or ()):
        parsed = parse_standard(standard)
        if parsed is None or check not in checks_of(*parsed):
            continue
        for breach in check.run(pod or pod_of_spec(case.spec), parsed[1]):
            if (breach.path, breach.message) not in seen:
                seen.add((breach.path, breach.message))
                yield Violation(breach.field, breach.value, breach.message, KEY, path=breach.path)


def _rule(check: PodCheck) -> Rule:
    def run(case: Case) -> Iterator[Violation]:
        yield from breaches(case, check, case.pod)

    run.__doc__ = check.run.__doc__
    references = (f"PSS {check.level}: {check.id}",)
    return Rule(f"pss.{check.id}", check.severity, references, check.fix, run, keys=(KEY,))


RULES = tuple(map(_rule, CHECKS))
