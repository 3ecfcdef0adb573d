"""``tcp://`` with Docker's own client: who is let in, what works, what is told of wrong files."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

from tests.support import pki
from tests.support.api import IMAGE
from tests.support.engine import Engine, new_engine, program
from tests.support.registry import free_port
from tests.support.savedimage import tar
from tests.support.sinks import wait_for

pytestmark = pytest.mark.integration
CA = pki.authority()
SPIFFE = "spiffe://example.org/ci/runner-7"


@dataclass
class Remote:
    """An engine that is served by TLS as well as by its socket."""

    engine: Engine
    port: int
    client: Path
    """Directory of a client's files."""

    def docker(self, *words: str, client: Path | None = None, data: bytes = b"", name: str = ""
               ) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        """Docker's client with the files of ``client``."""
        found = shutil.which("docker")
        if found is None:
            pytest.skip("host lacks Docker's command-line client")
        files = client or self.client
        return subprocess.run(
            [
                found, "--tlsverify", "--tlscacert", files / "ca.pem", "--tlscert",
                files / "cert.pem", "--tlskey", files / "key.pem", "--host",
                f"tcp://{name or '127.0.0.1'}:{self.port}", *words,
            ],
            env=self.engine.env, input=data, capture_output=True, timeout=60, check=False,
        )  # fmt: skip

    def docker_started(self, *words: str, client: Path) -> subprocess.Popen[bytes]:
        """Docker's client, running."""
        return subprocess.Popen(
            [
                "docker", "--tlsverify", "--tlscacert", client / "ca.pem", "--tlscert",
                client / "cert.pem", "--tlskey", client / "key.pem", "--host",
                f"tcp://127.0.0.1:{self.port}", *words,
            ],
            env=self.engine.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def connections(self, name: str) -> int:
        """How many streams the daemon's log tells that a client has asked for."""
        text = self.engine.log.read_text()
        return sum(
            f"by certificate {name}" in line and _is_stream(line) for line in text.splitlines()
        )


def _is_stream(line: str) -> bool:
    return any(word in line for word in ("/events", "/logs", "/start"))


def certificates(engine: Engine) -> Path:
    """Where the daemon looks for its files."""
    return engine.root / "c/rootless/tls"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """An engine on a port of loopback, for every address of it."""
    port = free_port()
    client = pki.write(tmp_path_factory.mktemp("c") / "alice", CA, pki.signed(CA, "alice"))
    with new_engine(start=False) as engine:
        pki.write(certificates(engine), CA, pki.signed(CA, "server", server=True))
        engine.start(
            "-D", "--tlsverify", "-H", f"tcp://[::]:{port}", f"--host=unix://{engine.socket}"
        )
        # The processes of its bridges are there from now on: another engine's are told from them.
        engine.ok("run", "--rm", IMAGE, "true")
        yield Remote(engine, port, client)


@pytest.mark.parametrize("name", ["127.0.0.1", "[::1]", "localhost"])
def test_dockers_client_works_over_tls(remote: Remote, name: str) -> None:
    done = remote.docker("version", "--format", "{{.Server.APIVersion}}", name=name)
    assert done.stdout == b"1.51\n", done.stderr


def test_containers_run_with_input_output_and_exit_status(remote: Remote) -> None:
    """The client ends its input and reads on: each half of the stream ends by itself."""
    lines = b"".join(b"line %d\n" % number for number in range(50_000))
    script = "cat; sleep 0.3; echo end; echo oops >&2; exit 3"
    done = remote.docker("run", "--rm", "-i", IMAGE, "sh", "-c", script, data=lines)
    assert done.returncode == 3
    assert done.stdout == lines + b"end\n"
    assert done.stderr == b"oops\n"


def test_archives_and_streams_pass(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 20_000)
    made = remote.docker("create", "--name", "box", IMAGE, "sleep", "60").stdout.decode().strip()
    try:
        assert remote.docker("cp", str(tmp_path / "file"), "box:/tmp/file").returncode == 0
        assert remote.docker("start", "box").returncode == 0
        counted = remote.docker("exec", "box", "wc", "-c", "/tmp/file").stdout
        assert counted.split()[0] == b"5120000"
        assert remote.docker("cp", "box:/tmp/file", str(tmp_path / "back")).returncode == 0
        assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
        seen = remote.docker("events", "--since", "1m", "--until", "-1s", "--format", "{{.ID}}")
        assert made in seen.stdout.decode()
        image = remote.docker("save", IMAGE).stdout
        assert b"Loaded image" in remote.docker("load", data=image).stdout
    finally:
        remote.docker("rm", "-f", "box")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_docker_py_works_over_tls(remote: Remote) -> None:
    files = remote.client
    tls = docker.tls.TLSConfig(
        client_cert=(str(files / "cert.pem"), str(files / "key.pem")),
        ca_cert=str(files / "ca.pem"),
        verify=True,
    )
    url = f"tcp://localhost:{remote.port}"
    with closing(docker.DockerClient(base_url=url, version="auto", tls=tls, timeout=60)) as client:
        assert client.containers.run(IMAGE, ["echo", "out"], remove=True) == b"out\n"
        box = client.containers.run(IMAGE, ["sleep", "600"], detach=True, init=True)
        try:
            assert box.exec_run(["cat", "/proc/1/comm"]).exit_code == 0
            assert box.put_archive("/tmp", tar({"file": b"content"}))
            _, output = box.exec_run(["cat", "/tmp/file"], stream=True)
            assert b"".join(output) == b"content"
        finally:
            box.remove(force=True)
    # The streams of docker-py leave their sockets to the collector, which warns of each: here.
    del client, box, output
    gc.collect()


@pytest.mark.parametrize(
    "pair",
    [
        pki.signed(pki.authority("Other CA"), "mallory"),
        pki.signed(CA, "late", begins=-9, days=-1),
        pki.signed(CA, "server", server=True),
    ],
    ids=["another authority", "expired", "not for clients"],
)
def test_others_are_refused(remote: Remote, tmp_path: Path, pair: pki.Pair) -> None:
    done = remote.docker("info", client=pki.write(tmp_path / "other", CA, pair))
    assert b"tls: " in done.stdout + done.stderr
    assert done.returncode != 0


def test_the_policy_knows_the_caller_by_certificate(remote: Remote, tmp_path: Path) -> None:
    """What the caller may is what the local user may: the policy denies the same."""
    client = pki.write(tmp_path / "ci", CA, pki.signed(CA, "x", uris=(SPIFFE,)))
    denied = remote.docker("run", "--rm", "--privileged", IMAGE, "true", client=client)
    assert b"denied by policy" in denied.stderr
    log = remote.engine.log.read_text()
    assert f"/containers/create by certificate {SPIFFE}" in log
    made = remote.docker("create", IMAGE, client=client).stdout.decode().strip()
    remote.docker("rm", made)


def test_new_certificates_are_taken_without_a_restart(remote: Remote, tmp_path: Path) -> None:
    other = pki.authority("Second CA")
    client = pki.write(tmp_path / "second", CA, pki.signed(other, "bob"))
    assert remote.docker("info", client=client).returncode != 0
    authorities = certificates(remote.engine) / "ca.pem"
    lists = certificates(remote.engine) / "crl.pem"
    try:
        authorities.write_bytes(CA.pem + other.pem)
        assert remote.docker("info", client=client).returncode != 0, "no list says it is good"
        lists.write_bytes(pki.revocations(CA) + pki.revocations(other))
        assert remote.docker("info", client=client).returncode == 0
        assert remote.docker("info").returncode == 0
        authorities.write_bytes(other.pem)
        assert remote.docker("info").returncode != 0
        authorities.write_bytes(b"rubbish")
        assert remote.docker("info", client=client).returncode == 0, "the former stay in force"
        assert "the former TLS certificates stay in force" in remote.engine.log.read_text()
    finally:
        authorities.write_bytes(CA.pem)
        lists.write_bytes(pki.revocations(CA))
    assert remote.docker("info").returncode == 0


def test_a_revocation_ends_open_streams_and_lets_nobody_in(remote: Remote, tmp_path: Path) -> None:
    pairs = {name: pki.signed(CA, name) for name in ("mallory", "bob")}
    clients = {name: pki.write(tmp_path / name, CA, pair) for name, pair in pairs.items()}
    lists = certificates(remote.engine) / "crl.pem"
    run = ("run", "-d", IMAGE, "sleep", "1000")
    made = {  # nobody sees another's
        name: remote.docker(*run, client=client).stdout.decode().strip()
        for name, client in clients.items()
    }
    streams = {
        name: [
            remote.docker_started(*words, client=client)
            for words in (
                ("events",),
                ("logs", "-f", made[name]),
                ("exec", made[name], "sleep", "900"),
            )
        ]
        for name, client in clients.items()
    }
    try:
        for name in clients:  # each is there, and its streams are
            wait_for("streams", lambda name=name: remote.connections(name) >= len(streams[name]))
        lists.write_bytes(pki.revocations(CA, pairs["mallory"]))
        for process in streams["mallory"]:
            process.wait(30)
        done = remote.docker("info", client=clients["mallory"])
        assert done.returncode != 0
        assert b"revoked certificate" in done.stderr + done.stdout
        assert all(process.poll() is None for process in streams["bob"])
        assert remote.docker("info", client=clients["bob"]).returncode == 0
    finally:
        for process in (one for several in streams.values() for one in several):
            process.kill()
            process.wait()
        lists.write_bytes(pki.revocations(CA))
        for name, client in clients.items():
            remote.docker("rm", "-f", made[name], client=client)


def start(engine: Engine, *words: str) -> str:
    """What a daemon says that must not start; nothing of it may be left."""
    done = subprocess.run(
        [*program("rootlessd"), *words], env=engine.env, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    left = [path.name for path in (engine.root / "r/rootless").glob("*")]
    assert not left, left
    return done.stderr


def test_a_daemon_with_wrong_files_does_not_start() -> None:
    with new_engine(start=False) as engine:
        host = ("--tlsverify", "-H", f"tcp://127.0.0.1:{free_port()}")
        directory = certificates(engine)
        assert f"cannot read tlscacert {directory}/ca.pem" in start(engine, *host)
        pki.write(directory, CA, pki.signed(CA, "server", server=True))
        (directory / "key.pem").chmod(0o644)
        assert "key.pem has mode 0644, which lets others at the key (hint: chmod 600" in (
            start(engine, *host)
        )
        assert "TCP is served with mutual TLS only" in start(engine, *host[1:])
        assert start(engine, *host, "--validate").startswith("rootlessd: tlskey: ")
        (directory / "key.pem").chmod(0o600)
        done = subprocess.run(
            [*program("rootlessd"), *host, "--validate"], env=engine.env, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "configuration OK\n")


def test_the_key_cannot_be_mounted_into_a_container(tmp_path: Path) -> None:
    with new_engine(start=False) as engine:
        keys = pki.write(engine.root / "k/tls", CA, pki.signed(CA, "server", server=True))
        engine.configure(
            tlsverify=True, hosts=[f"unix://{engine.socket}"], tlscacert=str(keys / "ca.pem"),
            tlscert=str(keys / "cert.pem"), tlskey=str(keys / "key.pem"),
        )  # fmt: skip
        engine.start()
        denied = engine.run("run", "--rm", "-v", f"{keys}:/tls:ro", IMAGE, "ls", "/tls")
        assert "the engine's key" in denied.stderr
        assert json.loads(engine.ok("info", "-f", "{{json .ID}}"))
