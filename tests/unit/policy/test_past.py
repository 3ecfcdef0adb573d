"""What the decision log keeps is enough for another policy to judge the request again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.check import diff
from rootless.engine import decisions
from rootless.engine.decisions import DecisionLog
from rootless.engine.gate import Gate
from rootless.errors import Denied
from rootless.model.build import BuildSpec
from rootless.model.image import ImageFacts, Voucher
from rootless.model.mounts import MountSpec
from rootless.model.request import ExecRequest, Resources
from rootless.model.spec import ContainerSpec, NetworkSpec, PrivilegesSpec, SeccompSpec
from rootless.policy import past
from rootless.policy.chain import CURRENT, read_lines
from rootless.policy.load import PolicyFiles, PolicyStore
from rootless.policy.policy import Policy
from rootless.policy.rules import workload
from rootless.policy.rules.base import Case
from tests.support.signing import ecdsa
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, asked, policy

OPEN = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: open}\nextends: none\n"
PROFILE = '{"defaultAction": "SCMP_ACT_ALLOW"}'
SPECS = {
    "plain": SPEC,
    "capability": replace(
        SPEC,
        privileges=PrivilegesSpec(("CAP_NET_RAW",), no_new_privileges=False),
        request=asked(cap_add=("NET_RAW",)),
    ),
    "user": replace(SPEC, process=replace(SPEC.process, user="1000", args=("sh", "-c", "s3cr3t"))),
    "profile": replace(SPEC, seccomp=SeccompSpec("custom", PROFILE)),
    "mount": replace(SPEC, mounts=(MountSpec("bind", "/x", "/srv/data"),)),
    "volume": replace(
        SPEC,
        mounts=(
            MountSpec(
                "volume", "/v", f"{PATHS.data_root}/volumes/v/_data", volume_name="v"
            ),
        ),
    ),
    "network": replace(SPEC, network=NetworkSpec("none")),
    "limits": replace(SPEC, resources=Resources(memory=1 << 30, pids_limit=5)),
    "variables": replace(
        SPEC, process=replace(SPEC.process, env=("DB_PASSWORD=hunter22", "LD_PRELOAD=/x"))
    ),
    "labels": replace(SPEC, labels=(("team", "blue"),), auto_remove=True),
    "sysctl": replace(SPEC, sysctls=(("net.core.somaxconn", "9"),)),
}  # fmt: skip
CASE = Case(SPEC, policy("  env: {denySecrets: true}\n"), FACTS, PATHS)
POLICIES = (
    "  capabilities: {deny: [CAP_NET_RAW]}\n",
    "  privileges: {requireNoNewPrivileges: true}\n",
    "  user: {requireNonRoot: true}\n",
    "  seccomp: {denyCalls: [ptrace]}\n",
    "  mounts: {denySources: [/srv]}\n",
    "  mounts: {allowTypes: [volume]}\n",
    "  network: {allowModes: [none]}\n",
    "  resources: {require: [memory]}\n",
    "  env: {denySecrets: true}\n",
    "  env: {deny: [LD_*]}\n",
    "  labels: {require: [team]}\n",
    "  lifetime: {requireAutoRemove: true}\n",
    "  sysctls: {allow: []}\n",
    "  ports: {maximum: 0}\n",
    "  cisDocker: {require: ['5.4', '5.11', '4.1']}\n",
    "  podSecurity: {require: [restricted]}\n",
    "  api: {denyActions: [container.create]}\n",
)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    mine = tmp_path / "policy.yaml"
    mine.write_text(OPEN)
    store = PolicyStore(PolicyFiles(user=mine, admin=tmp_path / "none"), home=HOME)
    found = Gate(store, FACTS, PATHS, DecisionLog(tmp_path / "audit"))
    yield found
    found.close()


def logged(tmp_path: Path) -> list[past.Past]:
    path = tmp_path / "audit" / CURRENT
    return list(past.past(line.record for line in read_lines(str(path), path.read_bytes())))


def now(gate: Gate, spec: ContainerSpec, by: Policy) -> frozenset[str]:
    """The rules that deny it today."""
    gate._store._policy = by
    try:
        gate.admit(IDENTITY, spec)
    except Denied as denied:
        return frozenset(f.rule for f in denied.context["findings"] if f.action == "deny")  # type: ignore[attr-defined]  # context holds any value
    return frozenset()


def test_each_request_is_judged_as_it_would_be_today(gate: Gate, tmp_path: Path) -> None:
    for spec in SPECS.values():
        gate.admit(IDENTITY, spec)
    requests = logged(tmp_path)
    assert len(requests) == len(SPECS)
    denied = 0
    for area in POLICIES:
        by = policy(area)
        for request, (name, spec) in zip(requests, SPECS.items(), strict=True):
            found = request.denials(by)
            assert found == now(gate, spec, by), (area, name)
            denied += bool(found)
    assert denied > len(POLICIES)


def test_no_secret_and_no_command_is_kept(gate: Gate, tmp_path: Path) -> None:
    gate.admit(IDENTITY, SPECS["variables"])
    gate.admit(IDENTITY, SPECS["user"])
    request = ExecRequest(("sh", "-c", "s3cr3t"), env=("A=hunter22",))
    gate.admit_exec(IDENTITY, SPEC, request, IDENTITY)
    text = (tmp_path / "audit" / CURRENT).read_text()
    assert "DB_PASSWORD=" in text
    assert "hunter22" not in text
    assert "s3cr3t" not in text


def test_the_other_requests(gate: Gate, tmp_path: Path) -> None:
    gate.admit_exec(IDENTITY, SPEC, ExecRequest(("sh",), user="0"), IDENTITY)
    gate.admit_update(IDENTITY, SPEC, Resources(memory=1 << 30))
    gate.admit_image(IDENTITY, "pull", "docker.io/library/busybox:latest")
    gate.admit_action(IDENTITY, "container.stop", "web")
    process, update, image, stop = logged(tmp_path)
    wall = policy("  user: {requireNonRoot: true}\n")
    assert [r.denials(wall) for r in (process, update)] == [{"user.root"}, frozenset()]
    low = policy("  resources: {maximumMemory: 1m}\n")
    assert [r.denials(low) for r in (process, update)] == [frozenset(), {"resources.maximum"}]
    assert image.denials(policy("  images: {denyTags: [latest]}\n")) == {"images.tag"}
    assert stop.denials(policy("  api: {denyActions: [container.stop]}\n")) == {"api.action"}


def test_builds(gate: Gate, tmp_path: Path) -> None:
    asked = BuildSpec("team/app:1", None, ("host",), args=("TOKEN=hunter22", "V=hunter33"))
    gate.admit_build(IDENTITY, asked)
    [found] = logged(tmp_path)
    for area, rule in (
        ("build: {allowNetworks: [none]}", "build.network"),
        ("build: {allowBases: ['*']}", "build.base"),
        ("build: {denySecretArgs: true}", "build.argument"),
        ("build: {denyArgs: [V]}", "build.argument"),
    ):
        assert found.denials(policy(f"  {area}\n")) == {rule}, area
    assert found.denials(policy("  build: {denyArgs: [W], allowInsecure: false}\n")) == frozenset()
    assert "hunter" not in (tmp_path / "audit" / CURRENT).read_text()


def test_images_are_judged_by_what_was_known_of_them(gate: Gate, tmp_path: Path) -> None:
    voucher = Voucher("sha256:" + "1" * 64, "sha256:" + "2" * 64, "registry.example/app")
    image = ImageFacts("registry.example/app:1", time.time_ns(), 1 << 20, (voucher,))
    gate.admit(IDENTITY, SPEC, image_facts=(image,))
    gate.admit_pull(IDENTITY, replace(image, size=None))
    admitted, pulled = logged(tmp_path)
    for area, by_both in (
        ("{allow: [docker.io/*]}", False),
        ("{maximumSize: 1k}", False),
        (f"{{trust: [{{repositories: ['*'], keys: [{ecdsa().public.pem!r}]}}]}}", True),
    ):
        found = policy(f"  images: {area}\n".replace("'-----", '"-----').replace("\\n']", '\\n"]'))
        assert admitted.denials(found), area
        assert bool(pulled.denials(found)) is by_both, area
    assert not admitted.denials(policy("  images: {maximumAge: 1h, maximumSize: 1g}\n"))


def test_what_every_policy_denies_stays_denied_and_old_lines_are_not_known() -> None:
    floor = {"source": "builtin:floor", "action": "deny", "rule": "mounts.engine"}
    record: dict[str, Any] = {
        "verb": "container.stop", "target": "x", "findings": [floor],
        "identity": {"source": "unix", "name": "a", "uid": 1, "role": None},
        "judged": {"kind": "action"},
    }  # fmt: skip
    anything = policy("")
    [request] = past.past(iter([record]))
    assert request.denials(anything) == {"floor"}
    for judged in (None, {}, {"kind": "container"}, {"kind": "container", "spec": "sha256:x"}, 5):
        [request] = past.past(iter([{**record, "findings": [], "judged": judged}]))
        assert request.denials(anything) is None


def test_a_part_is_written_once_for_each_file(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> list[list[dict[str, Any]]]:
        found = [*decisions.rotated(tmp_path / "audit"), tmp_path / "audit" / CURRENT]
        return [[json.loads(line) for line in path.read_bytes().splitlines()] for path in found]

    for _ in range(3):
        gate.admit(IDENTITY, SPECS["profile"])
    [lines] = files()
    assert [sorted(line.get("parts", {}).values(), key=str) != [] for line in lines] == [
        True, False, False
    ]  # fmt: skip
    monkeypatch.setattr(decisions, "_MAX_FILE", 10)
    gate.admit(IDENTITY, SPECS["profile"])
    assert len(files()) == 2
    assert PROFILE in files()[1][0]["parts"].values()
    monkeypatch.setattr(decisions, "_MAX_PART", 10)
    gate.admit(IDENTITY, SPECS["profile"])
    assert "parts" not in files()[2][0]
    assert logged(tmp_path)[-1].denials(policy("")) is None


def test_a_part_that_could_not_be_written_comes_with_the_next_line(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        gate.admit(IDENTITY, SPECS["profile"])
    gate.admit(IDENTITY, SPECS["profile"])
    [request] = logged(tmp_path)
    assert request.record["lost"] == 1
    assert request.denials(policy("  seccomp: {denyCalls: [ptrace]}\n")) == {"seccomp.calls"}


@given(
    st.sampled_from(["A", "DB_PASSWORD", "api_key", "TOKEN_FILE", "SECRET"]),
    st.sampled_from(["", "x", "5", "/run/secrets/a", "$X", "ghp_" + "a" * 36, "-----BEGIN "
        "PRIVATE KEY-----", "true"]) | st.text(max_size=9),
)  # fmt: skip
def test_a_withheld_value_is_judged_like_the_value(name: str, value: str) -> None:
    def secret(entry: str) -> list[str]:
        spec = replace(SPEC, process=replace(SPEC.process, env=(entry,)))
        case = replace(CASE, spec=spec)
        return [violation.value for violation in workload.secret.check(case)]

    entry = f"{name}={value}"
    kept = workload.withheld(entry)
    assert secret(kept) == secret(entry)
    assert kept == f"{name}=" or "withheld" in kept


def test_the_command(gate: Gate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        gate.admit(IDENTITY, replace(SPECS["capability"], name="web"))
    gate.admit_action(IDENTITY, "container.stop", "web\x1b[31m")
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(OPEN + "spec: {api: {denyActions: [container.stop]}}\n")
    new.write_text(OPEN + "spec: {capabilities: {deny: [CAP_NET_RAW]}}\n")
    for log in (tmp_path / "audit", tmp_path / "audit" / CURRENT):
        assert diff.main([str(old), str(new), "--log", str(log)]) == 1
        out, err = capsys.readouterr()
        assert "tester container.create web: allowed -> denied by capabilities.add (2 times" in out
        assert "container.stop web\\x1b[31m: denied by api.action -> allowed (" in out
        assert "3 requests in the log: 3 differ" in err
    assert diff.main([str(new), str(new), "--log", str(tmp_path / "audit")]) == 0
    assert diff.main([str(new), str(new), "--log", str(tmp_path / "absent")]) == 2
    assert "there is no decision log" in capsys.readouterr().err


def test_what_is_no_log_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    for data in (b"\0\1\2\n", b"{}\n", b"[1]\n", b"\xff\xfe"):
        path.write_bytes(data)
        assert diff.main(["builtin:default", "builtin:default", "--log", str(path)]) == 2
        assert f"{path}:1: this is no line of a decision log" in capsys.readouterr().err


async def test_what_is_allowed_is_logged_at_once_but_for_a_start(
    gate: Gate, tmp_path: Path
) -> None:
    gate.admit(IDENTITY, SPEC)
    assert logged(tmp_path) == []
    await asyncio.sleep(0)
    assert len(logged(tmp_path)) == 1
    gate.admit(IDENTITY, SPEC)
    gate.admit_action(IDENTITY, "volume.create", "v")  # with what was due before it
    assert [line.record["verb"] for line in logged(tmp_path)[1:]] == [
        "container.create",
        "volume.create",
    ]
    assert now(gate, SPECS["capability"], policy("  capabilities: {deny: [CAP_NET_RAW]}\n"))
    assert not logged(tmp_path)[-1].record["allowed"]
