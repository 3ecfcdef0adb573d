"""Shipped files are found, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rootless import resources
from rootless.errors import NotFound
from rootless.resources import resource_path


def test_found_in_the_checkout() -> None:
    profile = resource_path("profiles", "seccomp/default.json")
    assert json.loads(profile.read_text())["defaultAction"] == "SCMP_ACT_ERRNO"


def test_an_installed_package_carries_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "rootless/_data/policies/x.yaml"
    inside.parent.mkdir(parents=True)
    inside.touch()
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "rootless")
    assert resource_path("policies", "x.yaml") == inside
    with pytest.raises(NotFound, match=r"policies/default\.yaml"):
        resource_path("policies", "default.yaml")


@pytest.mark.parametrize(
    "name",
    ["", "../pyproject.toml", "/etc/passwd", "seccomp/../../README.md", ".hidden", "seccomp"],
)
def test_nothing_outside_is_reachable(name: str) -> None:
    with pytest.raises(NotFound):
        resource_path("profiles", name)
