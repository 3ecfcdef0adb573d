"""The benchmark's daemon checks, on what a daemon tells of itself."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.policy.fields import CIS_DAEMON_CHECKS
from rootless.policy.rules.cis_daemon import CHECKS

INFO: dict[str, Any] = {
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=userns",
                        "name=no-new-privileges"],
    "LoggingDriver": "journald",
    "LiveRestoreEnabled": True,
    "ExperimentalBuild": False,
    "Debug": False,
    "RegistryConfig": {
        "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
        "IndexConfigs": {"docker.io": {"Secure": True}},
    },
}  # fmt: skip
CONFIG: dict[str, Any] = {"default-ulimits": {"nofile": {}}, "hosts": ["unix:///x"]}


def without(option: str) -> dict[str, Any]:
    return {"SecurityOptions": [o for o in INFO["SecurityOptions"] if option not in o]}


BAD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("2.1", without("rootless"), {}),
    ("2.2", {}, {"icc": True}),
    ("2.3", {"Debug": True}, {}),
    ("2.3", {}, {"log-level": "error"}),
    ("2.5", {"RegistryConfig": {"InsecureRegistryCIDRs": ["10.0.0.0/8"]}}, {}),
    ("2.5", {"RegistryConfig": {"IndexConfigs": {"x:5000": {"Secure": False}}}}, {}),
    ("2.7", {}, {"hosts": ["tcp://0.0.0.0:2375"]}),
    ("2.8", {}, {"default-ulimits": {}}),
    ("2.9", without("userns"), {}),
    ("2.10", {}, {"cgroup-parent": "x.slice"}),
    ("2.13", {"LoggingDriver": "json-file"}, {}),
    ("2.14", without("no-new-privileges"), {}),
    ("2.15", {"LiveRestoreEnabled": False}, {}),
    ("2.18", {"ExperimentalBuild": True}, {}),
]


def found(info: dict[str, Any], config: dict[str, Any]) -> list[str]:
    return [c.number for c in CHECKS if c.find({**INFO, **info}, {**CONFIG, **config})]


def test_a_hardened_daemon_has_no_finding() -> None:
    assert found({}, {}) == []
    assert found({}, {"hosts": ["tcp://0.0.0.0:2376"], "tlsverify": True}) == []


@pytest.mark.parametrize(("number", "info", "config"), BAD)
def test_each_check_finds_its_case(
    number: str, info: dict[str, Any], config: dict[str, Any]
) -> None:
    assert found(info, config) == [number]


def test_every_check_has_a_case() -> None:
    assert {number for number, *_ in BAD} == {c.number for c in CHECKS} == set(CIS_DAEMON_CHECKS)
