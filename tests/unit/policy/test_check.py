"""``rootless check-policy`` on files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from rootless.policy import check
from rootless.policy.check import main
from rootless.policy.load import PolicyFiles

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    # This machine's administrator may have a policy; it is not what is tested.
    monkeypatch.setattr(check, "PolicyFiles", partial(PolicyFiles, admin=tmp_path / "none"))


def test_good_files_are_shown_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(HEAD + "extends: none\nspec: {ports: {minimumHostPort: 5}}\n")
    two.write_text(HEAD + "extends: none\nspec: {ports: {minimumHostPort: 7}}\n")
    assert main([str(one), str(two)]) == 0
    assert f"  ports.minimumHostPort: 7  [{one}:5, {two}:5]" in capsys.readouterr().out
    assert main(["--format", "json", str(two)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["constraints"] == {"ports.minimumHostPort": {"value": 7, "source": f"{two}:5"}}


def test_exit_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(HEAD + "spec: {ports: {minimumHostPort: x}}\nmode: no\n")
    assert main([str(bad)]) == 3
    assert f"{bad}:5:7: no is ambiguous" in capsys.readouterr().err
    assert main([str(tmp_path / "absent.yaml")]) == 2
    with pytest.raises(SystemExit) as caught:
        main(["--nonsense"])
    assert caught.value.code == 2


def test_without_files_the_policy_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    assert "privileges.allowPrivileged: false" in capsys.readouterr().out
    mine = tmp_path / ".config/rootless/policy.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(HEAD + "spec: {x: 1}\n")
    assert main([]) == 3
    assert f"{mine}:4:11: unknown key 'x'" in capsys.readouterr().err
