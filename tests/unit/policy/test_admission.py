"""Admission: what it returns, and that there is no way around it."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

import rootless
from rootless.errors import Denied, InvalidInput
from rootless.model.identity import Identity
from rootless.model.mounts import MountSpec
from rootless.model.request import ExecRequest, Resources
from rootless.model.spec import NamespacesSpec, PrivilegesSpec, ProcessSpec, SeccompSpec
from rootless.policy.admission import (
    admit,
    admit_action,
    admit_exec,
    admit_image,
    admit_update,
    preview,
)
from rootless.policy.load import builtin
from rootless.policy.policy import Policy, meet
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, policy, spec

DEFAULT = builtin("default", HOME)


def _uses(tree: ast.AST) -> list[int]:
    """Lines that could make an AdmittedSpec: calls of it, and replace() or __new__ with it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            for part in (node.func, *node.args):
                name = getattr(part, "attr", getattr(part, "id", ""))
                owner = getattr(getattr(part, "value", None), "id", "")
                if "AdmittedSpec" in {name, owner}:
                    found.append(node.lineno)
    return found


def test_only_admission_makes_an_admitted_spec() -> None:
    root = Path(rootless.__file__).parent
    makers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if _uses(ast.parse(path.read_text(encoding="utf-8")))
    }
    allowed = {"policy/admission.py"}
    # Reading its own record back from disk is no admission.
    assert makers - {"runtime/protocol.py", "model/codec.py"} <= allowed
    assert allowed <= makers


def test_the_search_for_makers_finds_them() -> None:
    for source in ("AdmittedSpec(a, b, c)", "spec.AdmittedSpec(a)", "f(AdmittedSpec)",
                   "AdmittedSpec.__new__(AdmittedSpec)"):  # fmt: skip
        assert _uses(ast.parse(source))
    assert not _uses(ast.parse("def f(a: AdmittedSpec) -> AdmittedSpec: return a"))


def test_what_is_admitted_is_the_spec_with_obligations() -> None:
    admitted = admit(IDENTITY, SPEC, DEFAULT, FACTS, PATHS)
    assert admitted.spec == SPEC
    assert admitted.identity == IDENTITY
    assert admitted.decision.allowed
    assert admitted.decision.policy == DEFAULT.title
    assert admitted.decision.weakened == ()
    ordinary = spec(process=ProcessSpec(("sh",), (), "/", "app"))
    strict = policy("  user: {requireNonRoot: true}\n")
    assert admit(IDENTITY, ordinary, strict, FACTS, PATHS).spec.process.forbid_root


def test_what_says_nothing_of_its_time_gets_the_policys() -> None:
    def admitted(by: Policy, asked: int = 0) -> int:
        return admit(IDENTITY, spec(timeout=asked), by, FACTS, PATHS).spec.timeout

    hour = policy("  lifetime: {maximum: 1h}\n")
    assert [admitted(policy()), admitted(policy(), 9)] == [0, 9]
    assert [admitted(hour), admitted(hour, 60)] == [3600, 60]
    assert admitted(meet(hour, policy("  lifetime: {maximum: 90}\n"))) == 90
    some = policy("  lifetime: {maximum: 30s}\n", more="selector: {names: [quiet*]}\n")
    assert admitted(meet(hour, some)) == 30
    # A policy that only warns ends nothing.
    assert admitted(policy("  lifetime: {maximum: 1h}\n", more="mode: warn\n")) == 0
    excused = policy(
        "  lifetime: {maximum: 1h}\n",
        more="exceptions:\n  - {id: long, rules: [lifetime.maximum], match: {names: [quiet*]}, "
        "allow: [2h0m0s], reason: r, approvedBy: a, expires: 2999-01-01}\n",
    )
    assert [admitted(excused, 7200), admitted(excused)] == [7200, 3600]


def test_mounts_are_pinned_to_what_was_judged(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    mount = MountSpec("bind", "/x", source=str(tmp_path / "link"))
    [pinned] = admit(IDENTITY, spec(mounts=(mount,)), DEFAULT, FACTS, PATHS).spec.mounts
    facts = (tmp_path / "real").stat()
    assert pinned.source == str((tmp_path / "real").resolve())
    assert (pinned.source_dev, pinned.source_ino) == (facts.st_dev, facts.st_ino)
    stale = replace(mount, source_dev=facts.st_dev, source_ino=facts.st_ino + 1)
    with pytest.raises(Denied, match="changed while"):
        admit(IDENTITY, spec(mounts=(stale,)), DEFAULT, FACTS, PATHS)


def test_modes_warn_and_audit_let_pass_and_record() -> None:
    bad = spec(namespaces=NamespacesSpec(pid="host"))
    deny = "  namespaces: {allowHost: []}\n"
    for mode in ("warn", "audit"):
        admitted = admit(IDENTITY, bad, policy(deny, more=f"mode: {mode}\n"), FACTS, PATHS)
        [finding] = admitted.decision.findings
        assert (finding.rule, finding.action) == ("namespaces.host", mode)
        assert finding.source == "test.yaml:7:27"
        assert admitted.decision.weakened == ("pid=host",)
    lenient = policy(deny, more="rules: {namespaces.host: {mode: warn}}\n")
    assert admit(IDENTITY, bad, lenient, FACTS, PATHS).decision.findings[0].action == "warn"
    strict = policy(deny, more="mode: warn\nrules: {namespaces.host: {mode: enforce}}\n")
    with pytest.raises(Denied, match=r"namespaces\.host"):
        admit(IDENTITY, bad, strict, FACTS, PATHS)


def test_a_profile_that_is_not_understood_is_refused_before_anything_is_made() -> None:
    bad = spec(seccomp=SeccompSpec("custom", '{"defaultAction": "SCMP_ACT_ERRNO", "x": 1}'))
    for by in (DEFAULT, policy()):
        with pytest.raises(InvalidInput, match="unknown key 'x'"):
            admit(IDENTITY, bad, by, FACTS, PATHS)


def test_preview_says_what_admit_would() -> None:
    bad = spec(namespaces=NamespacesSpec(pid="host"))
    assert preview(IDENTITY, SPEC, DEFAULT, FACTS, PATHS).allowed
    decision = preview(IDENTITY, bad, DEFAULT, FACTS, PATHS)
    assert not decision.allowed
    with pytest.raises(Denied):
        admit(IDENTITY, bad, DEFAULT, FACTS, PATHS)


def test_weakened_names_what_is_gone() -> None:
    bad = spec(privileges=PrivilegesSpec((), False, True), masked_paths=())
    decision = admit(IDENTITY, bad, policy(), FACTS, PATHS).decision
    assert decision.weakened == ("privileged", "no-new-privileges", "systempaths")


def test_exec() -> None:
    request = ExecRequest(("sh",))
    assert admit_exec(IDENTITY, request, SPEC, DEFAULT).allowed
    with pytest.raises(Denied, match=r"privileges\.privileged: Privileged=true"):
        admit_exec(IDENTITY, replace(request, privileged=True), SPEC, DEFAULT)
    strict = policy("  user: {requireNonRoot: true}\n")
    with pytest.raises(Denied, match=r"user\.root"):
        admit_exec(IDENTITY, request, SPEC, strict)
    with pytest.raises(Denied, match=r"user\.root"):
        admit_exec(IDENTITY, replace(request, user="0:7"), SPEC, strict)
    assert admit_exec(IDENTITY, replace(request, user="app"), SPEC, strict).allowed


def test_update() -> None:
    limits = policy("  resources: {maximumMemory: 1g}\n")

    def update(resources: Resources) -> bool:
        return admit_update(IDENTITY, resources, SPEC, limits, facts=FACTS, paths=PATHS).allowed

    assert update(Resources(memory=1 << 30))
    with pytest.raises(Denied, match=r"resources\.maximum: HostConfig\.Memory=2GiB"):
        update(Resources(memory=2 << 30))


def test_images() -> None:
    reference = "docker.io/library/busybox:latest"
    assert admit_image(IDENTITY, "pull", reference, DEFAULT).allowed
    some = policy("  images: {allow: [docker.io/library/*]}\n")
    assert admit_image(IDENTITY, "pull", reference, some).allowed
    with pytest.raises(Denied, match=r"images\.allowed"):
        admit_image(IDENTITY, "pull", "docker.io/evil/busybox:latest", some)
    digests = policy("  images: {requireDigest: true}\n")
    with pytest.raises(Denied, match=r"images\.digest"):
        admit_image(IDENTITY, "pull", reference, digests)
    assert admit_image(IDENTITY, "pull", "docker.io/a/b@sha256:" + "0" * 64, digests).allowed


def test_actions_and_roles() -> None:
    some = policy("  api: {denyActions: [container.exec, image.*], readOnlyRoles: [viewer]}\n")
    viewer = Identity("tls", "eve", role="viewer")
    assert admit_action(IDENTITY, "container.stop", "x", some).allowed
    with pytest.raises(Denied, match=r"api\.action: action=image\.push"):
        admit_action(IDENTITY, "image.push", "x", some)
    with pytest.raises(Denied, match=r"api\.action"):
        admit_exec(IDENTITY, ExecRequest(("sh",)), SPEC, some)
    assert admit_action(viewer, "container.inspect", "x", some).allowed
    for verb in ("container.stop", "volume.remove"):
        with pytest.raises(Denied, match=r"api\.role"):
            admit_action(viewer, verb, "x", some)
    with pytest.raises(Denied, match=r"api\.role"):
        admit(viewer, SPEC, some, FACTS, PATHS)


def test_an_older_container_starts_where_creating_is_denied() -> None:
    """Only while its spec is still allowed."""
    some = policy(
        "  api: {denyActions: [container.create]}\n  privileges: {allowPrivileged: false}\n"
    )
    with pytest.raises(Denied, match=r"action=container\.create"):
        admit(IDENTITY, SPEC, some, FACTS, PATHS)
    assert admit(IDENTITY, SPEC, some, FACTS, PATHS, verb="container.start").decision.allowed
    privileged = replace(SPEC, privileges=replace(SPEC.privileges, privileged=True))
    with pytest.raises(Denied, match=r"privileges\.privileged"):
        admit(IDENTITY, privileged, some, FACTS, PATHS, verb="container.start")
