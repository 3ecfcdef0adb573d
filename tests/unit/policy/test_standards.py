"""Each check of the CIS benchmark finds what it is for, and nothing on a hardened container."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import Denied
from rootless.model.mounts import MountSpec
from rootless.model.spec import ContainerSpec, NamespacesSpec
from rootless.policy.admission import admit
from rootless.policy.fields import CIS_CHECKS
from rootless.policy.inputs.body import container_spec
from rootless.policy.judge import Judge
from rootless.policy.load import load_named
from rootless.policy.rules import cis
from rootless.policy.rules.pss import pod_of_spec
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, asked, policy, spec
from tests.unit.policy.test_tables import ids, results

HARDENED: dict[str, Any] = {
    "Config": {"User": "1000:1000", "Healthcheck": {"Test": ["CMD", "true"]}},
    "HostConfig": {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Memory": 1 << 28,
        "NanoCpus": 10**9,
        "PidsLimit": 100,
        "ReadonlyRootfs": True,
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5},
        "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 10}],
    },
}


def port(**binding: str) -> dict[str, Any]:
    return {"PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080", **binding}]}}


def bind(source: str, **more: Any) -> dict[str, Any]:
    return {"Mounts": [{"Type": "bind", "Source": source, "Target": "/t", **more}]}


BAD: list[tuple[str, dict[str, Any]]] = [
    ("4.1", {"User": ""}),
    ("5.2", {"SecurityOpt": ["no-new-privileges", "apparmor=unconfined"]}),
    ("5.3", {"SecurityOpt": []}),
    ("5.4", {"CapAdd": ["NET_ADMIN"]}),
    ("5.4", {"CapDrop": []}),
    ("5.5", {"Privileged": True}),
    ("5.6", bind("/etc")),
    ("5.6", bind("/usr/share/zoneinfo")),
    ("5.6", bind("/", ReadOnly=True)),
    ("5.8", port(HostPort="80")),
    ("5.9", port()),
    ("5.10", {"NetworkMode": "host"}),
    ("5.11", {"Memory": 0}),
    ("5.12", {"NanoCpus": 0}),
    ("5.13", {"ReadonlyRootfs": False}),
    ("5.14", port(HostIp="0.0.0.0")),
    ("5.14", port(HostIp="::")),
    ("5.14", port(HostIp="")),
    ("5.15", {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 6}}),
    ("5.15", {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}),
    ("5.16", {"PidMode": "host"}),
    ("5.17", {"IpcMode": "host"}),
    ("5.18", {"Devices": [{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm"}]}),
    ("5.19", {"Ulimits": None}),
    ("5.20", bind("/srv/x", BindOptions={"Propagation": "rshared"})),
    ("5.21", {"UTSMode": "host"}),
    ("5.22", {"SecurityOpt": ["no-new-privileges", "seccomp:unconfined"]}),
    ("5.25", {"CgroupParent": "system.slice"}),
    ("5.26", {"SecurityOpt": ["no-new-privileges=false"]}),
    ("5.27", {"Healthcheck": {"Test": ["NONE"]}}),
    ("5.29", {"PidsLimit": -1}),
    ("5.31", {"UsernsMode": "host"}),
    ("5.32", bind("/var/run/docker.sock", ReadOnly=True)),
    ("5.32", bind("/run", ReadOnly=True)),
    ("C.5.3.1", {"CapAdd": ["cap_dac_read_search"]}),
    ("C.5.3.2", {"CapAdd": ["SYS_MODULE"]}),
    ("C.5.3.3", {"CapAdd": ["ALL"]}),
    ("C.5.3.4", {"CapAdd": ["sys_ptrace"]}),
]


def judged(body: dict[str, Any]) -> list[str]:
    return ids(
        results(Judge(load_named("builtin:cis-docker", home=HOME, where="t")), body), "cis-docker"
    )


def test_a_hardened_container_has_no_finding() -> None:
    assert judged(HARDENED) == []


@pytest.mark.parametrize(("number", "change"), BAD)
def test_each_check_finds_its_case(number: str, change: dict[str, Any]) -> None:
    area = "Config" if set(change) <= {"User", "Healthcheck"} else "HostConfig"
    assert number in judged({**HARDENED, area: {**HARDENED[area], **change}})


def test_every_check_has_a_case_and_a_rule() -> None:
    assert {number for number, _ in BAD} == set(CIS_CHECKS) == set(cis.NUMBERS)


def test_the_standards_count_in_admission() -> None:
    strict = policy('  podSecurity: {require: [restricted]}\n  cisDocker: {require: ["5.5"]}\n')
    with pytest.raises(Denied, match=r"pss\.runAsNonRoot"):
        admit(IDENTITY, SPEC, strict, FACTS, PATHS)
    with pytest.raises(Denied, match=r"cis-docker\.5\.5"):
        admit(IDENTITY, spec(request=asked(privileged=True)), strict, FACTS, PATHS)


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        ("hostNamespaces", spec(namespaces=NamespacesSpec(pid="host"))),
        ("hostPathVolumes", spec(mounts=(MountSpec("bind", "/t", source="/srv"),))),
        ("procMount", spec(masked_paths=())),
        ("capabilities_baseline", spec(request=asked(cap_add=("cap_net_admin",)))),
        ("sysctls", spec(request=asked(sysctls=(("kernel.msgmax", "1"),)))),
        ("seLinuxOptions", spec(request=asked(security_opt=("label=type:spc_t",)))),
        ("appArmorProfile", spec(request=asked(security_opt=("apparmor=unconfined",)))),
    ],
)
def test_a_container_is_judged_as_the_pod_it_would_be(check: str, bad: ContainerSpec) -> None:
    from rootless.policy.podsecurity.checks import CHECKS

    found = next(c for c in CHECKS if c.id == check)
    assert list(found.run(pod_of_spec(bad), 37))
    plain = spec(network=container_spec({}).network)
    assert not list(found.run(pod_of_spec(plain), 37))
