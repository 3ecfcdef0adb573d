"""Logs that are sent away: to real daemons, and over every kind of socket."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.runtime.shim_client import read_state
from tests.support.engine import Engine, new_engine
from tests.support.processes import until_stalled
from tests.support.sinks import Journal, Rsyslog, journald, listening, rsyslogd, wait_for

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
LONG = 40000


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    with journald(tmp_path_factory.mktemp("j") / "run") as running:
        yield running


@pytest.fixture(scope="module")
def shared_engine(journal: Journal) -> Iterator[Engine]:
    """The engine of this module, which knows where that journald listens."""
    with new_engine(start=False) as engine:
        engine.variables["ROOTLESS_JOURNAL_SOCKET"] = journal.socket
        engine.start()
        yield engine


@pytest.fixture(scope="module")
def rsyslog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rsyslog]:
    with rsyslogd(tmp_path_factory.mktemp("rs") / "d") as running:
        yield running


def _run(engine: Engine, script: str, *options: str) -> str:
    """Run ``script`` to its end; the container's id."""
    command = (IMAGE, "sh", "-c", script)
    ident = engine.ok("run", "-d", "--network", "none", "--name", "logged", *options, *command)
    engine.ok("wait", ident)
    return ident


def test_the_journal_has_dockers_fields(engine: Engine, journal: Journal) -> None:
    ident = _run(
        engine,
        f"echo out; echo err >&2; echo two words; head -c {LONG} /dev/zero | tr '\\0' x; echo; "
        "printf rest",
        *("--log-driver", "journald", "--log-opt", "tag={{.ImageName}}/{{.Name}}"),
        *("--log-opt", "labels=com.example.role", "--log-opt", "env=COLOR,MESSAGE"),
        *("--label", "com.example.role=web server", "--env", "COLOR=blue", "--env", "MESSAGE=no"),
    )
    wait_for("all records", lambda: len(journal.read(ident)) >= 7)
    rows = journal.read(ident)
    assert {r["MESSAGE"] for r in rows if len(r["MESSAGE"]) < 99} >= {"out", "err", "two words"}
    by_text = {row["MESSAGE"]: row for row in rows}
    out = by_text["out"]
    assert out["PRIORITY"] == "6"
    assert by_text["err"]["PRIORITY"] == "3"
    assert out["CONTAINER_ID"] == ident[:12]
    assert out["CONTAINER_NAME"] == "logged"
    assert out["CONTAINER_TAG"] == out["SYSLOG_IDENTIFIER"] == f"{IMAGE}/logged"
    assert out["IMAGE_NAME"] == IMAGE
    assert out["COM_EXAMPLE_ROLE"] == "web server"
    assert out["COLOR"] == "blue"
    assert len({row["CONTAINER_LOG_EPOCH"] for row in rows}) == 1
    ordinals = [int(row["CONTAINER_LOG_ORDINAL"]) for row in rows]
    assert sorted(ordinals) == list(range(1, len(rows) + 1))
    parts = [row for row in rows if "CONTAINER_PARTIAL_ID" in row]
    long, rest = parts[:3], parts[3:]
    assert "".join(part["MESSAGE"] for part in long) == "x" * LONG
    assert [part["CONTAINER_PARTIAL_ORDINAL"] for part in long] == ["1", "2", "3"]
    assert [part["CONTAINER_PARTIAL_LAST"] for part in long] == ["false", "false", "true"]
    assert [part.get("CONTAINER_PARTIAL_MESSAGE") for part in long] == ["true", "true", None]
    assert [part["MESSAGE"] for part in rest] == ["rest"]
    # The same is read from the copy, as there is no asking another user's journal.
    shown = engine.run("logs", "--details", ident)
    assert "COLOR=blue,MESSAGE=no,com.example.role=web+server out\n" in shown.stdout
    assert shown.stderr.endswith(" err\n")
    engine.ok("rm", ident)


def test_bytes_that_are_no_text_reach_the_journal(engine: Engine, journal: Journal) -> None:
    ident = _run(engine, r"printf 'a\377b\001\n' >&2", "--log-driver", "journald")
    rows = wait_for("the record", lambda: journal.read(ident))
    assert bytes(rows[0]["MESSAGE"]) == b"a\xffb\x01"
    engine.ok("rm", ident)


def test_without_a_journal_nothing_starts(engine: Engine) -> None:
    with new_engine(start=False) as other:
        other.variables["ROOTLESS_JOURNAL_SOCKET"] = str(other.root / "absent")
        other.start()
        done = other.run("run", "--rm", "--log-driver", "journald", IMAGE, "true")
        assert done.returncode == 125
        assert "failed to initialize logging driver: journald is not enabled" in done.stderr


@pytest.mark.parametrize("form", ["", "rfc3164", "rfc5424", "rfc5424micro"])
@pytest.mark.parametrize("scheme", ["udp", "tcp", "unixgram"])
def test_rsyslog_understands(engine: Engine, rsyslog: Rsyslog, scheme: str, form: str) -> None:
    tag = f"{scheme}-{form or 'none'}"
    ident = _run(
        engine,
        f"echo {tag} out; echo; echo {tag} err >&2; head -c 20000 /dev/zero | tr '\\0' y; echo",
        *("--log-driver", "syslog", "--log-opt", f"syslog-address={rsyslog.address(scheme)}"),
        *("--log-opt", f"syslog-format={form}", "--log-opt", "syslog-facility=local3"),
        *("--log-opt", f"tag={tag}/{{{{.ID}}}}"),
    )
    want = f"{tag}/{ident[:12]}"

    def mine() -> list[dict[str, str]]:
        return [row for row in rsyslog.rows() if want in row["tag"]]

    rows = wait_for("four messages", lambda: found if len(found := mine()) >= 4 else None)
    by_text = {row["message"].strip(): row for row in rows}
    assert {row["facility"] for row in rows} == {"local3"}
    assert by_text[f"{tag} out"]["severity"] == "info"
    assert by_text[f"{tag} err"]["severity"] == "err"
    assert {len(text) for text in by_text if set(text) == {"y"}} == {16384, 20000 - 16384}
    assert {row["version"] for row in rows} == ({"1"} if "5424" in form else {"0"})
    if "5424" in form:
        assert {row["app"] for row in rows} == {want}
    if form == "rfc5424micro" and scheme != "unixgram":
        assert all(re.search(r"\.\d{6}", row["time"]) for row in rows)
    assert "out\n" in engine.ok("logs", ident)
    engine.ok("rm", ident)


def _tls(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's side with a certificate for 127.0.0.1, and that certificate."""
    directory.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=sink", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(directory / "key"), "-out", str(directory / "cert")),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert", directory / "key")
    return context, directory / "cert"


def test_tls_checks_the_certificate_and_frames_by_length(engine: Engine, tmp_path: Path) -> None:
    """RFC 5425, section 4.3: MSG-LEN SP SYSLOG-MSG."""
    context, certificate = _tls(tmp_path / "tls")
    with listening(context=context) as sink:
        where = (
            "--log-driver",
            "syslog",
            "--log-opt",
            f"syslog-address=tcp+tls://127.0.0.1:{sink.port}",
        )
        refused = engine.run("run", "--rm", *where, IMAGE, "true")
        assert refused.returncode == 125
        assert "certificate verify failed" in refused.stderr
        ident = _run(
            engine, "echo one; echo zwei €",
            *where, "--log-opt", "syslog-format=rfc5424",
            "--log-opt", f"syslog-tls-ca-cert={certificate}",
        )  # fmt: skip
        wait_for("both messages", lambda: sink.data.count(b"\n") == 2)
        rest, texts = bytes(sink.data), []
        while rest:
            length, _, rest = rest.partition(b" ")
            texts.append(rest[: int(length)].decode())
            rest = rest[int(length) :]
        pattern = (
            rf"<30>1 \d{{4}}-\d\d-\d\dT[\d:]{{8}}\S+ \S+ {ident[:12]} \d+ {ident[:12]} - (.*)\n"
        )
        assert [re.fullmatch(pattern, text)[1] for text in texts] == ["one", "zwei €"]  # type: ignore[index]  # None fails the test
        engine.ok("rm", ident)
        ident = _run(engine, "echo unchecked", *where, "--log-opt", "syslog-tls-skip-verify=true")
        wait_for("the message", lambda: sink.data.endswith(b": unchecked\n"))
        engine.ok("rm", ident)


def test_a_stream_socket_and_the_default_tag(engine: Engine, tmp_path: Path) -> None:
    with listening("unix", tmp_path / "s") as sink:
        ident = _run(
            engine, "seq 3", "--log-driver", "syslog",
            "--log-opt", f"syslog-address=unix://{tmp_path}/s",
        )  # fmt: skip
        wait_for("three messages", lambda: sink.data.count(b"\n") == 3)
        pattern = rf"<30>[A-Z][a-z]{{2}} [ \d]\d [\d:]{{8}} {ident[:12]}\[\d+\]: \d"
        lines = sink.data.decode().splitlines()
        assert all(re.fullmatch(pattern, line) for line in lines), lines
        assert [line[-1] for line in lines] == ["1", "2", "3"]
        engine.ok("rm", ident)


def test_nobody_there_is_said_before_anything_runs(engine: Engine, tmp_path: Path) -> None:
    with listening() as sink:
        port = sink.port
    address = f"syslog-address=tcp://127.0.0.1:{port}"
    done = engine.run("run", "--rm", "--log-driver", "syslog", "--log-opt", address, IMAGE, "true")
    assert done.returncode == 125
    assert f"dial tcp 127.0.0.1:{port}: connect: connection refused" in done.stderr
    own = f"syslog-address=unix://{engine.socket}"
    done = engine.run("run", "--rm", "--log-driver", "syslog", "--log-opt", own, IMAGE, "true")
    assert done.returncode == 125
    assert "permission denied" in done.stderr


def test_a_sink_that_comes_back_gets_what_waited(engine: Engine) -> None:
    """Lines written while the server is away arrive when it is back."""
    with listening() as sink:
        port = sink.port
        ident = engine.ok(
            "run", "-di", "--name", "waits", "--log-driver", "syslog",
            "--log-opt", f"syslog-address=tcp://127.0.0.1:{port}", IMAGE,
            "sh", "-c", "while read line; do echo $line; done",
        )  # fmt: skip
        _say(engine, ident, "before")
        wait_for("the first", lambda: b"before" in sink.data)
    _say(engine, ident, "during")
    wait_for("the trouble is said", lambda: "container waits: cannot write the log" in _log(engine))
    with listening(where=port) as sink:
        _say(engine, ident, "after")
        wait_for("the others", lambda: b"during" in sink.data and b"after" in sink.data)
        wait_for(
            "the recovery is said", lambda: "the log is written again; 0 bytes" in _log(engine)
        )
        shown = engine.ok("logs", ident)
        assert shown.split() == ["before", "during", "after"]
        engine.ok("rm", "-f", ident)


def _say(engine: Engine, ident: str, text: str) -> None:
    engine.ok("exec", ident, "sh", "-c", f"echo {text} >/proc/1/fd/1")


def _log(engine: Engine) -> str:
    return engine.log.read_text()


def test_a_slow_sink_makes_the_container_wait(engine: Engine) -> None:
    """Mode blocking: nothing is lost, and the container goes no faster than the sink."""
    count = 1_000_000
    with listening(reads=False) as sink:
        ident = engine.ok(
            "run", "-d", "--log-driver", "syslog",
            "--log-opt", f"syslog-address=tcp://127.0.0.1:{sink.port}", IMAGE,
            "sh", "-c", f"seq {count}",
        )  # fmt: skip
        wait_for("a connection", lambda: sink.connections)
        state = read_state(engine.data / "containers" / ident)
        assert state is not None
        until_stalled(state.shim_pid)
        assert engine.ok("inspect", "--format", "{{.State.Status}}", ident) == "running"
        assert engine.ok("logs", ident).count("\n") < count
        sink.read()
        assert engine.ok("wait", ident) == "0"
        wait_for("all of it", lambda: sink.data.count(b"\n") >= count)
        assert sink.data.count(b"\n") == count
        assert sink.data.endswith(f": {count}\n".encode())
        engine.ok("rm", ident)


def test_non_blocking_loses_rather_than_waits(engine: Engine) -> None:
    with listening(reads=False) as sink:
        ident = engine.ok(
            "run", "-d", "--name", "hasty", "--log-driver", "syslog",
            "--log-opt", f"syslog-address=tcp://127.0.0.1:{sink.port}",
            "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=64k", IMAGE,
            "sh", "-c", "seq 3000000",
        )  # fmt: skip
        assert engine.ok("wait", ident) == "0"
        log = _log(engine)
        assert log.count("container hasty: the log is slower than the output") == 1
        lost = re.search(r"container hasty: the log ends without (\d+) bytes", log)
        assert lost is not None
        assert int(lost[1]) > 1_000_000
        sink.read()
        engine.ok("rm", ident)
