"""``rootless`` speaks to a daemon that is elsewhere: mutual TLS over TCP, and ssh."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import pki
from tests.support.engine import Engine, new_engine, program
from tests.support.registry import free_port

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"


@dataclass(frozen=True)
class Remote:
    """A daemon that listens on TCP, and the files of who may speak to it."""

    host: str
    files: Path
    engine: Engine

    def flags(self, **files: Path) -> list[str]:
        """The flags that name all of it; ``ca``, ``cert`` and ``key`` may be others."""
        words = ["--host", f"tcp://{self.host}", "--tlsverify"]
        for name in ("ca", "cert", "key"):
            words += [f"--tls{name}{'cert' * (name == 'ca')}"]
            words += [str(files.get(name, self.files / f"{name}.pem"))]
        return words


@pytest.fixture(scope="module")
def authority() -> pki.Pair:
    return pki.authority()


@pytest.fixture(scope="module")
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def shared_engine(
    authority: pki.Pair, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """The module's engine, on its socket and on TCP."""
    directory = tmp_path_factory.mktemp("server")
    pki.write(directory, authority, pki.signed(authority, "server", server=True))
    with new_engine(start=False) as engine:
        engine.start(
            "--host", f"unix://{engine.socket}", "--host", f"tcp://{address}", "--tlsverify",
            "--tlscacert", str(directory / "ca.pem"), "--tlscert", str(directory / "cert.pem"),
            "--tlskey", str(directory / "key.pem"),
        )  # fmt: skip
        yield engine


@pytest.fixture
def remote(engine: Engine, authority: pki.Pair, address: str, tmp_path: Path) -> Remote:
    pair = pki.signed(authority, "client")
    return Remote(address, pki.write(tmp_path / "client", authority, pair), engine)


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
    engine = remote.engine
    files = ",".join(f"{name}={remote.files / name}.pem" for name in ("ca", "cert", "key"))
    made = f"host=tcp://{remote.host},{files}"
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
    other = pki.authority("Stranger")
    wrong = pki.write(tmp_path / "stranger", other, pki.signed(other, "client"))
    engine = remote.engine
    done = engine.run(*remote.flags(ca=wrong / "ca.pem"), "ps")
    assert (done.returncode, "certificate verify failed" in done.stderr) == (1, True)
    done = engine.run(*remote.flags(cert=wrong / "cert.pem", key=wrong / "key.pem"), "ps")
    assert done.returncode == 1
    assert "of an authority that it does not know" in done.stderr
    done = engine.run("--host", f"tcp://{remote.host}", "ps")
    assert (done.returncode, "without TLS" in done.stderr) == (1, True)
    flags = remote.flags()
    unchecked = [*flags[:2], "--tls", *flags[5:]]
    done = engine.run(*unchecked, "ps", "-q")
    assert (done.returncode, "nothing proves" in done.stderr) == (0, True)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"begins": -9, "days": -1}, "it has expired"),
        ({"begins": 2}, "not yet valid"),
        ({"server": True}, "is not for clients"),
    ],
)
def test_who_is_refused_reads_why(
    remote: Remote, authority: pki.Pair, tmp_path: Path, how: dict[str, int], reason: str
) -> None:
    files = pki.write(tmp_path / "c", authority, pki.signed(authority, "c", **how))  # type: ignore[arg-type]  # of either type
    flags = remote.flags(cert=files / "cert.pem", key=files / "key.pem")
    done = remote.engine.run(*flags, "ps")
    assert done.returncode == 1
    assert reason in done.stderr


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
