"""The package as it is installed: data, console scripts, nothing that needs the checkout."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout (building writes beside the source)."""
    root = Path(__file__).resolve().parent.parent.parent
    place = tmp_path_factory.mktemp("package")
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")
    shutil.copytree(root, place / "src", ignore=ignored, copy_function=shutil.copyfile)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--wheel-dir",
            str(place),
            str(place / "src"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PIP_NO_CACHE_DIR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (found,) = place.glob("*.whl")
    return found


def test_data_files_are_in_the_package(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"rootless/_data/{path.relative_to(repository)}"
        for top in ("policies", "profiles", "pki")
        for path in (repository / top).rglob("*")
        if path.is_file()
    }
    assert "rootless/_data/profiles/seccomp/default.json" in wanted
    assert wanted <= names, wanted - names


def test_tests_and_tools_are_not_in_the_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rootless"}


def test_console_scripts_name_functions_that_exist(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        points = configparser.ConfigParser()
        points.read_string(archive.read(entry).decode())
        archive.extractall(tmp_path)
    scripts = dict(points["console_scripts"])
    assert set(scripts) == {"rootless", "rootlessd"}
    checks = [f"import {t.split(':')[0]} as m; m.{t.split(':')[1]}" for t in scripts.values()]
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {'; '.join(checks)}; "
        "from rootless.resources import resource_path; "
        "print(resource_path('profiles', 'seccomp/default.json'))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(f"{tmp_path}/rootless/_data/")
