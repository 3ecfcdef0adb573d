"""Quotas: what one identity may have of everything."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rootless.errors import Denied
from rootless.model.identity import Identity
from rootless.model.request import Resources
from rootless.model.usage import Usage
from rootless.policy.admission import admit, admit_update, preview
from rootless.policy.policy import Policy
from rootless.policy.rules.quotas import limits_of
from tests.unit.policy.cases import FACTS, IDENTITY, PATHS, SPEC, policy

CASES = [
    ("quotas.containers", "maximumContainers: 2", Usage(IDENTITY, containers=3)),
    ("quotas.running", "maximumRunning: 2", Usage(IDENTITY, running=3)),
    ("quotas.memory", "maximumMemory: 1g", Usage(IDENTITY, memory=(1 << 30) + 1)),
    ("quotas.memory", "maximumMemory: 1g", Usage(IDENTITY, memory=math.inf)),
    ("quotas.cpus", "maximumCpus: 2", Usage(IDENTITY, cpus=2.5)),
    ("quotas.disk", "maximumDisk: 1m", Usage(IDENTITY, disk=(1 << 20) + 1)),
]
FULL = Usage(IDENTITY, 2, 2, 1 << 30, 2, 1 << 20)


def broken(by: Policy, usage: Usage, identity: Identity = IDENTITY) -> set[str]:
    found = preview(identity, SPEC, by, FACTS, PATHS, usage=usage).findings
    return {finding.rule for finding in found}


@pytest.mark.parametrize(("rule", "field", "usage"), CASES)
def test_what_is_too_much_is_denied(rule: str, field: str, usage: Usage) -> None:
    by = policy(f"  quotas: {{{field}}}\n")
    assert broken(by, usage) == {rule}
    assert not broken(by, FULL)
    assert not broken(policy(), usage)
    with pytest.raises(Denied, match=rule):
        admit(IDENTITY, SPEC, by, FACTS, PATHS, usage=usage)


def test_the_message_says_what_and_what_to_do() -> None:
    by = policy("  quotas: {maximumMemory: 1g}\n")
    with pytest.raises(Denied) as caught:
        admit(IDENTITY, SPEC, by, FACTS, PATHS, usage=Usage(IDENTITY, memory=3 << 30))
    assert "quotas.memory: HostConfig.Memory=3GiB: " in caught.value.message
    assert "the policy allows 1GiB (fix: stop another container first" in caught.value.message
    with pytest.raises(Denied, match=r"=unlimited: .*run every container with a limit"):
        admit(IDENTITY, SPEC, by, FACTS, PATHS, usage=Usage(IDENTITY, memory=math.inf))


def test_an_update_is_held_to_them() -> None:
    by = policy("  quotas: {maximumMemory: 1g}\n")

    def update(memory: float) -> bool:
        usage = Usage(IDENTITY, memory=memory)
        return admit_update(
            IDENTITY, Resources(), SPEC, by, facts=FACTS, paths=PATHS, usage=usage
        ).allowed

    assert update(1 << 30)
    with pytest.raises(Denied, match=r"quotas\.memory"):
        update(2 << 30)


def test_it_counts_for_the_owner_whoever_asks() -> None:
    """The policy for the one the container belongs to decides, not that for who starts it."""
    by = policy("  quotas: {maximumRunning: 1}\n", more="selector: {identities: [alice]}\n")
    alice, bob = Identity("unix", "alice", uid=5), Identity("unix", "bob", uid=6)
    assert broken(by, Usage(alice, running=2), bob) == {"quotas.running"}
    assert broken(by, Usage(alice, running=2), alice) == {"quotas.running"}
    assert not broken(by, Usage(bob, running=2), alice)
    # What is denied to bob himself still is.
    more = policy("  labels: {require: [team]}\n", more="selector: {identities: [bob]}\n")
    assert broken(more, Usage(alice, running=2), bob) == {"labels.required"}


def test_limits_that_are_not_set_are_infinite() -> None:
    assert limits_of(Resources()) == (math.inf, math.inf)
    assert limits_of(Resources(memory=5, cpu_quota=50_000)) == (5, 0.5)


def test_an_owner_is_known_by_what_stays_the_same() -> None:
    unix = Identity("unix", "alice", uid=5, pid=77)
    assert unix.key == replace(unix, pid=78, name="a").key == "uid:5"
    by_name = Identity("certificate", "ci", fingerprint="ab")
    assert by_name.key == replace(by_name, fingerprint="cd").key == "certificate:ci"
    uri = "spiffe://example.org/role/ci/runner"
    assert replace(by_name, uri=uri).key == uri
    assert not by_name.own
    assert Identity("unix", "root", uid=0).own
