"""Which checks there are, from which revision of Kubernetes, and what they replace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rootless.model.decision import Severity
from rootless.policy.podsecurity import baseline, restricted
from rootless.policy.podsecurity.pod import Pod
from rootless.policy.podsecurity.types import Breach

Level = Literal["baseline", "restricted"]
REVISIONS = (0, 8, 19, 22, 23, 25, 27, 29, 31, 32, 34, 35, 37)
"""The minor versions of Kubernetes 1 from which on something was checked differently."""
LATEST = REVISIONS[-1]

_STANDARD = re.compile(r"(?P<level>baseline|restricted)(@(v?1\.(?P<minor>\d{1,3})|latest))?")


@dataclass(frozen=True, slots=True)
class Check:
    """``id`` as upstream; ``since`` the first minor version; ``replaces`` a baseline check."""

    id: str
    level: Level
    since: int
    severity: Severity
    run: Callable[[Pod, int], Iterator[Breach]]
    fix: str
    replaces: str = ""


CHECKS: tuple[Check, ...] = (
    Check(
        "appArmorProfile", "baseline", 0, "high", baseline.apparmor,
        "leave the AppArmor profile out, or name RuntimeDefault or a Localhost one",
    ),
    Check(
        "capabilities_baseline", "baseline", 0, "high", baseline.capabilities,
        "leave out capabilities beyond the default set",
    ),
    Check(
        "hostNamespaces", "baseline", 0, "critical", baseline.host_namespaces,
        "leave out hostNetwork, hostPID and hostIPC",
    ),
    Check(
        "hostPathVolumes", "baseline", 0, "critical", baseline.host_path_volumes,
        "use a persistentVolumeClaim, a configMap or an emptyDir",
    ),
    Check(
        "hostPorts", "baseline", 0, "medium", baseline.host_ports,
        "leave out hostPort and publish through a Service",
    ),
    Check(
        "hostProbesAndHostLifecycle", "baseline", 34, "medium", baseline.host_probes,
        "leave out the host of probes and handlers: the pod itself is asked",
    ),
    Check(
        "privileged", "baseline", 0, "critical", baseline.privileged,
        "leave out privileged and add what the program needs",
    ),
    Check("procMount", "baseline", 0, "high", baseline.proc_mount, "leave out procMount"),
    Check(
        "seLinuxOptions", "baseline", 0, "high", baseline.selinux,
        "use container_t, container_init_t or container_kvm_t, and set no user or role",
    ),
    Check(
        "seccompProfile_baseline", "baseline", 0, "high", baseline.seccomp,
        "use RuntimeDefault or a Localhost profile",
    ),
    Check(
        "sysctls", "baseline", 0, "high", baseline.sysctls, "leave out sysctls that are not safe"
    ),
    Check(
        "windowsHostProcess", "baseline", 0, "critical", baseline.windows_host_process,
        "leave out windowsOptions.hostProcess",
    ),
    Check(
        "allowPrivilegeEscalation", "restricted", 8, "high", restricted.privilege_escalation,
        "set allowPrivilegeEscalation: false in every container",
    ),
    Check(
        "capabilities_restricted", "restricted", 22, "high", restricted.capabilities,
        'set capabilities.drop: ["ALL"] and add NET_BIND_SERVICE at most',
        "capabilities_baseline",
    ),
    Check(
        "procMount_restricted", "restricted", 35, "high", restricted.proc_mount,
        "leave out procMount", "procMount",
    ),
    Check(
        "restrictedVolumes", "restricted", 0, "medium", restricted.volumes,
        "use a persistentVolumeClaim, configMap, secret, projected or emptyDir volume",
        "hostPathVolumes",
    ),
    Check(
        "runAsNonRoot", "restricted", 0, "high", restricted.run_as_non_root,
        "set runAsNonRoot: true for the pod",
    ),
    Check(
        "runAsUser", "restricted", 23, "high", restricted.run_as_user,
        "set runAsUser to another user than 0, or leave it out",
    ),
    Check(
        "seccompProfile_restricted", "restricted", 19, "high", restricted.seccomp,
        "set seccompProfile.type: RuntimeDefault for the pod",
        "seccompProfile_baseline",
    ),
)  # fmt: skip


def parse_standard(text: str) -> tuple[Level, int] | None:
    """Level and minor version of ``restricted@1.24``; the newest without one. None when wrong."""
    match = _STANDARD.fullmatch(text)
    if match is None:
        return None
    minor = int(match["minor"]) if match["minor"] else LATEST
    level: Level = "restricted" if match["level"] == "restricted" else "baseline"
    return level, revision(minor)


def revision(minor: int) -> int:
    """The newest revision that is not above 1.``minor``."""
    return max(found for found in REVISIONS if found <= minor)


def canonical_standard(text: str) -> str:
    """One spelling for each meaning: ``restricted@1.24`` is ``restricted@1.23``."""
    parsed = parse_standard(text)
    return f"{parsed[0]}@1.{parsed[1]}" if parsed else text


def checks_of(level: Level, minor: int) -> tuple[Check, ...]:
    """The checks that count at a level and minor version."""
    found = [
        check
        for check in CHECKS
        if check.since <= minor and (level == "restricted" or check.level == "baseline")
    ]
    replaced = {check.replaces for check in found}
    return tuple(check for check in found if check.id not in replaced)
