"""Any policy, any request: what runs is what the policy that admitted it allows.

Looked at is /proc of the container's first process, with the rules written down here once
more. ``ROOTLESS_POLICY_REQUESTS=500`` draws so many.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from rootless.linux.process import CAPABILITIES
from tests.integration.policy.forced import policy
from tests.support.api import Api
from tests.support.engine import Engine

pytestmark = pytest.mark.integration
COUNT = int(os.environ.get("ROOTLESS_POLICY_REQUESTS", "14"))
NAMESPACES = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "network": "net"}
CAPS = ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_PTRACE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SETUID"]


@dataclass
class Seen:
    """What the kernel shows of a process."""

    pid: int
    status: dict[str, list[str]] = field(default_factory=dict)
    mounts: dict[str, set[str]] = field(default_factory=dict)
    """Mount point → options of the mount; the uppermost of those at one point."""

    def __post_init__(self) -> None:
        base = Path(f"/proc/{self.pid}")
        for line in (base / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            self.status[name] = value.split()
        for line in (base / "mountinfo").read_text().splitlines():
            fields = line.split()
            self.mounts[fields[4]] = set(fields[5].split(","))

    @property
    def capabilities(self) -> set[str]:
        """Whatever it has or could get."""
        sets = (int(self.status[name][0], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapAmb"))
        mask = 0
        for one in sets:
            mask |= one
        return {name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1}

    @property
    def uid(self) -> int:
        """As the container sees it."""
        outside = int(self.status["Uid"][0])
        for line in Path(f"/proc/{self.pid}/uid_map").read_text().splitlines():
            inside, first, size = map(int, line.split())
            if first <= outside < first + size:
                return inside + outside - first
        raise AssertionError(f"uid {outside} is not mapped")

    def shares(self, name: str) -> bool:
        """Whether it is in the host's namespace of this name."""
        kind = NAMESPACES[name]
        return os.readlink(f"/proc/{self.pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")


def _mounted(seen: Seen, prefix: str) -> list[set[str]]:
    return [options for point, options in seen.mounts.items() if point.startswith(prefix)]


Check = Callable[[Seen, Any], bool]
RULES: dict[str, tuple[Callable[[random.Random], Any], Check]] = {
    "capabilities.allow": (
        lambda r: sorted({*r.sample(CAPS, 4), *(DEFAULT if r.random() < 0.7 else ())}),
        lambda seen, value: seen.capabilities <= set(value),
    ),
    "capabilities.deny": (
        lambda r: r.sample(CAPS, 2),
        lambda seen, value: not seen.capabilities & set(value),
    ),
    "privileges.requireNoNewPrivileges": (
        lambda _: True,
        lambda seen, _: seen.status["NoNewPrivs"] == ["1"],
    ),
    "privileges.allowPrivileged": (
        lambda _: False,
        lambda seen, _: len(seen.capabilities) < len(CAPABILITIES) - 4,
    ),
    "seccomp.allowUnconfined": (
        lambda _: False,
        lambda seen, _: seen.status["Seccomp"] == ["2"],
    ),
    "namespaces.allowHost": (
        lambda r: r.sample(list(NAMESPACES), r.randrange(3)),
        lambda seen, value: all(name in value or not seen.shares(name) for name in NAMESPACES),
    ),
    "filesystem.requireReadOnlyRoot": (
        lambda _: True,
        lambda seen, _: "ro" in seen.mounts["/"],
    ),
    "filesystem.maskedPaths": (
        lambda _: ["/proc/keys"],
        lambda seen, _: "/proc/keys" in seen.mounts,
    ),
    "user.requireNonRoot": (lambda _: True, lambda seen, _: seen.uid != 0),
    "user.minimumUid": (lambda _: 100, lambda seen, value: seen.uid >= value),
    "mounts.allowTypes": (
        lambda r: r.choice([["tmpfs"], ["bind"], []]),
        lambda seen, value: all(
            kind in value or not _mounted(seen, f"/{kind}-") for kind in ("bind", "tmpfs")
        ),
    ),
    "mounts.readOnlySources": (
        lambda _: ["SOURCE"],
        lambda seen, _: all("ro" in one for one in _mounted(seen, "/bind-")),
    ),
    "mounts.requireOptions": (
        lambda r: r.sample(["nosuid", "nodev", "noexec"], 2),
        lambda seen, value: all(set(value) <= one for one in _mounted(seen, "/bind-")),
    ),
}
"""Field → how a value is drawn, and how the kernel shows that it holds."""
DEFAULT = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_NET_RAW",
    "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
]  # fmt: skip


def _spec(draw: random.Random, source: Path) -> dict[str, Any]:
    """Some areas of a policy, by field."""
    chosen = [key for key in RULES if draw.random() < 0.35]
    values = {key: RULES[key][0](draw) for key in chosen}
    if "mounts.readOnlySources" in values:
        values["mounts.readOnlySources"] = [str(source)]
    return values


def _request(draw: random.Random, source: Path) -> dict[str, Any]:
    """A create body; most of it is harmless, so that much of it is admitted."""

    def some(chance: float = 0.3) -> bool:
        return draw.random() < chance

    options: list[str] = []
    if some():
        options.append("no-new-privileges=false")
    if some(0.2):
        options.append("seccomp=unconfined")
    if some(0.2):
        options.append("systempaths=unconfined")
    host: dict[str, Any] = {
        "NetworkMode": draw.choice(["none", "none", "none", "host"]),
        "CapAdd": draw.sample([name.removeprefix("CAP_") for name in CAPS], draw.randrange(3)),
        "CapDrop": draw.choice([[], ["ALL"], ["KILL"]]),
        "SecurityOpt": options,
        "ReadonlyRootfs": some(0.5),
        "Privileged": some(0.1),
        "Binds": [f"{source}:/bind-a:{draw.choice(['ro', 'rw'])}"] if some(0.4) else [],
        "Tmpfs": {"/tmpfs-a": draw.choice(["", "ro", "exec"])} if some(0.4) else {},
    }
    for name in ("PidMode", "IpcMode", "UTSMode", "CgroupnsMode"):
        if some(0.12):
            host[name] = "host"
    user = draw.choice(["", "0", "1000", "50", "1000:0"])
    return {"Image": "rootless/busybox", "Cmd": ["sleep", "600"], "User": user, "HostConfig": host}


def _nested(values: dict[str, Any]) -> str:
    """As the areas of a policy in one line of YAML."""
    spec: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        area, _, name = key.partition(".")
        spec.setdefault(area, {})[name] = value
    return yaml.safe_dump(spec, default_flow_style=True, width=10**6).strip()


def _try(engine: Engine, api: Api, values: dict[str, Any], body: dict[str, Any]) -> Seen | None:
    """The process that runs, None when the request was refused."""
    with policy(engine, _nested(values)):
        status, made = api("POST", "/containers/create", body)
        if status == 201:
            status, found = api("POST", f"/containers/{made['Id']}/start")
            if status == 204:
                return Seen(api.state(made["Id"])["Pid"])
        else:
            found = made
        # 400: what cannot be had or contradicts itself; a start says so in Docker's words.
        assert status in (400, 403), (status, found, values, body)
        return None


@pytest.mark.timeout(120 + 2 * COUNT)
def test_what_runs_keeps_to_the_policy(engine: Engine, api: Api, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    for number in range(COUNT):
        draw = random.Random(f"{seed}-{number}")
        values, body = _spec(draw, tmp_path), _request(draw, tmp_path)
        seen = _try(engine, api, values, body)
        try:
            for key in values if seen is not None else ():
                good = RULES[key][1](seen, values[key])
                assert good, (f"seed {seed}-{number}", key, values, body, seen)
        finally:
            api.remove(*engine.containers())


def test_each_check_sees_what_is_not_allowed(engine: Engine, api: Api, tmp_path: Path) -> None:
    """Without a policy the opposite of each runs, and is seen; with it, it is denied."""
    plain = {"NetworkMode": "none", "CapAdd": ["KILL"]}
    bind = {**plain, "Binds": [f"{tmp_path}:/bind-a"]}
    bad: dict[str, tuple[Any, dict[str, Any]]] = {
        "capabilities.allow": (["CAP_CHOWN"], plain),
        "capabilities.deny": (["CAP_KILL"], plain),
        "privileges.requireNoNewPrivileges": (
            True, {**plain, "SecurityOpt": ["no-new-privileges=false"]}
        ),
        "privileges.allowPrivileged": (False, {**plain, "Privileged": True}),
        "seccomp.allowUnconfined": (False, {**plain, "SecurityOpt": ["seccomp=unconfined"]}),
        "namespaces.allowHost": ([], {**plain, "UTSMode": "host"}),
        "filesystem.requireReadOnlyRoot": (True, plain),
        "filesystem.maskedPaths": (
            ["/proc/keys"], {**plain, "SecurityOpt": ["systempaths=unconfined"]}
        ),
        "user.requireNonRoot": (True, plain),
        "user.minimumUid": (100, plain),
        "mounts.allowTypes": (["tmpfs"], bind),
        "mounts.readOnlySources": ([str(tmp_path)], bind),
        "mounts.requireOptions": (["noexec"], bind),
    }  # fmt: skip
    assert bad.keys() == RULES.keys()
    for key, (value, host) in bad.items():
        body = {"Image": "rootless/busybox", "Cmd": ["sleep", "600"], "HostConfig": host}
        seen = _try(engine, api, {}, body)
        assert seen is not None, key
        assert not RULES[key][1](seen, value), key
        api.remove(*engine.containers())
        assert _try(engine, api, {key: value}, body) is None, key
