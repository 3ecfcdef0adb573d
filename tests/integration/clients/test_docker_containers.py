"""Docker's own command line over containers: what it prints, its exit codes, its error texts."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clients.commands import ok
from tests.support.api import until
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration

IMAGE = "rootless/busybox"
RUN = ("run", "--rm", "--network", "none")


@pytest.fixture
def box(engine: Engine, docker_cli: DockerCli) -> Iterator[str]:
    """A container that sleeps until it is told to stop."""
    made = docker_cli("run", "-d", "--name", "box", "--init", IMAGE, "sleep", "1000")
    assert made.returncode == 0, made.stderr
    yield made.stdout.strip()
    engine.run("rm", "-f", "-v", "box")


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("exec", "nope", "id"), 1, "Error response from daemon: No such container: nope"),
        (("stop", "nope"), 1, "Error response from daemon: No such container: nope"),
        (("top", "nope"), 1, "No such container: nope"),
        (("port", "nope"), 1, "No such container: nope"),
        (("rm", "nope"), 1, "No such container: nope"),
        (("rm", "-f", "nope"), 0, "No such container: nope"),
        (("inspect", "nope"), 1, "Error: No such object: nope"),
        (("container", "inspect", "nope"), 1, "No such container: nope"),
        (("stats", "--no-stream", "nope"), 1, "No such container: nope"),
        (("cp", "nope:/x", "."), 1, "No such container: nope"),
        (("diff", "nope"), 1, "No such container: nope"),
        (("export", "nope"), 1, "No such container: nope"),
        (("logs", "nope"), 1, "No such container: nope"),
        (("rename", "nope", "y1"), 1, "No such container: nope"),
        (("update", "--restart", "no", "nope"), 1, "No such container: nope"),
        (("wait", "nope"), 1, "No such container: nope"),
        (("commit", "nope", "x"), 1, "No such container: nope"),
        (("ps", "--filter", "foo=bar"), 1, "invalid filter 'foo'"),
        (("ps", "--filter", "status=foo"), 1, "invalid filter 'status=foo'"),
        (("run", IMAGE, "nope"), 127, 'exec: "nope": executable file not found in $PATH'),
        (("run", IMAGE, "/etc"), 126, 'exec: "/etc": permission denied'),
        (("run", "-w", "rel", IMAGE), 125, "the working directory 'rel' is invalid"),
        (("run", "-u", "nobody2", IMAGE), 125, "unable to find user nobody2: no matching entries"),
        (("run", "--cap-add", "FOO", IMAGE), 125, 'invalid capability: "CAP_FOO"'),
        (("run", "--stop-signal", "FOO", IMAGE), 125, "invalid signal: FOO"),
        (("run", "--runtime", "foo", IMAGE), 125, "unknown or invalid runtime name: foo"),
        (("run", "--memory", "1k", IMAGE), 125, "Minimum memory limit allowed is 6MB"),
        (("run", "--cpus", "9999", IMAGE), 125, "range of CPUs is from 0.01 to"),
        (("run", "--log-driver", "foo", IMAGE), 125, "no log driver named 'foo' is registered"),
        (("run", "--log-opt", "foo=1", IMAGE), 125, "unknown log opt 'foo' for json-file"),
        (("run", "--network", "foo", IMAGE), 125, "network foo not found"),
        (("run", "--volumes-from", "nope", IMAGE), 125, "No such container: nope"),
        (("run", "--network", "container:nope", IMAGE), 125, "No such container: nope"),
        (("run", "--pull", "never", "nope:1"), 125, "No such image: nope:1"),
        (("run", "--name", "x", IMAGE), 125, "Invalid container name (x), only [a-zA-Z0-9]"),
        (("run", "-v", "a!b:/x", IMAGE), 125, '"a!b" includes invalid characters for a'),
        (("run", "--mount", "type=bind,src=/nonexistent,dst=/x", IMAGE), 125,
         'invalid mount config for type "bind": bind source path does not exist: /nonexistent'),
        (("run", "--privileged", IMAGE), 125, "denied by policy"),
        (("run", "--userns", "host", IMAGE), 125, "userns mode 'host' is not possible"),
    ],
)  # fmt: skip
def test_errors(
    docker_cli: DockerCli, engine: Engine, words: tuple[str, ...], status: int, said: str
) -> None:
    done = docker_cli(*words)
    assert (done.returncode, said in done.stderr) == (status, True), done.stderr
    assert "Unable to find image 'rootless/busybox" not in done.stderr  # it would pull
    engine.purge()


def test_the_process_is_what_the_flags_say(docker_cli: DockerCli, tmp_path: Path) -> None:
    envfile = tmp_path / "env"
    envfile.write_text("X=1\n# no\n\nABSENT_HERE\n")
    env = ok(docker_cli, *RUN, "-e", "A=b c", "--env-file", str(envfile), "-h", "me", IMAGE, "env")
    assert {"X=1", "A=b c", "HOSTNAME=me", "HOME=/root"} <= set(env.splitlines())
    assert "ABSENT_HERE" not in env
    assert ok(docker_cli, *RUN, "-w", "/new/dir", IMAGE, "pwd") == "/new/dir\n"
    user = ok(docker_cli, *RUN, "-u", "1000:1001", "--group-add", "5000", IMAGE, "id")
    assert user == "uid=1000 gid=1001 groups=5000\n"
    assert ok(docker_cli, *RUN, "--entrypoint", "echo", IMAGE, "hi") == "hi\n"
    assert ok(docker_cli, *RUN, "--entrypoint", "", IMAGE, "echo", "hi") == "hi\n"
    limits = ("--ulimit", "nofile=100:200", "--oom-score-adj", "500", "--shm-size", "1m")
    script = "ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; df -k /dev/shm | tail -1"
    shown = ok(docker_cli, *RUN, *limits, IMAGE, "sh", "-c", script).split()
    assert shown[:3] + shown[4:5] == ["100", "200", "500", "1024"]
    host = (
        "--network",
        "slirp4netns",
        "--add-host",
        "a.example:1.2.3.4",
        "--dns",
        "9.9.9.9",
        "--dns-search",
        "x.example",
    )
    files = ok(docker_cli, "run", "--rm", *host, IMAGE, "cat", "/etc/hosts", "/etc/resolv.conf")
    assert "1.2.3.4\ta.example" in files
    assert "nameserver 9.9.9.9\nsearch x.example" in files
    assert docker_cli(*RUN, "--read-only", IMAGE, "touch", "/x").returncode == 1
    init = ok(docker_cli, *RUN, "--init", IMAGE, "ps")
    assert re.search(r"^ +1 root +\S*init ", init, re.MULTILINE), init


def test_attached_streams_and_exit_status(docker_cli: DockerCli, tmp_path: Path) -> None:
    done = docker_cli(*RUN, IMAGE, "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")
    done = docker_cli(*RUN, "-a", "stdout", IMAGE, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "")
    assert ok(docker_cli, *RUN, "-i", IMAGE, "cat", input="words") == "words"
    cidfile = tmp_path / "cid"
    ok(docker_cli, *RUN, "--cidfile", str(cidfile), IMAGE, "true")
    assert len(cidfile.read_text()) == 64
    done = docker_cli(*RUN, "--cidfile", str(cidfile), IMAGE, "true")
    assert (done.returncode, "container ID file found" in done.stderr) == (125, True)
    done = docker_cli(*RUN, "-it", IMAGE, "true")
    assert (done.returncode, "the input device is not a TTY" in done.stderr) == (1, True)


def test_the_life_of_a_container(docker_cli: DockerCli, engine: Engine) -> None:
    ident = ok(docker_cli, "create", "--name", "life", "--init", IMAGE, "sleep", "1000").strip()
    state = ("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life")
    assert ok(docker_cli, *state) == "created 0\n"
    assert ok(docker_cli, "start", "life") == "life\n"
    assert ok(docker_cli, *state) == "running 0\n"
    assert ok(docker_cli, "ps", "-q", "--no-trunc") == f"{ident}\n"
    assert ok(docker_cli, "start", "life") == "life\n"  # it runs already
    done = docker_cli("rm", "life")
    assert 'cannot remove container "/life": container is running: stop the' in done.stderr
    done = docker_cli("run", "--name", "life", IMAGE)
    assert 'Conflict. The container name "/life" is already in use by container' in done.stderr
    assert ok(docker_cli, "restart", "-t", "0", "life") == "life\n"
    assert ok(docker_cli, "rename", "life", "lives") == ""
    done = docker_cli("rename", "lives", "lives")
    assert "Renaming a container with the same name as its current name" in done.stderr
    # An init that has made its child takes signals; the kernel drops those before (signal(7)).
    until(lambda: len(ok(docker_cli, "top", "lives", "-o", "pid,comm").splitlines()) == 3)
    assert ok(docker_cli, "kill", "-s", "TERM", "lives") == "lives\n"
    assert ok(docker_cli, "wait", "lives") == "143\n"
    done = docker_cli("kill", "lives")
    assert (done.returncode, f"container {ident} is not running" in done.stderr) == (1, True)
    done = docker_cli("exec", "lives", "id")
    assert (done.returncode, f"container {ident} is not running" in done.stderr) == (1, True)
    assert ok(docker_cli, "stop", "lives") == "lives\n"
    status = ok(docker_cli, "ps", "-a", "--format", "{{.Names}} {{.Status}} {{.Image}}")
    assert re.fullmatch(rf"lives Exited \(143\) .* ago {IMAGE}\n", status)
    assert ok(docker_cli, "rm", "lives") == "lives\n"


def test_exec(docker_cli: DockerCli, box: str) -> None:
    flags = ("-u", "1000", "-w", "/tmp", "-e", "A=b")
    shown = ok(docker_cli, "exec", *flags, "box", "sh", "-c", "id -u; pwd; echo $A")
    assert shown == "1000\n/tmp\nb\n"
    assert ok(docker_cli, "exec", "-i", "box", "cat", input="in") == "in"
    assert docker_cli("exec", "box", "sh", "-c", "exit 7").returncode == 7
    for program, status in (("nope", 127), ("/etc", 126)):
        done = docker_cli("exec", "box", program)
        assert done.returncode == status
        assert f'exec: "{program}": ' in done.stdout + done.stderr
    done = docker_cli("exec", "-u", "nobody2", "box", "id")
    assert (done.returncode, "unable to find user nobody2" in done.stdout + done.stderr) == (
        126,
        True,
    )
    assert ok(docker_cli, "exec", "-d", "box", "sleep", "3") == ""


def test_looking_inside(docker_cli: DockerCli, box: str) -> None:
    lines = ok(docker_cli, "top", "box", "-o", "pid,comm").splitlines()
    assert lines[0].split() == ["PID", "COMMAND"]
    assert lines[-1].split()[1] == "sleep"
    done = docker_cli("top", "box", "-o", "comm")
    assert "Couldn't find PID field in ps output" in done.stderr
    stats = json.loads(ok(docker_cli, "stats", "--no-stream", "--format", "{{json .}}", "box"))
    assert (stats["Name"], stats["ID"]) == ("box", box[:12])
    assert ok(docker_cli, "stats", "--no-stream").split()[:4] == ["CONTAINER", "ID", "NAME", "CPU"]
    shown = json.loads(ok(docker_cli, "inspect", "-s", "box"))[0]
    assert (shown["Id"], shown["Name"], shown["SizeRootFs"] > 0) == (box, "/box", True)
    row = json.loads(ok(docker_cli, "ps", "--format", "json", "-s"))
    assert (row["Names"], row["State"], row["Command"]) == ("box", "running", '"sleep 1000"')
    assert "(virtual " in row["Size"]


def test_pause_or_the_reason_why_not(docker_cli: DockerCli, box: str) -> None:
    done = docker_cli("pause", "box")
    if done.returncode:  # no cgroup is delegated to this user
        assert "cannot pause: freezing needs a cgroup" in done.stderr
        return
    assert done.stdout == "box\n"
    assert "(Paused)" in ok(docker_cli, "ps")
    assert "is paused, unpause the container before exec" in docker_cli("exec", "box", "id").stderr
    assert ok(docker_cli, "unpause", "box") == "box\n"
    assert "is not paused" in docker_cli("unpause", "box").stderr


def test_update(docker_cli: DockerCli, box: str) -> None:
    assert ok(docker_cli, "update", "--restart", "on-failure:3", "box") == "box\n"
    policy = ok(docker_cli, "inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "box")
    assert json.loads(policy) == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_restart_policy(docker_cli: DockerCli, engine: Engine) -> None:
    ok(docker_cli, "run", "-d", "--restart", "on-failure:2", "--name", "again", IMAGE, "false")
    words = ("inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}", "again")
    until(lambda: ok(docker_cli, *words) == "exited 2 1\n")
    ends = (
        "events", "--since", "1h", "--until", "-1s", "--filter", "container=again",
        "--filter", "event=die", "--format", "{{.Actor.Attributes.exitCode}}",
    )  # fmt: skip
    until(lambda: ok(docker_cli, *ends) == "1\n1\n1\n")  # --until counts whole seconds
    ok(docker_cli, "rm", "again")


def test_logs(docker_cli: DockerCli, engine: Engine) -> None:
    script = "echo one; echo three; echo two >&2"
    ok(docker_cli, "run", "--name", "said", "-l", "a=b", IMAGE, "sh", "-c", script)
    done = docker_cli("logs", "said")
    assert (done.stdout, done.stderr) == ("one\nthree\n", "two\n")
    done = docker_cli("logs", "-n", "1", "said")
    assert len((done.stdout + done.stderr).splitlines()) == 1
    assert ok(docker_cli, "logs", "-f", "--since", "1h", "said") == "one\nthree\n"
    assert ok(docker_cli, "logs", "--until", "1h", "said") == ""
    stamped = ok(docker_cli, "logs", "-t", "said").splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one", stamped)
    ok(docker_cli, "rm", "said")


def test_files_in_and_out(docker_cli: DockerCli, engine: Engine, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/file").write_text("content")
    (tree / "link").symlink_to("sub/file")
    ok(docker_cli, "create", "--name", "files", IMAGE, "rm", "/etc/group")
    ok(docker_cli, "cp", str(tree), "files:/opt")
    ok(docker_cli, "cp", f"{tree}/.", "files:/srv")
    ok(docker_cli, "cp", "files:/opt/tree", str(tmp_path / "back"))
    assert (tmp_path / "back/link").readlink() == Path("sub/file")
    ok(docker_cli, "cp", "-L", "files:/srv/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "content"
    done = docker_cli("cp", "files:/nope", str(tmp_path))
    assert "Could not find the file /nope in container files" in done.stderr
    done = docker_cli("cp", str(tree), "files:/srv/sub/file")
    assert (done.returncode, "cannot copy directory" in done.stderr) == (1, True)
    ok(docker_cli, "start", "-a", "files")
    assert set(ok(docker_cli, "diff", "files").split("\n")) >= {
        "C /etc", "D /etc/group", "A /opt/tree", "A /srv/sub/file",
    }  # fmt: skip
    archive = tmp_path / "all.tar"
    ok(docker_cli, "export", "-o", str(archive), "files")
    with tarfile.open(archive) as opened:
        names = set(opened.getnames())
    assert "srv/sub/file" in names
    assert "etc/group" not in names
    ok(docker_cli, "rm", "files")


def test_published_ports(docker_cli: DockerCli, engine: Engine) -> None:
    ok(docker_cli, "run", "-d", "--name", "web", "--init", "-p", "80", IMAGE, "sleep", "1000")
    found = re.fullmatch(r"127\.0\.0\.1:(\d+)\n", ok(docker_cli, "port", "web", "80"))
    assert found is not None
    assert f"127.0.0.1:{found[1]}->80/tcp" in ok(docker_cli, "ps")
    done = docker_cli("port", "web", "81")
    assert (done.returncode, "81" in done.stderr) == (1, True)
    done = docker_cli("run", "--rm", "-p", f"{found[1]}:80", IMAGE, "true")
    assert (done.returncode, found[1] in done.stderr) == (125, True)
    done = docker_cli("run", "--rm", "-p", "80:80", IMAGE, "true")
    assert "ports of the host below 1024 are not allowed" in done.stderr
    ok(docker_cli, "rm", "-f", "web")


def test_a_health_check(docker_cli: DockerCli, engine: Engine) -> None:
    check = ("--health-cmd", "test -e /well", "--health-interval", "100ms", "--health-retries", "1")
    ok(docker_cli, "run", "-d", "--name", "ill", "--init", *check, IMAGE, "sleep", "1000")
    status = ("inspect", "-f", "{{.State.Health.Status}}", "ill")
    until(lambda: ok(docker_cli, *status) == "unhealthy\n")
    assert "(unhealthy)" in ok(docker_cli, "ps")
    ok(docker_cli, "exec", "ill", "touch", "/well")
    until(lambda: ok(docker_cli, *status) == "healthy\n")
    assert "(healthy)" in ok(docker_cli, "ps", "--filter", "health=healthy")
    ok(docker_cli, "rm", "-f", "ill")


def test_prune(docker_cli: DockerCli, engine: Engine) -> None:
    ident = ok(docker_cli, "create", "-l", "x=y", IMAGE).strip()
    assert ok(docker_cli, "container", "prune", "-f", "--filter", "label=z") == (
        "Total reclaimed space: 0B\n"
    )
    said = ok(docker_cli, "container", "prune", "-f", "--filter", "label=x=y")
    assert said == f"Deleted Containers:\n{ident}\n\nTotal reclaimed space: 0B\n"
