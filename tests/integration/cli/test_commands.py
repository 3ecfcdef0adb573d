"""The other commands on a real engine, and next to Docker's own client."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, new_engine

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"


@pytest.fixture
def box(engine: Engine) -> Iterator[str]:
    """A running container."""
    engine.ok(
        "run", "-d", "--name", "box", "--network", "none", "-l", "a=b", IMAGE, "sleep", "1000"
    )
    yield "box"
    engine.run("rm", "-f", "box")


def test_ps_inspect_and_lifecycle(engine: Engine, box: str) -> None:
    assert engine.ok("ps", "--format", "{{.Names}} {{.Image}} {{.Labels}} {{.State}}") == (
        f"box {IMAGE} a=b running"
    )
    ident = engine.ok("ps", "-q", "--no-trunc", "--filter", "label=a")
    assert engine.ok("inspect", "-f", "{{.Id}} {{.Name}}", box) == f"{ident} /box"
    assert json.loads(engine.ok("inspect", ident[:12]))[0]["Id"] == ident
    assert engine.ok("rename", box, "other") == ""
    assert engine.ok("kill", "-s", "KILL", "other") == "other"
    assert engine.ok("wait", "other") == "137"
    assert engine.ok("ps", "-q") == ""
    assert "Exited (137)" in engine.ok("ps", "-a", "--format", "{{.Status}}")
    assert engine.ok("start", "other") == "other"
    assert engine.run("rm", "other").returncode == 1
    assert engine.ok("rm", "-f", "other") == "other"


def test_logs(engine: Engine) -> None:
    said = ("run", "--name", "said", "--network", "none", IMAGE, "sh", "-c")
    engine.run(*said, "echo one; echo two >&2")
    done = engine.run("logs", "said")
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    engine.ok("rm", "said")
    engine.ok(*said, "echo one; echo two; echo three")
    assert engine.ok("logs", "--tail", "1", "said") == "three"
    line = engine.ok("logs", "-t", "--tail", "1", "said")
    stamp, _, text = line.partition(" ")
    assert text == "three"
    assert stamp.endswith("Z")
    assert engine.ok("logs", "--since", "1h", "--tail", "2", "said") == "two\nthree"
    assert engine.ok("logs", "--until", "1h", "said") == ""
    engine.ok("rm", "said")


def test_logs_follow_to_the_end(engine: Engine) -> None:
    engine.ok(
        "run",
        "-d",
        "-i",
        "--name",
        "talk",
        "--network",
        "none",
        IMAGE,
        "sh",
        "-c",
        "echo first; read x; echo last",
    )
    follower = engine.popen("logs", "-f", "talk", stdout=subprocess.PIPE)
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"first\n"
    attached = engine.popen("attach", "talk", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    attached.communicate(b"go\n")
    assert follower.stdout.read() == b"last\n"
    follower.stdout.close()
    assert follower.wait(60) == 0
    engine.ok("rm", "talk")


def test_copy_in_and_out(engine: Engine, box: str, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "f").write_bytes(b"content" * 10000)
    (source / "link").symlink_to("sub/f")
    engine.ok("cp", str(source), f"{box}:/tmp")
    assert engine.ok("exec", box, "readlink", "/tmp/tree/link") == "sub/f"
    engine.ok("cp", f"{source}/.", f"{box}:/tmp/flat")
    assert engine.ok("exec", box, "ls", "/tmp/flat") == "link\nsub"
    engine.ok("cp", str(source / "sub" / "f"), f"{box}:/tmp/renamed")
    engine.ok("cp", f"{box}:/tmp/renamed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"content" * 10000
    engine.ok("cp", f"{box}:/tmp/tree", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "sub" / "f").read_bytes() == b"content" * 10000
    engine.ok("cp", "-L", f"{box}:/tmp/tree/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_bytes() == b"content" * 10000
    for name in ("flat", "new"):  # what is in the directory, into one that is there or is not
        (tmp_path / "flat").mkdir(exist_ok=True)
        engine.ok("cp", f"{box}:/tmp/tree/.", str(tmp_path / name))
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["link", "sub"]
        assert (tmp_path / name / "sub" / "f").read_bytes() == b"content" * 10000
    done = engine.run("cp", f"{box}:/tmp/tree", str(tmp_path / "back"))
    assert (done.returncode, done.stderr) == (
        1,
        "rootless: cannot copy a directory to the file back\n",
    )
    done = engine.run("cp", f"{box}:/no/such", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("rootless: ")


def test_a_link_made_by_the_container_leads_nowhere(
    engine: Engine, box: str, tmp_path: Path
) -> None:
    """The container plants links; a copy of its tree writes nothing outside."""
    engine.ok("exec", box, "sh", "-c", "mkdir /tmp/t; ln -s / /tmp/t/root; echo x >/tmp/t/f")
    engine.ok("cp", f"{box}:/tmp/t", str(tmp_path))
    assert (tmp_path / "t" / "root").is_symlink()
    assert (tmp_path / "t" / "f").read_text() == "x\n"


def test_images_save_load_tag(engine: Engine, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    engine.ok("tag", IMAGE, "copy:1")
    engine.ok("save", "-o", str(archive), "copy:1")
    assert tarfile.is_tarfile(archive)
    assert [path.name for path in tmp_path.iterdir()] == ["image.tar"]
    assert "Untagged: copy:1" in engine.ok("rmi", "copy:1")
    assert engine.run("inspect", "--type", "image", "copy:1").returncode == 1
    assert "Loaded image: copy:1" in engine.ok("load", "-i", str(archive))
    assert "copy:1" in engine.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "copy").split()
    assert engine.ok("history", "-q", "copy:1")
    engine.ok("rmi", "copy:1")
    done = engine.run("load", input="not an archive")
    assert done.returncode == 1
    assert done.stderr.startswith("rootless: ")


def test_volumes(engine: Engine) -> None:
    assert engine.ok("volume", "create", "--label", "x=y", "data") == "data"
    assert engine.ok("volume", "ls", "-q", "--filter", "label=x=y") == "data"
    engine.ok(
        "run", "--rm", "--network", "none", "-v", "data:/d", IMAGE, "sh", "-c", "echo 1 >/d/f"
    )
    assert (
        engine.ok("run", "--rm", "--network", "none", "-v", "data:/d:ro", IMAGE, "cat", "/d/f")
        == "1"
    )
    assert engine.ok("volume", "rm", "data") == "data"
    assert engine.run("volume", "inspect", "data").returncode == 1


AGE = re.compile(r"Less than a second|1 second|About a minute|\d+ (second|minute)s")
"""Both are asked one after the other, and time goes on."""


@pytest.mark.parametrize(
    "words",
    [
        [
            "ps",
            "-a",
            "--no-trunc",
            "--format",
            "table {{.ID}}\t{{.Names}}\t{{.Command}}\t{{.Labels}}",
        ],
        ["ps", "--format", "{{.Names}}: {{.Image}} {{.Mounts}} {{.Networks}}"],
        ["images", "--digests"],
        ["images", "--format", "json"],
        ["history", IMAGE],
        ["ps", "--format", "json"],
        ["inspect", "box"],
        ["inspect", "-f", "{{json .Config}}{{range .Config.Env}}<{{.}}>{{end}}", "box"],
        ["inspect", "-f", "{{.State.Status | upper}} {{len .Config.Cmd}}", "box"],
        ["volume", "ls"],
        ["network", "ls"],
        ["port", "box"],
        ["diff", "box"],
        ["top", "box", "-o", "pid,args"],
    ],
)
def test_output_is_what_docker_prints(
    engine: Engine,
    box: str,
    docker_cli: Callable[..., subprocess.CompletedProcess[str]],
    words: list[str],
) -> None:
    ours, theirs = engine.ok(*words), docker_cli(*words).stdout.removesuffix("\n")
    if '"Platform":' not in theirs:  # Debian 13's client is older than the field
        ours = ours.replace('"Platform":null,', "")
    assert AGE.sub("some time", ours) == AGE.sub("some time", theirs)


def test_top_shows_the_containers_processes_for_any_columns(engine: Engine, box: str) -> None:
    lines = [line.split() for line in engine.ok("top", box, "-o", "pid,args").splitlines()]
    assert lines[0] == ["PID", "COMMAND"]
    assert [line[1:] for line in lines[1:]] == [["sleep", "1000"]]


@pytest.mark.parametrize("name", ["x", "no/such", "nosuch"])
def test_no_object_has_an_impossible_name(engine: Engine, name: str) -> None:
    done = engine.run("inspect", name)
    assert (done.returncode, done.stderr) == (1, f"rootless: No such object: {name}\n")


def test_a_network_of_its_own_has_ping_and_low_ports(engine: Engine) -> None:
    for userns, groups in (("shared", "0\t65535"), ("auto:size=2000", "0\t1999")):
        said = engine.ok(
            "run", "--rm", "--network", "none", "--userns", userns, "--user", "1000:1000", IMAGE,
            "sh", "-c", "cd /proc/sys/net/ipv4; cat ping_group_range ip_unprivileged_port_start; "
            "nc -l -p 80 </dev/null & "
            "until nc 127.0.0.1 80 </dev/null 2>/dev/null; do kill -0 $! || exit 9; done",
        )  # fmt: skip
        assert said.splitlines() == [groups, "0"]


def test_events(engine: Engine) -> None:
    engine.ok("run", "--rm", "--name", "seen", "--network", "none", IMAGE, "true")
    text = engine.ok(
        "events",
        "--since",
        "1m",
        "--until",
        "0s",
        "--filter",
        "container=seen",
        "--format",
        "{{.Action}}",
    )
    assert text.split()[:2] == ["create", "start"] or "start" in text.split()


def test_info_df_and_version(engine: Engine) -> None:
    assert engine.ok("info", "-f", "{{.OSType}}") == "linux"
    assert engine.ok("system", "df").splitlines()[0].startswith("TYPE ")
    assert engine.ok("version", "-f", "{{.Server.ApiVersion}}") == "1.51"


def test_the_daemon_starts_on_demand() -> None:
    """No daemon runs; four commands at once start exactly one."""
    with new_engine(start=False) as engine:
        clients = [
            engine.popen("version", "-f", "{{.Server.Version}}", stdout=subprocess.PIPE)
            for _ in range(4)
        ]
        outputs = {client.communicate(timeout=90)[0] for client in clients}
        assert [client.returncode for client in clients] == [0] * 4
        assert len(outputs) == 1
        assert (engine.root / "s/rootless/rootlessd.log").exists()
