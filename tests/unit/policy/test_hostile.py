"""Bytes that nobody meant: every input, policy and profile is judged or refused, never a crash."""

from __future__ import annotations

import contextlib
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from rootless.check.inputs import units_of_text
from rootless.errors import InvalidInput
from rootless.policy.documents import InvalidPolicy
from rootless.policy.judge import Judge
from rootless.policy.load import BUILTINS, builtin, load_policy
from rootless.policy.policy import meet
from rootless.policy.profiles import landlock, seccomp
from tests.support.seeds import INPUTS, POLICIES, PROFILES, TOKENS, mutated
from tests.unit.policy.cases import HOME

_edit = st.tuples(
    st.floats(0, 1), st.integers(0, 20), st.sampled_from(TOKENS) | st.binary(max_size=4)
)


_edits = st.lists(_edit, min_size=1, max_size=6)
_EVERY = Judge(reduce(meet, [builtin(name, HOME) for name in BUILTINS]), engine=True)
_FORMS = st.sampled_from([None, "pod", "compose", "oci", "inspect", "run"])


@given(st.sampled_from(INPUTS), _edits, _FORMS)
def test_inputs(seed: bytes, edits: list[tuple[float, int, bytes]], form: str | None) -> None:
    for unit in units_of_text(mutated(seed, edits), form):
        result = _EVERY.result(unit, "x")
        assert all(entry.at.line >= 1 and entry.at.column >= 1 for entry in result.findings)


@given(st.sampled_from(POLICIES), _edits)
def test_policies(seed: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    try:
        load_policy(mutated(seed, edits).decode(errors="replace"), "f", home=HOME)
    except InvalidPolicy as error:
        complaints = error.context["complaints"]
        assert isinstance(complaints, list)
        assert all(line.startswith(("f:", "/", "command line")) for line in complaints)


@given(st.sampled_from(PROFILES), _edits, st.booleans())
def test_profiles(seed: bytes, edits: list[tuple[float, int, bytes]], union: bool) -> None:
    text = mutated(seed, edits).decode(errors="replace")
    with contextlib.suppress(InvalidInput):
        seccomp.merge([seccomp.parse(text, "f")] * 2, union=union)
    with contextlib.suppress(InvalidInput):
        landlock.merge([landlock.parse(text, "f")] * 2, union=union)
