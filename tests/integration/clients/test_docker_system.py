"""Docker's own command line over volumes, networks, the system, and what is not here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.clients.commands import ok
from tests.support.api import until
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"


def test_volumes(docker_cli: DockerCli, engine: Engine) -> None:
    assert ok(docker_cli, "volume", "create", "--label", "tier=db", "data") == "data\n"
    ok(docker_cli, "run", "--rm", "-v", "data:/d", IMAGE, "sh", "-c", "echo kept > /d/file")
    again = ("run", "--rm", "--mount", "type=volume,src=data,dst=/d,readonly", IMAGE)
    assert ok(docker_cli, *again, "cat", "/d/file") == "kept\n"
    assert docker_cli(*again, "touch", "/d/x").returncode == 1
    assert ok(docker_cli, "volume", "ls", "-q", "--filter", "label=tier") == "data\n"
    shown = json.loads(ok(docker_cli, "volume", "inspect", "data"))[0]
    assert (shown["Driver"], shown["Scope"], shown["Labels"]) == ("local", "local", {"tier": "db"})
    user = ok(docker_cli, "create", "-v", "data:/d", "-v", "/anonymous", IMAGE).strip()
    done = docker_cli("volume", "rm", "data")
    assert f"remove data: volume is in use - [{user}]" in done.stderr
    dangling = ("volume", "ls", "-q", "--filter", "dangling=true")
    assert ok(docker_cli, *dangling) == ""
    ok(docker_cli, "rm", user)
    anonymous = set(ok(docker_cli, *dangling).split()) - {"data"}
    assert len(anonymous) == 1
    said = ok(docker_cli, "volume", "prune", "-f").splitlines()
    assert said == ["Deleted Volumes:", *anonymous, "", "Total reclaimed space: 0B"]
    assert ok(docker_cli, "volume", "rm", "data") == "data\n"
    for words, said in (
        (("inspect", "data"), "get data: no such volume"),
        (("rm", "data"), "no such volume"),
        (("ls", "--filter", "foo=1"), "invalid filter 'foo'"),
        (("create", "a!"), 'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed'),
    ):
        done = docker_cli("volume", *words)
        assert done.returncode == 1
        assert str(said).replace('"', "") in done.stderr.replace('"', "")
    assert docker_cli("volume", "rm", "-f", "data").returncode == 0


def test_the_networks_there_are(docker_cli: DockerCli, engine: Engine) -> None:
    names = ok(docker_cli, "network", "ls", "--format", "{{.Name}}").split()
    assert {"host", "none"} <= set(names)
    for pattern, found in (("^none$", "none"), ("non", "none"), ("^on", ""), ("h.s", "host")):
        listed = ("network", "ls", "--filter", f"name={pattern}", "--format", "{{.Name}}")
        assert ok(docker_cli, *listed).strip() == found, pattern
    shown = json.loads(ok(docker_cli, "network", "inspect", "none"))[0]
    assert (shown["Driver"], shown["Scope"]) == ("null", "local")
    done = docker_cli("network", "inspect", "absent")
    assert (done.returncode, "network absent not found" in done.stderr) == (1, True)
    done = docker_cli("network", "rm", "absent")
    assert (done.returncode, "network absent not found" in done.stderr) == (1, True)
    ok(docker_cli, "network", "prune", "-f")


def test_what_the_system_says(docker_cli: DockerCli, engine: Engine) -> None:
    assert "Server: rootless" in ok(docker_cli, "version")
    assert ok(docker_cli, "version", "--format", "{{.Server.Os}}") == "linux\n"
    info = ok(docker_cli, "info")
    assert "Swarm: inactive" in info
    assert "\n  rootless\n" in info
    assert json.loads(ok(docker_cli, "info", "--format", "{{json .}}"))["OSType"] == "linux"
    usage = ok(docker_cli, "system", "df", "--format", "json")
    rows = [json.loads(line) for line in usage.splitlines()]
    assert [row["Type"] for row in rows] == [
        "Images", "Containers", "Local Volumes", "Build Cache",
    ]  # fmt: skip
    ok(docker_cli, "create", "--name", "old", IMAGE)
    verbose = ok(docker_cli, "system", "df", "-v")
    assert "Images space usage:" in verbose
    assert "Containers space usage:" in verbose
    said = ok(docker_cli, "system", "prune", "-f")
    assert said.startswith("Deleted Containers:\n")


def test_events(docker_cli: DockerCli, engine: Engine) -> None:
    ok(docker_cli, "run", "--rm", "--name", "seen", IMAGE, "true")
    words = (
        "events", "--since", "1h", "--until", "-1s", "--filter", "container=seen",
        "--format", "{{.Action}}",
    )  # fmt: skip
    until(lambda: "destroy" in ok(docker_cli, *words))
    seen = ok(docker_cli, *words).split("\n")
    order = [seen.index(action) for action in ("create", "attach", "start", "die", "destroy")]
    assert order == sorted(order)
    done = docker_cli("events", "--filter", "foo=bar", "--since", "1m", "--until", "-1s")
    assert (done.returncode, "invalid filter 'foo'" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "words",
    [
        ("swarm", "leave"), ("swarm", "join-token", "worker"), ("node", "ls"), ("service", "ls"),
        ("stack", "ls"), ("secret", "ls"), ("config", "ls"), ("node", "inspect", "self"),
        ("service", "create", IMAGE), ("secret", "inspect", "x"), ("config", "rm", "x"),
        ("service", "logs", "x"), ("stack", "rm", "x"),
    ],
)  # fmt: skip
def test_an_engine_that_is_in_no_swarm(docker_cli: DockerCli, words: tuple[str, ...]) -> None:
    done = docker_cli(*words)
    assert done.returncode == 1
    assert "swarm" in done.stderr.lower()
    assert "page not found" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("swarm", "init"), "swarm mode is not supported"),
        (("plugin", "install", "x"), "plugins are not supported"),
        (("plugin", "inspect", "x"), 'plugin "x'),
        (("plugin", "enable", "x"), 'plugin "x'),
        (("run", "--gpus", "all", IMAGE), "device requests (GPUs) are not supported"),
        (("run", "--device-cgroup-rule", "c 1:3 r", IMAGE), "device cgroup rules need real root"),
    ],
)
def test_what_is_refused_says_why(docker_cli: DockerCli, words: tuple[str, ...], said: str) -> None:
    done = docker_cli(*words)
    assert done.returncode != 0
    assert said in done.stderr


def test_plugins_and_builds(docker_cli: DockerCli, tmp_path: Path) -> None:
    assert ok(docker_cli, "plugin", "ls", "-q") == ""
    assert "Total reclaimed space: 0B" in ok(docker_cli, "builder", "prune", "-f")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = docker_cli("build", str(tmp_path))
    assert done.returncode == 1
    assert "building images is not supported yet" in done.stderr
