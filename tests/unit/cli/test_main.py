"""The entry point: one line per error, the right status, and a light start."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rootless.cli import main as entry
from rootless.cli.exits import exit_status
from rootless.cli.nearest import nearest
from rootless.cli.pulling import split_target
from rootless.cli.registry import GROUPS, TOP
from rootless.cli.usage import command_help
from rootless.client import lightos
from rootless.client.http import ApiError
from rootless.errors import RootlessError
from tests.unit.client.server import reply, serving

ROOT = Path(entry.__file__).parents[2]


@pytest.fixture(autouse=True)
def _allow_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROOTLESS_ALLOW_ROOT", "1")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("ROOTLESS_HOST", raising=False)


_HEAVY = set(
    "argparse asyncio click dataclasses difflib email enum http http.client inspect "
    "json logging os re rich socket ssl subprocess tempfile threading typing urllib "
    "urllib.parse signal".split()
)


@pytest.mark.parametrize("words", [["run", "--rm", "-e", "A=1", "-v", "/x", "img"], ["version"]])
def test_the_fast_commands_import_nothing_heavy(words: list[str]) -> None:
    """What costs milliseconds stays out of the way of a run (against a socket that fails)."""
    program = (
        "import sys\nbefore = set(sys.modules)\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from rootless.cli.main import run\n"
        f"status = run({['-H', 'unix:///nonexistent/s', *words]!r})\n"
        "print(status, *sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env={"ROOTLESS_ALLOW_ROOT": "1"},
    )
    status, *modules = done.stdout.splitlines()[-1].split()
    assert status in ("125", "1")
    assert "rootless.client.http" in modules
    assert not _HEAVY & set(modules)


def test_every_command_loads_and_has_a_manual() -> None:
    for name, item in TOP.items():
        _check_manual(name, item)
    for group, found in GROUPS.items():
        for verb, item in found.commands.items():
            _check_manual(f"{group} {verb}", item)


def _check_manual(path: str, item: tuple[str, str, str]) -> None:
    command = entry.load(path, item)
    text = command_help(command)
    assert text.startswith("Usage:  rootless ")
    assert "Exit status:" in text
    names = [flag[0] for flag in command.flags]
    letters = [flag[1] for flag in command.flags if flag[1]]
    assert len(names) == len(set(names)), path
    assert len(letters) == len(set(letters)), path
    assert all(f"--{name}" in text for name in names), path


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nope"], 1, "unknown command: rootless nope"),
        (["rnu"], 1, "did you mean 'run'?"),
        (
            ["volume", "nope"],
            1,
            "rootless volume nope\nhint: See 'rootless volume --",
        ),
        (["build", "."], 1, "does not build images yet"),
        (["image", "build", "."], 1, "podman save NAME | rootless load"),
        (["compose", "up"], 1, "no command 'rootless compose'"),
        (["network", "create"], 1, "'rootless network create' requires"),
        (["network", "create", "--gateway", "10.0.0.1", "x"], 125, "no matching subnet"),
        (["exec", "c"], 1, "'rootless exec' requires at least 2 arguments"),
        (["volume", "two\nlines"], 1, "volume two\\nlines\n"),
        (["run"], 1, "'rootless run' requires at least 1 argument"),
        (["rm"], 1, "'rootless rm' requires at least 1 argument"),
        (["tag", "a"], 1, "'rootless tag' requires 2 arguments"),
        (["info", "x"], 1, "'rootless info' accepts no arguments"),
        (["run", "--nope", "x"], 125, "See 'rootless run --help'."),
        (["ps", "--nope"], 125, "unknown flag: --nope"),
        (["--nope", "ps"], 125, "unknown flag: --nope"),
        (["-H"], 125, "flag needs an argument: -H"),
        (["-H", "npipe://x", "ps"], 1, "only unix://"),
        (["-H", "tcp://x", "ps"], 1, "without TLS"),
        (["-H", "ssh://-oProxyCommand=x", "ps"], 1, "invalid host"),
        (["-H", "ssh://a:b@c", "ps"], 1, "it may name a user, nothing else"),
        (["-H", "tcp://x", "-c", "y", "ps"], 1, "cannot specify both --host and --context"),
        (["-c", "nosuch", "ps"], 1, 'context "nosuch": context not found'),
        (["--tlsverify=maybe", "ps"], 125, "not a boolean"),
        (["--tlscacert"], 125, "flag needs an argument: --tlscacert"),
        (["-H", "unix:///nonexistent/s", "ps"], 1, "is it running?"),
        (["-H", "unix:///nonexistent/s", "run", "x"], 125, "is it running?"),
        (["run", "--pull", "often", "x"], 125, "invalid pull option"),
        (["run", "--detach-keys", "nope", "x"], 125, "unknown detach key"),
        (["attach", "--detach-keys", "x,y,zz", "c"], 125, "unknown detach key"),
        (["cp", "a", "b"], 1, "at least one container"),
        (["cp", "a:b", "c:d"], 1, "between containers"),
        (["start", "-a", "x", "y"], 1, "multiple containers"),
        (["update", "x"], 1, "one or more flags"),
        (["tag", "a", "b:c:d"], 1, "invalid reference format: 'b:c:d'"),
        (["tag", "a", "b:"], 1, "invalid reference format: 'b:'"),
        (["commit", "a", "b:c:d"], 1, "invalid reference format: 'b:c:d'"),
        (["import", "x.tar", ":c"], 1, "invalid reference format: ':c'"),
        (["pull", "b:c d"], 1, "invalid reference format: 'b:c d'"),
        (["save", "--platform", "a/b/c/d", "x"], 125, "invalid platform 'a/b/c/d'"),
        (["load", "--platform", "linux/"], 125, "invalid platform 'linux/'"),
        (["volume", "create", "--label", "=x"], 125, "invalid label '=x'"),
        (["system", "prune", "-f", "--volumes", "--filter", "until=1h"], 1, "not supported with"),
        (["system", "service", "paint"], 1, "unknown action: paint"),
    ],
)
def test_wrong_input(
    words: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(words) == status
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("rootless: ")
    assert "Traceback" not in error


@pytest.mark.parametrize("words", [["bogus"], ["run", "--bogus", "x"], ["volume", "x"], ["q"]])
def test_no_suggestion_is_better_than_a_wrong_one(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.run(words) != 0
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("app", ("app", "")),
        ("app:1.2-x_Y", ("app", "1.2-x_Y")),
        ("localhost:5000/app", ("localhost:5000/app", "")),
        ("localhost:5000/app:v1", ("localhost:5000/app", "v1")),
    ],
)
def test_names_are_taken_apart(text: str, parts: tuple[str, str]) -> None:
    assert split_target(text) == parts


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("isnpect", "inspect"),
        ("stat", "stats"),
        ("exce", "exec"),
        ("contai", "container"),
        ("pss", "ps"),
        ("lgos", "logs"),
    ],
)
def test_a_slip_of_the_keys_is_understood(word: str, meant: str) -> None:
    assert nearest(word, [*TOP, *GROUPS]) == meant


def _ended(words: list[str], stdout: int, tmp_path: Path) -> tuple[int, str]:
    """The end of a real process of ours whose standard output is ``stdout``."""
    done = subprocess.run(
        [sys.executable, "-c", "from rootless.cli.main import main; main()", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        cwd=ROOT,
        env={"XDG_STATE_HOME": str(tmp_path)},
    )
    return done.returncode, done.stderr


def test_a_reader_that_left_ends_us_by_its_signal(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert _ended(["--version"], writing, tmp_path) == (-signal.SIGPIPE, "")
    finally:
        os.close(writing)


@pytest.mark.parametrize("words", [["--version"], ["help", "run"], ["nope"]])
@pytest.mark.parametrize("closed", [{0}, {1}, {2}, {0, 1, 2}])
def test_closed_descriptors_are_no_defect(
    words: list[str], closed: set[int], tmp_path: Path
) -> None:
    """What is opened later (the daemon's socket) never becomes descriptor 0, 1 or 2."""
    shell = " ".join(f"{fd}>&-" for fd in closed)
    program = "from rootless.cli.main import main; main()"
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" -c "$1" {" ".join(words)} {shell}', sys.executable, program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"XDG_STATE_HOME": str(tmp_path)},
    )
    wrong = words == ["nope"] or 1 in closed
    assert done.returncode == (1 if wrong else 0)
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == (wrong and 2 not in closed)
    if 1 in closed and words != ["nope"] and done.stderr:
        assert done.stderr.endswith("Bad file descriptor\n")
    assert not list(tmp_path.iterdir())


def test_a_working_directory_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert entry.run(["-H", "unix:///nonexistent/s", "run", "-v", "./x:/x", "img"]) == 1
    finally:
        os.chdir(tmp_path)
    assert capsys.readouterr().err == (
        "rootless: the working directory: No such file or directory\n"
    )


def test_login_wants_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert entry.run(["login", "-u", "me", "--password-stdin", "r.example"]) == 1
    assert capsys.readouterr().err == "rootless: no password came on stdin\n"


def test_an_argument_that_is_no_text_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda peer, _: peer.sendall(reply("{}", "201 Created"))) as path:
        words = ["-H", path, "run", "-e", "A=caf\udce9", "-l", "smile=\U0001f600", "img"]
        assert entry.run(words) == 125
    assert capsys.readouterr().err == (
        "rootless: not UTF-8: 'A=caf\\xe9'\nhint: the daemon's API takes text only\n"
    )


def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        status, error = _ended(["--version"], full, tmp_path)
    finally:
        os.close(full)
    assert status == 1
    assert error == "rootless: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["help"], ["run", "--help"], ["help", "ps"], ["volume"], ["volume", "--help"]],
)
def test_help_goes_to_standard_output(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(words) == 0
    out, error = capsys.readouterr()
    assert out.startswith("Usage:  rootless")
    assert not error


def test_root_is_refused_and_may_be_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ROOTLESS_ALLOW_ROOT")
    monkeypatch.setattr(lightos, "geteuid", lambda: 0)
    words = ["-H", "unix:///nonexistent/s", "ps"]
    assert entry.run(words) == 1
    assert "refusing to run as root" in capsys.readouterr().err
    assert entry.run(["--allow-root", *words]) == 1
    assert "is it running?" in capsys.readouterr().err
    assert entry.run(["--version"]) == 0


def test_a_defect_is_one_line_and_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(words: list[str]) -> int:
        raise KeyError("lost")

    monkeypatch.setattr(entry, "_dispatch", broken)
    assert entry.run(["ps"]) == 125
    error = capsys.readouterr().err
    assert error.splitlines()[0] == "rootless: internal error: KeyError: 'lost'"
    log = tmp_path / "rootless" / "rootless-cli.log"
    assert str(log) in error
    assert "Traceback" in log.read_text()


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_dispatch", interrupted)
    assert entry.run(["ps"]) == 130


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (
            'unable to start container process: exec: "nope": executable file not found in $PATH',
            127,
        ),
        ('unable to start container process: exec: "/etc": permission denied', 126),
        ("the policy denied it", 125),
    ],
)
def test_failures_to_start_have_dockers_status(
    message: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        if b"/create" in request:
            peer.sendall(reply('{"Id": "%s", "Warnings": ["w"]}' % ("a" * 64), "201 Created"))
        else:
            text = message.replace('"', '\\"')
            peer.sendall(reply(f'{{"message": "{text}"}}', "400 Bad Request"))

    with serving(handler) as path:
        assert entry.run(["-H", path, "run", "-d", "img"]) == status
    error = capsys.readouterr().err
    assert "WARNING: w" in error
    assert f"rootless: {message}" in error


def test_a_missing_image_is_pulled_once(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def handler(peer: socket.socket, request: bytes) -> None:
        line = request.split(b"\r\n", 1)[0].decode()
        seen.append(line.split()[1].partition("?")[0].removeprefix("/v1.51"))
        if "/containers/create" in line:
            if seen.count("/containers/create") == 1:
                peer.sendall(reply('{"message": "No such image: i:latest"}', "404 Not Found"))
            else:
                peer.sendall(reply('{"Id": "abc"}', "201 Created"))
        elif "/images/create" in line:
            assert "fromImage=i&tag=latest" in line
            peer.sendall(reply('{"status": "Pulling fs layer", "id": "1"}\n{"status": "done"}'))
        else:
            peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with serving(handler) as path:
        assert entry.run(["-H", path, "run", "-d", "i"]) == 0
        assert entry.run(["-H", path, "run", "-d", "--pull", "never", "i"]) == 0
    out, error = capsys.readouterr()
    assert out == "abc\nabc\n"
    assert "Unable to find image 'i:latest' locally\n1: Pulling fs layer\ndone\n" in error
    assert seen[:4] == [
        "/containers/create",
        "/images/create",
        "/containers/create",
        "/containers/abc/start",
    ]


def test_a_failed_pull_is_125(capsys: pytest.CaptureFixture[str]) -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        if b"/containers/create" in request:
            peer.sendall(reply('{"message": "No such image: i:latest"}', "404 Not Found"))
        else:
            peer.sendall(reply('{"errorDetail": {"message": "no route"}, "error": "no route"}'))

    with serving(handler) as path:
        assert entry.run(["-H", path, "run", "i"]) == 125
    assert "rootless: no route" in capsys.readouterr().err


def test_a_cidfile_is_written_and_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cidfile = tmp_path / "cid"

    def handler(peer: socket.socket, request: bytes) -> None:
        if b"name=bad" in request:
            peer.sendall(reply('{"message": "no"}', "400 Bad Request"))
        else:
            peer.sendall(reply('{"Id": "abc"}', "201 Created"))

    with serving(handler) as path:
        words = ["-H", path, "create", "--cidfile", str(cidfile)]
        assert entry.run([*words, "--name", "bad", "img"]) == 1
        assert not cidfile.exists()
        assert entry.run([*words, "img"]) == 0
        assert cidfile.read_text() == "abc"
        assert entry.run([*words, "img"]) == 125
    assert "container ID file found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ('exec: "/x": stat /x: no such file or directory', 127),
        ('exec: "/x": permission denied', 126),
        ('exec: "/x": exec format error', 126),
        ('exec: "/x": argument list too long', 126),
        ("write(/proc/9/uid_map): Permission denied [EACCES]", 125),
    ],
)
def test_only_the_command_itself_is_126_or_127(reason: str, status: int) -> None:
    text = f"unable to start container process: {reason}"
    assert exit_status(ApiError(400, text)) == status
    assert exit_status(RootlessError(text)) == 125


def test_one_failure_does_not_stop_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    def handler(peer: socket.socket, request: bytes) -> None:
        if b"/b?" in request or b"/b/" in request:
            peer.sendall(reply('{"message": "No such container: b"}', "404 Not Found"))
        else:
            peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with serving(handler) as path:
        assert entry.run(["-H", path, "stop", "a", "b", "c"]) == 1
        assert entry.run(["-H", path, "rm", "-f", "b"]) == 0
    out, error = capsys.readouterr()
    assert out == "a\nc\n"
    assert error.count("rootless: No such container: b") == 2
