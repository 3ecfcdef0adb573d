"""Text of others on a terminal."""

from __future__ import annotations

import pytest

from rootless.cli.plain import clean


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\r", "\x07", "\x9b31m", "\x7f", "a\u202egpj.exe", "\u2066x\u2069", "\x00"]
)
def test_what_a_terminal_would_obey_is_shown(text: str) -> None:
    assert clean(text).isprintable()
    assert "\\" in clean(text)


def test_words_lines_and_columns_stay() -> None:
    assert clean("naïve\tцена\n日本 ✓\n") == "naïve\tцена\n日本 ✓\n"
