"""rootless run, exec and attach on a real engine: streams, status, terminal, signals."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, program

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
RUN = ("run", "--rm", "--network", "none")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["/etc"], 126),
        (["no-such-program"], 127),
        (["sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
    ],
)
def test_exit_status(engine: Engine, words: list[str], status: int) -> None:
    done = engine.run(*RUN, IMAGE, *words)
    assert done.returncode == status
    assert not done.stdout
    assert done.stderr.startswith("rootless: ") == (status in (126, 127))
    assert "Traceback" not in done.stderr


def test_a_container_that_is_not_made_is_125_for_run_and_1_for_create(engine: Engine) -> None:
    """Whatever the message: no command ran that could be missing or not executable."""
    unmakeable = ("-v", "/no-such-place/x:/x", IMAGE, "true")
    assert engine.run(*RUN, *unmakeable).returncode == 125
    done = engine.run("create", "--network", "none", *unmakeable)
    assert done.returncode == 1
    assert "mkdir" in done.stderr
    assert engine.run("create", "--nope", IMAGE).returncode == 125


def test_standard_output_and_error_stay_apart(engine: Engine) -> None:
    done = engine.run(*RUN, IMAGE, "sh", "-c", "echo out; echo err >&2; echo out2")
    assert (done.stdout, done.stderr) == ("out\nout2\n", "err\n")


def test_input_is_half_closed_and_output_still_comes(engine: Engine) -> None:
    """``cat`` ends at the end of its input; what follows it is still seen."""
    assert (
        engine.ok(*RUN, "-i", IMAGE, "sh", "-c", "cat; echo after", input="abc\n") == "abc\nafter"
    )


def test_without_i_the_input_is_empty(engine: Engine) -> None:
    assert engine.ok(*RUN, IMAGE, "cat", input="not for it") == ""


def test_no_byte_is_lost_in_either_direction(engine: Engine) -> None:
    """32 MiB of random bytes there and back at once, through one connection."""
    size = 32 << 20
    block = os.urandom(1 << 20)
    client = engine.popen(
        *RUN,
        "-i",
        "--log-driver",
        "none",
        IMAGE,
        "cat",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    sent = hashlib.sha256()

    def feed() -> None:
        for _ in range(size >> 20):
            sent.update(block)
            client.stdin.write(block)  # type: ignore[union-attr]  # popen was asked for a pipe
        client.stdin.close()  # type: ignore[union-attr]  # popen was asked for a pipe

    writer = threading.Thread(target=feed)
    writer.start()
    received = hashlib.sha256()
    while piece := client.stdout.read(1 << 20):
        received.update(piece)
    writer.join()
    client.stdout.close()
    assert client.wait(60) == 0
    assert sent.hexdigest() == received.hexdigest()


def test_a_reader_that_leaves_ends_the_client_by_sigpipe(engine: Engine) -> None:
    client = engine.popen(
        "run", "--name", "pipe", "--network", "none", IMAGE, "yes", stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    assert client.stdout.read(4) == b"y\ny\n"
    client.stdout.close()
    assert client.wait(60) == -signal.SIGPIPE
    engine.ok("rm", "-f", "pipe")


def test_signals_are_proxied(engine: Engine) -> None:
    client = engine.popen(
        *RUN,
        IMAGE,
        "sh",
        "-c",
        "trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.05; done",
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(signal.SIGUSR1)
    assert client.stdout.read() == b"got\n"
    client.stdout.close()
    assert client.wait(60) == 9


def test_without_sig_proxy_the_client_dies_alone(engine: Engine) -> None:
    client = engine.popen(
        "run",
        "--name",
        "alone",
        "--sig-proxy=false",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "echo ready; sleep 1000",
        stdout=subprocess.PIPE,
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(signal.SIGTERM)
    assert client.wait(60) == -signal.SIGTERM
    client.stdout.close()
    assert engine.ok("inspect", "-f", "{{.State.Running}}", "alone") == "true"
    engine.ok("rm", "-f", "alone")


class Terminal:
    """A pseudo-terminal with a ``rootless`` command in it."""

    def __init__(self, engine: Engine, *words: str, rootless: bool = True) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(33, 99)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        command = [*program("rootless"), *words] if rootless else list(words)
        self.client = subprocess.Popen(
            command,
            env=engine.env,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 (no threads here)
        )

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def until(self, text: bytes) -> None:
        """Read on until ``text`` was seen; it is then forgotten with all before it."""
        while text not in self.seen:
            assert select.select([self.master], [], [], 60)[0], self.seen
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen.partition(text)[2]

    def ask_until(self, size: bytes) -> None:
        """Ask ``SCRIPT`` until a new size has arrived, which goes its own way."""
        while size not in self.seen:
            self.type(b"size\r")
            self.until(b"size")
            self.until(b"\r\n")
            while b"\n" not in self.seen:
                self.seen += os.read(self.master, 100)

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.client.poll() is None:
            self.client.kill()
        self.client.wait()
        if self.master >= 0:
            self.hang_up()

    def hang_up(self) -> None:
        """The window is closed: the kernel sends SIGHUP and SIGCONT, every access gives EIO."""
        os.close(self.slave)
        os.close(self.master)
        self.slave = self.master = -1


@pytest.fixture
def shell(engine: Engine) -> Iterator[Terminal]:
    """``run -it sh`` that is ready for input."""
    terminal = Terminal(engine, *RUN, "--name", "shell", "-it", IMAGE, "sh", "-c", SCRIPT)
    try:
        terminal.until(b"READY")
        yield terminal
    finally:
        terminal.close()
        engine.run("rm", "-f", "shell")


SCRIPT = """
echo READY
while read -r line; do
    case "$line" in
    size) stty size ;;
    int) trap 'echo INTERRUPTED' INT; echo ARMED ;;
    exit*) exit "${line#exit }" ;;
    *) echo "<$line>" ;;
    esac
done
"""


def test_the_terminal_is_raw_and_restored(shell: Terminal) -> None:
    assert not shell.restored
    shell.type(b"hello\r")
    shell.until(b"<hello>")
    shell.type(b"exit 5\r")
    assert shell.client.wait(60) == 5
    assert shell.restored


def test_the_size_is_passed_on_and_follows(shell: Terminal) -> None:
    shell.type(b"size\r")
    shell.until(b"33 99")
    shell.resize(44, 88)
    shell.ask_until(b"44 88")
    shell.type(b"exit 0\r")
    assert shell.client.wait(60) == 0


def test_keys_are_signals_inside(shell: Terminal) -> None:
    shell.type(b"int\r")
    shell.until(b"ARMED")
    shell.type(b"\x03")
    shell.until(b"INTERRUPTED")


def test_detach_and_attach_again(engine: Engine, shell: Terminal) -> None:
    shell.type(b"\x10\x11")
    assert shell.client.wait(60) == 0
    assert shell.restored
    assert engine.ok("inspect", "-f", "{{.State.Running}}", "shell") == "true"
    again = Terminal(engine, "attach", "shell")
    try:
        again.type(b"back\r")
        again.until(b"<back>")
        again.type(b"exit 6\r")
        assert again.client.wait(60) == 6
        assert again.restored
    finally:
        again.close()


JOB_CONTROL = """
set -m
"$@"
echo STOPPED
read -r line
fg
echo "ENDED $?"
"""


@pytest.mark.parametrize("words", [["attach", "shell"], ["exec", "-it", "shell", "sh"], None])
def test_a_terminal_that_goes_away_is_no_defect(
    engine: Engine, shell: Terminal, words: list[str] | None
) -> None:
    other = Terminal(engine, *words) if words else shell
    try:
        if words:
            other.type(b"echo A$((1))B\n")
            other.until(b"A1B" if words[0] == "exec" else b"<echo")
        other.hang_up()
        status = other.client.wait(60)
    finally:
        other.close()
    assert not (Path(engine.env["XDG_STATE_HOME"]) / "rootless/rootless-cli.log").exists()
    assert status != 125


def test_a_stop_gives_the_terminal_back_for_the_time(engine: Engine) -> None:
    """Below a shell with job control: SIGTSTP really stops, fg makes the terminal raw again."""
    words = (*program("rootless"), *RUN, "--name", "job", "-it", IMAGE, "sh", "-c", SCRIPT)
    terminal = Terminal(engine, "sh", "-c", JOB_CONTROL, "sh", *words, rootless=False)
    try:
        terminal.until(b"READY")
        shell = terminal.client.pid
        client = int(Path(f"/proc/{shell}/task/{shell}/children").read_text())
        os.kill(client, signal.SIGTSTP)
        terminal.until(b"STOPPED")
        assert terminal.restored
        assert Path(f"/proc/{client}/stat").read_text().split()[2] == "T"
        terminal.type(b"go on\r")
        terminal.type(b"awake\r")
        terminal.until(b"<awake>")
        assert not terminal.restored
        terminal.type(b"exit 3\r")
        terminal.until(b"ENDED 3")
        assert terminal.restored
        assert terminal.client.wait(60) == 0
    finally:
        terminal.close()
        engine.run("rm", "-f", "job")


def test_a_stop_that_the_kernel_ignores_leaves_the_terminal_raw(shell: Terminal) -> None:
    """An orphaned process group cannot be stopped by SIGTSTP (setpgid(2))."""
    shell.client.send_signal(signal.SIGTSTP)
    shell.type(b"awake\r")
    shell.until(b"<awake>")
    assert not shell.restored
    shell.type(b"exit 3\r")
    assert shell.client.wait(60) == 3
    assert shell.restored


def test_a_daemon_that_is_killed_leaves_the_terminal_restored(fresh_engine: Engine) -> None:
    terminal = Terminal(
        fresh_engine, "run", "--name", "left", "--network", "none", "-it", IMAGE, "sh", "-c", SCRIPT
    )
    try:
        terminal.until(b"READY")
        fresh_engine.kill()
        assert terminal.client.wait(60) == 125
        assert terminal.restored
        terminal.until(b"lost sight of container")
        fresh_engine.start()
        assert fresh_engine.ok("inspect", "-f", "{{.State.Running}}", "left") == "true"
    finally:
        terminal.close()
        fresh_engine.run("rm", "-f", "left")


def test_t_needs_a_terminal(engine: Engine) -> None:
    done = engine.run(*RUN, "-it", IMAGE, "true")
    assert done.returncode == 1
    assert "the input device is not a TTY" in done.stderr


def test_exec(engine: Engine) -> None:
    engine.ok("run", "-d", "--name", "box", "--network", "none", IMAGE, "sleep", "1000")
    try:
        assert engine.ok("exec", "-i", "box", "cat", input="through") == "through"
        assert engine.run("exec", "box", "sh", "-c", "exit 7").returncode == 7
        assert engine.run("exec", "box", "no-such-program").returncode == 127
        assert engine.ok("exec", "-e", "A=b", "-w", "/tmp", "box", "sh", "-c", "echo $A $PWD") == (
            "b /tmp"
        )
        terminal = Terminal(engine, "exec", "-it", "box", "sh", "-c", SCRIPT)
        try:
            terminal.until(b"READY")
            terminal.type(b"size\r")
            terminal.until(b"33 99")
            terminal.type(b"exit 4\r")
            assert terminal.client.wait(60) == 4
            assert terminal.restored
        finally:
            terminal.close()
    finally:
        engine.ok("rm", "-f", "box")


def test_start_attached(engine: Engine) -> None:
    engine.ok(
        "create", "-i", "--name", "later", "--network", "none", IMAGE, "sh", "-c", "cat; exit 8"
    )
    done = engine.run("start", "-ai", "later", input="in\n")
    assert (done.returncode, done.stdout) == (8, "in\n")
    engine.ok("rm", "later")


def test_seccomp_file_and_dry_run(engine: Engine, tmp_path: Path) -> None:
    text = engine.ok(*RUN, "--dry-run", IMAGE, "true")
    assert text.startswith("Decision: allowed by policy")
    assert "Plan:" in text
    (tmp_path / "bad.json").write_text("{")
    done = engine.run(*RUN, "--security-opt", f"seccomp={tmp_path}/bad.json", IMAGE, "true")
    assert done.returncode == 125
    assert "is not JSON" in done.stderr
