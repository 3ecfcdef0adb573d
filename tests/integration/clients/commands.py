"""Running a client's command that must succeed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

Compose = Callable[..., str]
Composer = Callable[..., subprocess.CompletedProcess[str]]


def ok(docker_cli: DockerCli, *words: str, **options: str) -> str:
    """Its output; what it said instead when it failed."""
    done = docker_cli(*words, **options)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return str(done.stdout)


def composer(engine: Engine, program: str, directory: Path, project: str, file: str) -> Composer:
    """Commands of a docker-compose for the project ``file`` in ``directory``."""
    (directory / "docker-compose.yml").write_text(file)
    environment = {
        **{k: v for k, v in engine.env.items() if not k.startswith("PYTHON")},
        "DOCKER_HOST": f"unix://{engine.socket}",
        "COMPOSE_PROJECT_NAME": project,
        "PATH": os.environ["PATH"],
    }

    def run(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], env=environment, cwd=directory, capture_output=True, text=True,
            timeout=100, check=False, input=input,
        )  # fmt: skip

    return run


def succeeding(run: Composer) -> Compose:
    """The same commands, which must succeed: what they print."""

    def checked(*arguments: str) -> str:
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return checked
