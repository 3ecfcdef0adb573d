"""Docker's own command line over images and a registry."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clients.commands import ok
from tests.integration.images.test_registry import HTPASSWD
from tests.support import registry
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli
from tests.support.registry import RunningRegistry

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"
USER, PASSWORD = "me", "secret:with colon"
_HELPER = """#!/bin/sh
umask 077
cd "$(dirname "$0")"
case "$1" in
store) cat > kept ;;
get) read -r server; cat kept 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f kept ;;
list) echo '{}' ;;
esac
echo "$1" >> calls
"""  # noqa: E501 - a script's long line


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry.running(tmp_path_factory.mktemp("plain")) as found:
        yield found


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """Everybody pulls, ``USER`` pushes."""
    base = tmp_path_factory.mktemp("private")
    with (
        registry.token_realm(base / "realm", user=USER, password=PASSWORD) as realm,
        registry.running(base / "registry", auth=realm.auth) as found,
    ):
        yield found


def test_push_and_pull(docker_cli: DockerCli, plain: RunningRegistry) -> None:
    name = f"{plain.host}/team/tool"
    ok(docker_cli, "tag", IMAGE, f"{name}:1")
    pushed = ok(docker_cli, "push", f"{name}:1").splitlines()
    assert pushed[0] == f"The push refers to repository [{name}]"
    assert pushed[-1].startswith("1: digest: sha256:")
    digest = pushed[-1].split()[2]
    assert ok(docker_cli, "push", "-q", f"{name}:1") == f"{name}:1\n"
    done = docker_cli("push", f"{name}:2")
    assert (done.returncode, f"tag does not exist: {name}:2" in done.stderr) == (1, True)
    untagged = ok(docker_cli, "rmi", f"{name}:1").splitlines()
    assert untagged[0] == f"Untagged: {name}:1"
    pulled = ok(docker_cli, "pull", f"{name}:1").splitlines()
    assert pulled[0] == "1: Pulling from team/tool"
    assert pulled[-3:] == [
        f"Digest: {digest}", f"Status: Downloaded newer image for {name}:1", f"{name}:1",
    ]  # fmt: skip
    again = ok(docker_cli, "pull", f"{name}:1")
    assert f"Status: Image is up to date for {name}:1" in again
    assert ok(docker_cli, "pull", "-q", f"{name}@{digest}") == f"{name}@{digest}\n"
    shown = ok(docker_cli, "inspect", "-f", "{{.RepoDigests}}", f"{name}:1")
    assert shown == f"[{name}@{digest}]\n"
    assert json.loads(ok(docker_cli, "manifest", "inspect", "--insecure", f"{name}:1"))["config"]
    assert ok(docker_cli, "run", "--rm", "--pull", "always", "-q", f"{name}:1", "echo", "hi") == (
        "hi\n"
    )
    ok(docker_cli, "rmi", "-f", f"{name}:1")


def test_what_a_registry_does_not_have(docker_cli: DockerCli, plain: RunningRegistry) -> None:
    done = docker_cli("pull", f"{plain.host}/team/none:1")
    assert f"manifest for {plain.host}/team/none:1 not found: manifest unknown" in done.stderr
    done = docker_cli("pull", "-a", f"{plain.host}/team/none")
    assert f"repository {plain.host}/team/none not found: name unknown" in done.stderr
    done = docker_cli("run", "--rm", f"{plain.host}/team/none:1")
    assert done.returncode == 125
    assert done.stderr.startswith(f"Unable to find image '{plain.host}/team/none:1' locally\n")
    done = docker_cli("push", "none")
    assert "An image does not exist locally with the tag: none" in done.stderr
    ok(docker_cli, "tag", IMAGE, f"{plain.host}/team/one:1")
    ok(docker_cli, "push", "-q", f"{plain.host}/team/one:1")
    done = docker_cli("pull", "--platform", "linux/arm64", f"{plain.host}/team/one:1")
    assert "does not match the specified platform: wanted linux/arm64" in done.stderr
    ok(docker_cli, "rmi", "-f", f"{plain.host}/team/one:1")


def test_a_pull_without_credentials_ends(docker_cli: DockerCli, tmp_path: Path) -> None:
    """At a 401 of the daemon the client would ask for a name, and wait for ever without anybody."""
    passwords = tmp_path / "htpasswd"
    passwords.write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
    with registry.running(tmp_path / "registry", auth=auth) as found:
        done = docker_cli("pull", f"{found.host}/x:1")
        assert (done.returncode, "no basic auth credentials" in done.stderr) == (1, True)


def test_login_and_what_is_kept(
    docker_cli: DockerCli, private: RunningRegistry, engine: Engine
) -> None:
    config = engine.root / "docker/config.json"
    name = f"{private.host}/team/tool:1"
    ok(docker_cli, "tag", IMAGE, name)
    done = docker_cli("push", name)
    assert (done.returncode, "unauthorized: authentication required" in done.stderr) == (1, True)
    done = docker_cli("login", "-u", USER, "--password-stdin", private.host, input="wrong")
    assert (done.returncode, "unauthorized" in done.stderr) == (1, True)
    said = ok(docker_cli, "login", "-u", USER, "--password-stdin", private.host, input=PASSWORD)
    assert "Login Succeeded" in said
    ok(docker_cli, "push", name)
    engine.ok("push", name)  # by the same file
    assert "Login Succeeded" in engine.ok("login", private.host)
    engine.ok("logout", private.host)
    assert json.loads(config.read_text())["auths"] == {}
    assert docker_cli("push", name).returncode == 1
    ok(docker_cli, "rmi", "-f", name)
    config.unlink()


def test_a_credential_helper_serves_both_clients(
    docker_cli: DockerCli,
    private: RunningRegistry,
    engine: Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(_HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{engine.env['PATH']}")
    config = engine.root / "docker/config.json"
    config.write_text(json.dumps({"credHelpers": {private.host: "test"}}))
    name = f"{private.host}/team/helped:1"
    ok(docker_cli, "tag", IMAGE, name)
    assert engine.run("push", name).returncode == 1
    engine.ok("login", "-u", USER, "--password-stdin", private.host, input=PASSWORD)
    kept = json.loads((tmp_path / "kept").read_text())
    assert (kept["Username"], kept["Secret"]) == (USER, PASSWORD)
    assert PASSWORD not in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    ok(docker_cli, "push", name)
    engine.ok("push", name)
    ok(docker_cli, "logout", private.host)
    assert not (tmp_path / "kept").exists()
    assert {"store", "get", "erase"} <= set((tmp_path / "calls").read_text().split())
    assert engine.run("push", name).returncode == 1
    ok(docker_cli, "rmi", "-f", name)
    config.unlink()


def test_archives(docker_cli: DockerCli, engine: Engine, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    ok(docker_cli, "save", "-o", str(archive), IMAGE)
    assert ok(docker_cli, "load", "-i", str(archive)) == f"Loaded image: {IMAGE}:latest\n"
    done = docker_cli("save", "-o", str(tmp_path / "none"), "none")
    assert (done.returncode, "No such image: none:latest" in done.stderr) == (1, True)
    (tmp_path / "words").write_text("no archive")
    done = docker_cli("load", "-i", str(tmp_path / "words"))
    assert (done.returncode, "invalid tar archive" in done.stderr) == (1, True)
    ok(docker_cli, "create", "--name", "made", IMAGE)
    ok(docker_cli, "export", "-o", str(archive), "made")
    ok(docker_cli, "rm", "made")
    ident = ok(docker_cli, "import", "-c", 'CMD ["echo","imported"]', str(archive), "made:1")
    assert ident.startswith("sha256:")
    assert ok(docker_cli, "run", "--rm", "made:1") == "imported\n"
    assert ok(docker_cli, "rmi", "made:1").splitlines() == [
        "Untagged: made:1", f"Deleted: {ident.strip()}",
    ]  # fmt: skip


def test_commit_history_and_lists(docker_cli: DockerCli, engine: Engine) -> None:
    ok(docker_cli, "run", "--name", "changed", IMAGE, "touch", "/new")
    change = ("-a", "me", "-m", "a file", "-c", "CMD ls /new")
    ident = ok(docker_cli, "commit", *change, "changed", "kept:1").strip()
    ok(docker_cli, "rm", "changed")
    assert ok(docker_cli, "run", "--rm", "kept:1") == "/new\n"
    lines = ok(docker_cli, "history", "--format", "{{.Comment}}|{{.CreatedBy}}", "kept:1")
    assert lines.splitlines()[0] == "a file|touch /new"
    done = docker_cli("history", "none")
    assert (done.returncode, "No such image: none:latest" in done.stderr) == (1, True)
    form = "{{.Repository}}:{{.Tag}}"
    assert ok(docker_cli, "images", "--format", form, "kept") == "kept:1\n"
    assert ok(docker_cli, "images", "-q", "--no-trunc", "kept") == f"{ident}\n"
    assert ok(docker_cli, "images", "--format", form, "--filter", "reference=k*:1") == "kept:1\n"
    assert ok(docker_cli, "images", "--format", form, "--filter", "since=kept:1") == ""
    done = docker_cli("images", "--filter", "foo=1")
    assert (done.returncode, "invalid filter 'foo'" in done.stderr) == (1, True)
    assert "kept:1" in ok(docker_cli, "images", "--tree")
    ok(docker_cli, "tag", "kept:1", "kept:2")
    done = docker_cli("tag", "none", "x:1")
    assert (done.returncode, "No such image: none:latest" in done.stderr) == (1, True)
    assert ok(docker_cli, "rmi", "kept:1") == "Untagged: kept:1\n"
    ok(docker_cli, "create", "--name", "user", "kept:2")
    done = docker_cli("rmi", ident.removeprefix("sha256:")[:12])
    assert (done.returncode, "conflict: unable to delete" in done.stderr) == (1, True)
    ok(docker_cli, "rm", "user")
    assert f"Deleted: {ident}" in ok(docker_cli, "rmi", "kept:2")
    done = docker_cli("rmi", "none")
    assert (done.returncode, "No such image: none:latest" in done.stderr) == (1, True)


def test_the_built_in_image_comes_back(docker_cli: DockerCli, engine: Engine) -> None:
    """Who prunes everything and asks for it by name gets this host's, not a registry's."""
    assert "deleted: sha256:" in ok(docker_cli, "image", "prune", "-af")
    assert ok(docker_cli, "images", "-q") == ""
    said = docker_cli("run", "--rm", IMAGE, "echo", "hi")
    assert said.stdout == "hi\n", said.stderr
    assert said.stderr.startswith(f"Unable to find image '{IMAGE}:latest' locally\n")
