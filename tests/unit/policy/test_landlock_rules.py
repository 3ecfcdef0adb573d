"""Landlock in the language: read, merged, written again, and laid on what is admitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rootless.errors import Denied
from rootless.linux import landlock
from rootless.model.spec import LandlockSpec
from rootless.policy.admission import admit
from rootless.policy.load import load_policy
from rootless.policy.policy import Policy, meet
from rootless.policy.writer import as_yaml
from rootless.runtime.planner import _landlock
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, policy, spec

ABLE = replace(FACTS, landlock_abi=6)
FILES = policy("  landlock: {readOnly: [/usr, /etc], readWrite: [/tmp/, /var/lib/x]}\n")


def laid(by: Policy, facts: Any = ABLE) -> LandlockSpec | None:
    return admit(IDENTITY, SPEC, by, facts, PATHS).spec.process.landlock


def test_rules_are_laid_on_what_is_admitted() -> None:
    assert laid(policy("")) is None
    assert laid(FILES) == LandlockSpec(
        6, read=("/etc", "/tmp", "/usr", "/var/lib/x"), write=("/tmp", "/var/lib/x")
    )
    ports = policy("  landlock: {connectTcp: [443, 53], bindTcp: []}\n")
    assert laid(ports) == LandlockSpec(6, connect=(443, 53), bind=())
    # An earlier admission's are not kept.
    old = spec(process=replace(SPEC.process, landlock=LandlockSpec(6, read=("/",))))
    assert admit(IDENTITY, old, policy(""), ABLE, PATHS).spec.process.landlock is None


def test_several_policies_allow_what_all_allow() -> None:
    other = policy("  landlock: {readOnly: [/], readWrite: [/tmp/a, /usr/share]}\n")
    for both in (meet(FILES, other), meet(other, FILES)):
        found = laid(both)
        assert found is not None
        assert found.read == ("/etc", "/tmp", "/usr", "/var/lib/x")
        assert found.write == ("/tmp/a",)
    some = policy("  landlock: {readWrite: [/usr]}\n", more="selector: {names: [quiet_heron]}\n")
    narrowed = laid(meet(FILES, some))
    assert narrowed == LandlockSpec(6, read=("/usr",), write=())


def test_a_policy_that_only_warns_restricts_nothing() -> None:
    assert laid(policy("  landlock: {readOnly: [/]}\n", more="mode: warn\n")) is None


@pytest.mark.parametrize(
    ("body", "abi"), [("{readOnly: [/]}", 0), ("{connectTcp: [1]}", 3), ("{bindTcp: []}", 0)]
)
def test_a_kernel_that_cannot_is_a_denial_unless_the_policy_lets_go(body: str, abi: int) -> None:
    unable = replace(FACTS, landlock_abi=abi)
    with pytest.raises(Denied, match=r"landlock\.available"):
        laid(policy(f"  landlock: {body}\n"), unable)
    lax = body.replace("}", ", allowWithout: true}")
    assert laid(policy(f"  landlock: {lax}\n"), unable) is None
    with pytest.raises(Denied):
        laid(policy(f"  landlock: {body.replace('}', ', allowWithout: false}')}\n"), unable)


def test_the_merged_document_says_the_same() -> None:
    for by in (FILES, policy("  landlock: {connectTcp: [443], readOnly: [/]}\n")):
        assert load_policy(as_yaml(by), "f", home=HOME).constraints == by.constraints


def test_the_plan_has_the_rights_that_the_kernel_knows() -> None:
    rules = LandlockSpec(3, read=("/a",), write=("/b",))
    plan = _landlock(spec(process=replace(SPEC.process, landlock=rules, init_binary="/x")))
    assert plan is not None
    every = landlock.file_rights(3)
    assert plan.handled == (every,)
    assert [(path, rights) for path, rights, _ in plan.paths] == [
        ("/a", landlock.READ), ("/b", every), ("/dev/init", landlock.READ),
    ]  # fmt: skip
    assert all(not on_file & ~landlock.ON_FILES for _, _, on_file in plan.paths)
    ports = LandlockSpec(6, connect=(443,), bind=())
    plan = _landlock(spec(process=replace(SPEC.process, landlock=ports)))
    assert plan is not None
    assert plan.handled == (0, landlock.CONNECT_TCP | landlock.BIND_TCP, 0)
    assert plan.ports == ((443, landlock.CONNECT_TCP),)
    assert _landlock(SPEC) is None
