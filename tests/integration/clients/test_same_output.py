"""What both command lines print about the same things, side by side."""

from __future__ import annotations

import pytest

from tests.support.engine import Engine
from tests.support.fixtures import DockerCli
from tests.support.registry import free_port

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"


def test_ports_sizes_and_times_as_docker_prints_them(engine: Engine, docker_cli: DockerCli) -> None:
    port = free_port()
    published = (
        *("-p", f"{port}:{port}", "-p", f"{port}:{port}/udp", "-p", "[::1]::81"),
        *("-p", "91-93", "--expose", "7", "--expose", "9-10", "--expose", "8/udp"),
    )
    engine.ok("run", "-d", "--name", "box", *published, IMAGE, "sleep", "1000")
    try:
        for words in (
            ("ps", "--no-trunc", "--format", "{{.ID}} {{.Ports}}"),
            ("ps", "--format", '{{json .}}{{"" | len}}'),
            ("inspect", "--format", "{{json .NetworkSettings.Ports}}", "box"),
            ("inspect", "--format", "{{json .HostConfig.PortBindings}}", "box"),
            ("history", "--human=false", IMAGE),
        ):
            expected = docker_cli(*words)
            assert expected.returncode == 0, expected.stderr
            # How long ago it began may change from one to the other.
            assert _still(engine.ok(*words)) == _still(expected.stdout)
    finally:
        engine.ok("rm", "-f", "box")


def _still(text: str) -> list[str]:
    return [
        part for part in text.strip().split('"') if "second" not in part and "minute" not in part
    ]
