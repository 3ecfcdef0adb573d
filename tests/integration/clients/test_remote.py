"""``rootless`` speaks to a daemon that is elsewhere: mutual TLS over TCP, and ssh."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.engine import Engine, program
from tests.support.tlsproxy import Authority, Issued, serving

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"


@dataclass(frozen=True)
class Remote:
    """A daemon behind TLS, and who may speak to it."""

    host: str
    authority: Authority
    client: Issued
    engine: Engine

    def flags(self) -> list[str]:
        """The flags that name all of it."""
        return [
            "--host", f"tcp://{self.host}", "--tlsverify", "--tlscacert", str(self.authority.cert),
            "--tlscert", str(self.client.cert), "--tlskey", str(self.client.key),
        ]  # fmt: skip


@pytest.fixture
def remote(engine: Engine, tmp_path: Path) -> Iterator[Remote]:
    authority = Authority(tmp_path)
    with serving(engine.socket, authority) as host:
        yield Remote(host, authority, authority.issue("client"), engine)


def test_run_over_tls(remote: Remote) -> None:
    """Streams of any size, the end of stdin, and the exit status."""
    data = bytes(range(256)) * (1 << 14)
    done = subprocess.run(
        [*program("rootless"), *remote.flags(), "run", "--rm", "-i", IMAGE,
         "sh", "-c", "cat; echo over >&2; exit 7"],
        env=remote.engine.env, input=data, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, b"over\n")
    assert done.stdout == data
    assert remote.engine.run(*remote.flags(), "version").returncode == 0


def test_exec_and_archives_over_tls(remote: Remote, tmp_path: Path) -> None:
    engine, flags = remote.engine, remote.flags()
    engine.ok(*flags, "run", "-d", "--name", "far", "--init", IMAGE, "sleep", "1000")
    assert engine.ok(*flags, "exec", "-i", "far", "cat", input="words") == "words"
    (tmp_path / "file").write_bytes(b"z" * (1 << 20))
    engine.ok(*flags, "cp", str(tmp_path / "file"), "far:/tmp/file")
    assert engine.ok("exec", "far", "wc", "-c", "/tmp/file").split()[0] == str(1 << 20)
    engine.ok(*flags, "rm", "-f", "far")


def test_docker_speaks_to_it_by_the_same_context(remote: Remote) -> None:
    """One client makes the context, the other uses it."""
    engine, issued = remote.engine, remote.client
    made = (
        f"host=tcp://{remote.host},ca={remote.authority.cert},cert={issued.cert},key={issued.key}"
    )
    engine.ok("context", "create", "far", "--docker", made)
    found = subprocess.run(
        ["docker", "--context", "far", "version", "--format", "{{.Server.Platform.Name}}"],
        env=engine.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.stdout == "rootless\n", found.stderr
    listed = subprocess.run(
        ["docker", "context", "inspect", "far"],
        env=engine.env, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(listed.stdout)[0]["TLSMaterial"] == {
        "docker": ["ca.pem", "cert.pem", "key.pem"]
    }
    engine.ok("context", "use", "far")
    try:
        assert engine.ok("context", "show") == "far"
        assert engine.ok("run", "--rm", IMAGE, "echo", "through") == "through"
    finally:
        engine.ok("context", "rm", "-f", "far")


def test_who_is_not_known_is_not_spoken_to(remote: Remote, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    other = Authority(stranger, "other")
    engine, flags = remote.engine, remote.flags()
    wrong = [str(other.cert) if word == str(remote.authority.cert) else word for word in flags]
    done = engine.run(*wrong, "ps")
    assert (done.returncode, "certificate verify failed" in done.stderr) == (1, True)
    forged = other.issue("client")
    swap = {str(remote.client.cert): str(forged.cert), str(remote.client.key): str(forged.key)}
    done = engine.run(*(swap.get(word, word) for word in flags), "ps")
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr or "closed the connection" in done.stderr
    done = engine.run("--host", f"tcp://{remote.host}", "ps")
    assert (done.returncode, "without TLS" in done.stderr) == (1, True)
    unchecked = [*flags[:2], "--tls", *flags[5:]]
    done = engine.run(*unchecked, "ps", "-q")
    assert (done.returncode, "nothing proves" in done.stderr) == (0, True)


def test_over_ssh(engine: Engine, tmp_path: Path) -> None:
    """The ssh client is a script here that runs the command it was given."""
    log = tmp_path / "words"
    rootless = " ".join(f"'{word}'" for word in program("rootless"))
    for name, text in (
        ("ssh", f'#!/bin/sh\necho "$*" >> {log}\nwhile [ "$1" != -- ]; do shift; done\n'
                'shift 2\nexec "$@"\n'),
        ("rootless", f'#!/bin/sh\nunset ROOTLESS_HOST\nexec {rootless} "$@"\n'),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{engine.env['PATH']}"}
    data = "line\n" * 100_000
    done = engine.run(
        "-H", "ssh://me@box:2222", "run", "--rm", "-i", IMAGE, "cat", input=data, env=env
    )
    assert (done.returncode, done.stdout == data) == (0, True), done.stderr
    asked = log.read_text().splitlines()[0]
    assert asked == "-o ConnectTimeout=30 -T -l me -p 2222 -- box rootless system dial-stdio"
