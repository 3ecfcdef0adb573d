"""``rootless policy show``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless.check.merge import main as merge
from rootless.check.show import main
from rootless.policy.load import BUILTINS, builtin, load_policy
from rootless.policy.writer import as_yaml
from tests.unit.policy.cases import HOME

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"


def test_every_place_a_value_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(HEAD + "extends: none\nspec: {ports: {minimumHostPort: 5}}\n")
    two.write_text(HEAD + "extends: one.yaml\nspec: {ports: {minimumHostPort: 7}}\n")
    assert main([str(two)]) == 0
    assert f"  ports.minimumHostPort: 7  [{one}:5:33, {two}:5:33]" in capsys.readouterr().out
    assert main([str(two), "--explain", "ports.minimumHostPort"]) == 0
    out = capsys.readouterr().out
    assert "value: 7" in out
    assert f"from: {one}:5:33\n  from: {two}:5:33" in out
    assert main([str(two), "--explain", "devices.allow"]) == 0
    assert "not set" in capsys.readouterr().out
    assert main([str(two), "--explain", "ports.minimumHostPor"]) == 2
    assert "did you mean ports.minimumHostPort?" in capsys.readouterr().err
    assert main(["--format", "json", str(two)]) == 0
    shown = json.loads(capsys.readouterr().out)["constraints"]
    assert shown == {
        "ports.minimumHostPort": {"value": 7, "sources": [f"{one}:5:33", f"{two}:5:33"]}
    }
    two.write_text(HEAD + "extends: two.yaml\n")
    assert main([str(two)]) == 3
    assert "circle" in capsys.readouterr().err
    assert main([str(tmp_path / "absent.yaml")]) == 2


@pytest.mark.parametrize("name", BUILTINS)
def test_the_merged_document_says_the_same(name: str) -> None:
    policy = builtin(name, HOME)
    again = load_policy(as_yaml(policy), "f", home=HOME)
    assert again.constraints == policy.constraints
    assert (again.mode, again.rule_modes) == (policy.mode, policy.rule_modes)
    assert again.defaults == policy.defaults


def test_layers_are_shown_and_refused_in_one_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some.yaml"
    some.write_text(
        HEAD + "extends: none\nselector: {names: [web*]}\nspec: {user: {requireNonRoot: true}}\n"
        "exceptions:\n  - {id: old, rules: [user.root], reason: r, approvedBy: a,"
        " expires: 2999-01-01}\n"
    )
    assert main([str(some)]) == 0
    out = capsys.readouterr().out
    assert "for names: web*, besides the above:" in out
    assert f"exception old until 2999-01-01: user.root  [{some}:8:5]" in out
    assert main([str(some), "--format", "json"]) == 0
    [layer] = json.loads(capsys.readouterr().out)["layers"]
    assert layer["selector"] == {"names": ["web*"]}
    assert layer["exceptions"][0]["id"] == "old"
    for command in (main, merge):
        argv = [str(some), "--merged"] if command is main else [str(some), "builtin:default"]
        assert command(argv) == 3
        assert "cannot be merged" in capsys.readouterr().err
    assert merge(["--union", str(some), "builtin:default"]) == 3
