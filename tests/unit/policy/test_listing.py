"""Which objects a list shows: the policy is looked up once, and still has the last word."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.engine.gate import Gate
from rootless.model.identity import Identity
from rootless.policy.load import PolicyFiles, PolicyStore
from rootless.policy.matching import Subject
from rootless.policy.policy import Policy
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: test}\nextends: none\n"
OWN = Identity("unix", "me", uid=os.getuid())
SUBJECTS = [
    Subject(name=f"c{number}", labels={"team": "red" if number % 2 else "blue"},
            owners=frozenset({OWN.key}))
    for number in range(100)
]  # fmt: skip
Make = Callable[[str], Gate]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A gate with the policy of the areas given."""

    def made(areas: str) -> Gate:
        path = tmp_path / "policy.yaml"
        path.write_text(HEAD + areas)
        return Gate(
            PolicyStore(PolicyFiles(user=path, admin=tmp_path / "none"), home=HOME), FACTS, PATHS
        )

    return made


def shown(gate: Gate, identity: Identity) -> int:
    """How many of the subjects are listed."""
    wanted = gate.lister(identity, "container.list", lambda subject: subject)
    return sum(map(wanted, SUBJECTS))


@pytest.mark.parametrize(
    ("areas", "own", "other"),
    [
        ("", 100, 100),
        ("spec:\n  api: {denyActions: [container.list]}\n", 0, 0),
        ("spec:\n  api: {allowActions: [image.*]}\n", 0, 0),
        (
            "selector: {labels: [team=red]}\nspec:\n  api: {denyActions: [container.list]}\n",
            50,
            50,
        ),
        ("spec:\n  api: {allowOthers: []}\n", 100, 0),
    ],
    ids=["none", "denied", "not allowed", "of some", "of others"],
)
def test_what_is_shown(make: Make, areas: str, own: int, other: int) -> None:
    gate = make(areas)
    assert shown(gate, OWN) == own
    assert shown(gate, IDENTITY) == other


def test_the_policy_is_looked_up_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes system calls; a list of many containers is polled by many clients."""
    gate = make("spec:\n  api: {denyActions: [container.stop]}\n")
    looks: list[None] = []

    def counted(self: PolicyStore, *, real: Callable[..., Policy] = PolicyStore.current) -> Policy:
        looks.append(None)
        return real(self)

    monkeypatch.setattr(PolicyStore, "current", counted)
    assert shown(gate, OWN) == 100
    assert shown(gate, IDENTITY) == 100
    assert len(looks) == 2
