"""YAML with positions; what is ambiguous is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.policy.documents import InvalidPolicy, load_document


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: yes", "f:1:4: yes is ambiguous"),
        ("a: [on, off]", "f:1:5: on is ambiguous"),
        ("a: True", "f:1:4: True is ambiguous"),
        ("a:\n  b: 22:22", "f:2:6: YAML reads 22:22 as another int"),
        ("a: 010", "f:1:4: YAML reads 010"),
        ("a: 0x10", "f:1:4: YAML reads 0x10"),
        ("a: 1_000", "f:1:4: YAML reads 1_000"),
        ("a: 1.5", "f:1:4: YAML reads 1.5 as another float"),
        ("a: 1e3\nb: .inf", "f:2:4: YAML reads .inf"),
        ("a: 2020-01-01T00:00:00Z", "f:1:4: YAML reads 2020-01-01T00:00:00Z as another timestamp"),
        ("a: ~", "f:1:4: a value is missing"),
        ("a:", "f:1:3: a value is missing"),
        ("a: null", "f:1:4: a value is missing"),
        ("a: 1\nb: 2\na: 3", "f:3:1: duplicate key 'a', first on line 1"),
        ("a: {b: 1, b: 2}", "f:1:11: duplicate key 'b'"),
        ("1: a", "f:1:1: a key must be a plain string"),
        ("no: a", "f:1:1: a key must be a plain string"),
        ("? [a]\n: b", "f:1:3: a key must be a plain string"),
        ("x: &x {a: 1}\ny:\n  <<: *x", "f:3:3: a key must be a plain string"),
        ("a: !!python/object:os.system x", "tags are not allowed"),
        ("a: !!binary aGk=", "tags are not allowed"),
        ("a: !x {b: 1}", "tags are not allowed"),
        ("a: !!set {b}", "tags are not allowed"),
        ("a: 1\n---\nb: 2", "exactly one document"),
        ("", "exactly one document"),
        ("# nothing\n", "exactly one document"),
        ("a: [", "f:"),
        ("\ta: 1", "f:1:"),
        ("a: *nowhere", "f:1:4: "),
        ("a: &a [*a]", "too large or nested too deeply"),
        ("[" * 50 + "]" * 50, "nested too deeply"),
        ("a: \x00", "f:1:"),
        ("a: " + "x" * (1 << 20), "more than"),
    ],
)
def test_refused_with_position(text: str, complaint: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        load_document(text, "f")
    found = caught.value.context["complaints"]
    assert isinstance(found, list)
    assert any(complaint in line for line in found), found


def test_aliases_that_explode_are_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(InvalidPolicy, match="too large"):
        load_document("\n".join(levels), "f")


def test_plain_documents_and_positions() -> None:
    document = load_document(
        "a: 1\nb:\n  - x\n  - 'yes'\n  - true\nc: &c {d: \"010\"}\ne: *c\n", "f"
    )
    assert document.value == {
        "a": 1, "b": ["x", "yes", True], "c": {"d": "010"}, "e": {"d": "010"},
    }  # fmt: skip
    assert document.where(("b", 1)) == "f:4:5"
    assert document.where(("b", 7, "x")) == "f:3:3"
    assert document.where(("nothing",)) == "f:1:1"


@given(st.text(max_size=60) | st.text(alphabet="ab:-[]{}&*!?|>'\"\n #%@,~01", max_size=60))
def test_any_text_is_a_document_or_a_complaint(text: str) -> None:
    with contextlib.suppress(InvalidPolicy):
        load_document(text, "f")
