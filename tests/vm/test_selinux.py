"""Labels under an enforcing policy: what they deny, and that it is they who deny it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rootless.linux import selinux
from tests.support.engine import SECONDS, Engine

IMAGE = "rootless/busybox"
RUN = ("run", "--network", "none")
PLAIN = ("--security-opt", "label=disable")
_AT_SECURE = 23


def _inspect(engine: Engine, ident: str) -> dict[str, Any]:
    (found,) = json.loads(engine.ok("inspect", ident))
    assert isinstance(found, dict)
    return found


def _label_of(path: Path) -> str:
    return os.getxattr(path, selinux.ATTRIBUTE).rstrip(b"\0").decode()


@contextmanager
def _running(engine: Engine, *options: str, script: str = "") -> Iterator[str]:
    ident = engine.ok(*RUN, "-d", *options, IMAGE, "sh", "-c", f"{script} exec sleep 9000")
    try:
        yield ident
    finally:
        engine.ok("rm", "-f", ident)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory in the user's home with a file that everybody might read."""
    path = Path.home() / "mine"
    path.mkdir()
    path.chmod(0o777)
    (path / "secret").write_text("secret\n")
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.mark.short
def test_the_home_is_denied_until_it_is_labelled(engine: Engine, home: Path) -> None:
    read = ("-v", f"{home}:/d", IMAGE, "cat", "/d/secret")
    done = engine.run(*RUN, "--rm", *read)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Permission denied" in done.stderr
    told = engine.ok("audit", "selinux")
    assert " cat: read of file secret (unconfined_u:object_r:user_home_t:s0): DENIED" in told
    assert engine.ok(*RUN, "--rm", *PLAIN, *read) == "secret"
    assert engine.ok(*RUN, "--rm", "-v", f"{home}:/d:z", IMAGE, "cat", "/d/secret") == "secret"
    assert engine.ok(*RUN, "--rm", *read) == "secret", "z labels it for every container"
    assert selinux.type_of(_label_of(home / "secret")) == "container_file_t"


def test_one_container_cannot_read_the_files_of_another(engine: Engine, home: Path) -> None:
    with _running(engine, "-v", f"{home}:/d:Z", script="echo mine >/d/new;") as ident:
        assert engine.ok("exec", ident, "cat", "/d/secret", "/d/new").split() == ["secret", "mine"]
        read = ("-v", f"{home}:/d", IMAGE, "cat", "/d/new")
        done = engine.run(*RUN, "--rm", *read)
        assert (done.returncode, done.stdout) == (1, "")
        assert engine.ok(*RUN, "--rm", *PLAIN, *read) == "mine"
        level = selinux.level_of(_inspect(engine, ident)["ProcessLabel"])
        same = ("--security-opt", f"label=level:{level}")
        assert engine.ok(*RUN, "--rm", *same, *read) == "mine"


def test_every_container_has_a_pair_of_its_own_that_outlives_the_daemon(engine: Engine) -> None:
    with _running(engine, script="touch /made;") as first, _running(engine) as second:
        labels = {ident: _inspect(engine, ident)["ProcessLabel"] for ident in (first, second)}
        assert len(set(labels.values())) == 2
        engine.kill()
        engine.start()
        with _running(engine) as third:
            for ident in (first, second, third):
                label = _inspect(engine, ident)["ProcessLabel"]
                assert labels.setdefault(ident, label) == label
                assert selinux.type_of(label) == "container_t"
                for told in (
                    engine.ok("exec", ident, "cat", "/proc/1/attr/current"),
                    engine.ok("exec", ident, "cat", "/proc/self/attr/current"),
                ):
                    assert told.rstrip("\0\n") == label
                assert engine.ok("check-policy", "--running", ident)
            assert len(set(labels.values())) == 3
        found = _inspect(engine, first)
        made = Path(found["GraphDriver"]["Data"]["UpperDir"]) / "made"
        assert _label_of(made) == found["MountLabel"]
        assert selinux.level_of(found["MountLabel"]) == selinux.level_of(labels[first])
        assert selinux.type_of(found["MountLabel"]) == "container_file_t"


def _as(label: str, program: Path, script: str) -> int:
    """The exit status of a shell that this very user runs with ``label`` ('' for its own)."""
    done = subprocess.run(
        [program, "sh", "-c", script],
        preexec_fn=(lambda: selinux.set_exec_label(label)) if label else None,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    return done.returncode


def test_the_label_keeps_from_the_engines_state_whatever_the_user(
    engine: Engine, home: Path
) -> None:
    with _running(engine) as ident:
        found = _inspect(engine, ident)
        program = home / "busybox"
        shutil.copy("/bin/busybox", program)
        fd = os.open(program, os.O_PATH)
        selinux.label_file(fd, found["MountLabel"], str(program))
        os.close(fd)
        label = found["ProcessLabel"]
        assert _as(label, program, "true") == 0
        for place in (engine.data / "state.db", engine.data / "containers" / ident / "shim.json"):
            assert _as("", program, f": >>{place}") == 0
            assert _as(label, program, f": >>{place}") != 0
            assert _as(label, program, f"cat {place}") != 0


def test_a_labelled_container_lacks_nothing(engine: Engine) -> None:
    script = (
        "set -e; echo a >/dev/shm/a; echo b >/tmp/b; echo c >/c; cat /dev/shm/a /tmp/b /c; "
        "touch /dev/mqueue/q; ls /dev/mqueue; cat /etc/hostname >/dev/null; "
        "head -c 4 /dev/urandom >/dev/null; : </dev/null; ulimit -n; echo $LD_LIBRARY_PATH"
    )
    told = engine.ok(
        *RUN, "--rm", "--init", "--tmpfs", "/tmp", "--ulimit", "nofile=700:800", "-e",
        "LD_LIBRARY_PATH=/lib/own", "-v", "vmdata:/v", IMAGE, "sh", "-c", f"{script}; echo v >/v/v",
    )  # fmt: skip
    try:
        assert told.split() == ["a", "b", "c", "q", "700", "/lib/own"]
        told = engine.ok(*RUN, "--rm", "-v", "vmdata:/v", IMAGE, "cat", "/v/v")
        assert told == "v", "a volume is for all containers that have it mounted"
    finally:
        engine.ok("volume", "rm", "vmdata")
    told = engine.ok(*RUN, "--rm", "-i", IMAGE, "cat", input="through a pipe")
    assert told == "through a pipe"


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (("--userns", "auto"), "fuse-overlayfs keeps no labels"),
        (("--network", "slirp4netns"), ""),
        (("--mount", f"type=image,source={IMAGE},target=/i"), ""),
        (("--storage-driver", "vfs", "--read-only"), ""),
    ],
)
def test_labels_go_with_everything_else(
    engine: Engine, options: tuple[str, ...], warning: str
) -> None:
    network = () if "--network" in options else ("--network", "none")
    words = ("cat", "/proc/self/attr/current")
    done = engine.run("run", "--rm", *network, *options, IMAGE, *words)
    assert done.returncode == 0, done.stderr
    assert ":container_t:s0:c" in done.stdout
    assert warning in done.stderr
    assert bool(warning) == bool(done.stderr)


def test_a_program_is_not_in_secure_mode_because_of_its_label(engine: Engine) -> None:
    told = engine.ok(*RUN, "--rm", IMAGE, "base64", "/proc/self/auxv")
    vector = base64.b64decode(told)
    pairs = dict(struct.iter_unpack("=QQ", vector))
    assert pairs[_AT_SECURE] == 0, "LD_LIBRARY_PATH and the like would be ignored"


def test_a_labelled_container_ends_with_its_shim(engine: Engine) -> None:
    with _running(engine) as ident:
        state = json.loads((engine.data / "containers" / ident / "shim.json").read_text())
        os.kill(state["shim_pid"], signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while Path(f"/proc/{state['init_pid']}").exists():
            assert time.monotonic() < deadline, "the container goes on without its shim"
            time.sleep(0.5)


def test_a_terminal_works(engine: Engine) -> None:
    with _running(engine, "-t", "-i", script="tty; echo seen >/dev/tty;") as ident:
        told = engine.ok("logs", ident).replace("\r", "").split()
        assert told == ["/dev/pts/0", "seen"] or told == ["/dev/console", "seen"]


@pytest.mark.parametrize("place", ["/usr", "/etc/ssl"])
def test_what_belongs_to_the_system_is_not_relabelled(engine: Engine, place: str) -> None:
    """Nor are homes, which the policy keeps from being mounted here: the engine lives there."""
    before = _label_of(Path(place))
    done = engine.run(*RUN, "--rm", "-v", f"{place}:/d:ro,z", IMAGE, "true")
    assert done.returncode == 125
    assert "relabeling" in done.stderr
    assert _label_of(Path(place)) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("label=type:no_such_t",), "does not know the label"),
        (("label=level:nonsense",), "does not know the label"),
        (("label=colour:red",), "invalid --security-opt"),
    ],
)
def test_a_wrong_label_is_an_error(engine: Engine, options: tuple[str, ...], words: str) -> None:
    given = [word for option in options for word in ("--security-opt", option)]
    done = engine.run(*RUN, "--rm", *given, IMAGE, "true")
    assert done.returncode == 125
    assert words in done.stderr


def test_doctor_tells_of_the_policy(engine: Engine) -> None:
    report = json.loads(engine.run("doctor", "--format", "json").stdout)
    (found,) = (check for check in report["checks"] if check["id"] == "selinux")
    assert found["detail"] == "enforcing, policy default, with container types"
    assert "name=selinux" in json.loads(engine.ok("info", "--format", "{{json .SecurityOptions}}"))
