"""Carry the top-level data directories into the package; everything else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithData(build_py):
    """Copies policies/, profiles/ and pki/ to rootless/_data, where rootless.resources looks."""

    def run(self) -> None:
        """Build the modules, then add the data."""
        super().run()
        source = Path(__file__).resolve().parent
        for name in ("policies", "profiles", "pki"):
            if (source / name).is_dir():
                target = Path(self.build_lib) / "rootless" / "_data" / name
                shutil.copytree(source / name, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithData})
