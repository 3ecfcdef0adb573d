"""What info says of protections and of what the host lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rootless.engine.settings import EngineSettings
from rootless.engine.system import security_options, warnings_of, without_password
from rootless.model.facts import CgroupFacts
from tests.support.facts import HOST

ALL = ("cpu", "cpuset", "io", "memory", "pids")
FACTS = replace(HOST, cgroup=CgroupFacts(2, "/sys/fs/cgroup", "/sys/fs/cgroup/u", ALL))


def _options(**settings: object) -> tuple[str, ...]:
    return security_options(EngineSettings(Path("/d"), Path("/r"), **settings))  # type: ignore[arg-type]  # keywords of any field


def test_protections_are_those_in_force() -> None:
    assert _options()[0] == "name=seccomp,profile=builtin"
    assert "name=no-new-privileges" in _options()
    assert "name=no-new-privileges" not in _options(no_new_privileges=False)
    assert _options(seccomp_profile="/etc/p.json")[0] == "name=seccomp,profile=/etc/p.json"


def test_labels_are_named_where_containers_get_them() -> None:
    assert "name=selinux" not in _options()
    assert "name=selinux" in _options(selinux_enabled=True)
    assert warnings_of(replace(FACTS, selinux=True), labels=True) == ()


def test_a_host_with_everything_has_no_warnings() -> None:
    assert warnings_of(FACTS) == ()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cgroup": replace(FACTS.cgroup, delegated="")}, "no cgroup is delegated"),
        ({"cgroup": replace(FACTS.cgroup, controllers=ALL[:3])}, "memory is not delegated"),
        ({"selinux": True}, "SELinux"),
        ({"native_overlay": False}, "overlay"),
        ({"slirp4netns": ""}, "slirp4netns"),
        ({"fuse_overlayfs": ""}, "fuse-overlayfs"),
    ],
)
def test_what_is_missing_is_named_once(change: dict[str, object], word: str) -> None:
    (line,) = warnings_of(replace(FACTS, **change))  # type: ignore[arg-type]  # keywords of any field
    assert line.startswith("WARNING: ")
    assert word in line


def test_proxies_are_shown_without_their_password() -> None:
    assert without_password("http://u:p@proxy:3128") == "http://xxxxx:xxxxx@proxy:3128"
    assert without_password("http://proxy:3128") == "http://proxy:3128"
    assert without_password("http://[") == ""
