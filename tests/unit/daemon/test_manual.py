"""The manual and docs/daemon.md tell of every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rootless.daemon.main import main
from rootless.daemon.manual import manual
from rootless.daemon.options import OPTIONS
from rootless.daemon.refusals import REFUSALS

PAGE = (Path(__file__).parents[3] / "docs/daemon.md").read_text(encoding="utf-8")


def test_the_manual_has_every_flag() -> None:
    text = manual()
    for option in OPTIONS:
        assert re.search(rf"--{re.escape(option.name)}[ \n]", text), option.name
        if option.letter:
            assert f"-{option.letter}, --{option.name}" in text
    assert not [line for line in text.splitlines() if len(line) > 110]


def test_the_page_has_every_setting_with_its_text() -> None:
    for option in OPTIONS:
        key = f"`{option.inside}.{option.key}`" if option.inside else f"`{option.key}`"
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {key} "))
        assert option.text.replace("|", "\\|") in row
        assert row.endswith("; *reload* |") is option.reload
        if option.name != option.key:
            assert f"`--{option.name}`" in row


def test_the_page_has_every_refusal_with_its_reason() -> None:
    for refusal in REFUSALS:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{refusal.key}` "))
        assert refusal.reason in row
        if refusal.holds is not None:
            assert f"| `{str(refusal.holds).lower()}` |" in row


@pytest.mark.parametrize(("word", "begin"), [("--help", "Usage:  rootlessd"), ("-v", "rootlessd ")])
def test_help_and_version(word: str, begin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out.startswith(begin)
