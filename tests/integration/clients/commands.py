"""Running a client's command that must succeed."""

from __future__ import annotations

from tests.support.fixtures import DockerCli


def ok(docker_cli: DockerCli, *words: str, **options: str) -> str:
    """Its output; what it said instead when it failed."""
    done = docker_cli(*words, **options)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return str(done.stdout)
