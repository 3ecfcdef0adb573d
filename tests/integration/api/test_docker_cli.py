"""Docker's own command line speaks to the API over the fake engine."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import termios
from pathlib import Path

import pytest

from rootless.model.event import Event
from rootless.model.records import LogEntry
from tests.unit.api.conftest import Served

pytestmark = pytest.mark.integration


class Docker:
    """Runs ``docker``."""

    def __init__(self, served: Served, config: Path) -> None:
        program = shutil.which("docker")
        assert program is not None, "the docker command line is missing: ci/test installs it"
        self.program = program
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(config),
            "DOCKER_CONFIG": str(config),
            "DOCKER_HOST": f"unix://{served.path}",
        }

    async def start(self, *args: str, **streams: int) -> asyncio.subprocess.Process:
        """A process of it."""
        pipe = asyncio.subprocess.PIPE
        streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | streams
        return await asyncio.create_subprocess_exec(
            self.program, *args, env=self.environment, **streams
        )

    async def run(self, *args: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """Exit status, output and errors."""
        process = await self.start(*args)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def ok(self, *args: str, stdin: bytes = b"") -> str:
        """The output of a command that must succeed."""
        status, out, err = await self.run(*args, stdin=stdin)
        assert status == 0, err
        return out


@pytest.fixture
def docker(served: Served, tmp_path: Path) -> Docker:
    return Docker(served, tmp_path)


async def test_run_takes_output_and_exit_status(docker: Docker) -> None:
    assert await docker.run("run", "--name", "a", "busybox", "both") == (3, "out\n", "err\n")
    assert await docker.run("run", "-i", "busybox", "cat", stdin=b"hello") == (3, "hello", "")


async def test_input_without_end_of_size(docker: Docker) -> None:
    """tar c . | docker run -i … with more bytes than any buffer."""
    data = b"z" * (32 << 20)
    status, out, _ = await docker.run("run", "-i", "busybox", "sink", stdin=data)
    assert (status, out) == (3, str(len(data)))
    process = await docker.start("run", "busybox", "flood", str(32 << 20))
    flood, _ = await process.communicate()
    assert flood == bytes(range(256)) * (32 << 12)


async def test_errors_have_dockers_exit_status(docker: Docker) -> None:
    status, _, err = await docker.run("run", "busybox", "missing-program")
    assert (status, "executable file not found" in err) == (127, True)
    status, _, err = await docker.run("run", "--privileged", "busybox", "x")
    assert (status, "privileges.privileged" in err) == (125, True)
    status, _, err = await docker.run("inspect", "absent")
    assert (status, "o such" in err) == (1, True)


async def test_lists_and_inspect(docker: Docker, served: Served) -> None:
    ref = (await docker.ok("create", "--name", "a", "-p", "8080:80", "busybox", "silent")).strip()
    assert "Created" in await docker.ok("ps", "-a", "--no-trunc")
    await served.engine.containers.attach(None, ref)  # type: ignore[arg-type]  # the engine in its place asks nobody
    await docker.ok("start", "a")
    assert "Up 3 minutes" in await docker.ok("ps")
    assert (await docker.ok("port", "a")).strip() == "80/tcp -> :8080"
    assert (await docker.ok("inspect", "-f", "{{.State.Status}} {{.Config.Image}}", "a")) == (
        "running busybox\n"
    )
    assert "PID" in await docker.ok("top", "a")
    assert await docker.ok("diff", "a") == "C /etc\nA /etc/new\n"
    assert "a" in await docker.ok("stats", "--no-stream", "a")
    for command in ("pause", "unpause", "restart"):
        assert await docker.ok(command, "a") == "a\n"
    await docker.ok("update", "--memory", "64m", "--memory-swap", "64m", "a")
    await docker.ok("rename", "a", "b")
    assert await docker.ok("stop", "-t", "1", "b") == "b\n"
    assert await docker.ok("wait", "b") == "143\n"
    assert await docker.ok("rm", "-f", "b") == "b\n"


async def test_exec(docker: Docker, served: Served) -> None:
    ref = await served.create("x")
    assert await docker.run("exec", "-i", ref, "cat", stdin=b"in") == (5, "in", "")
    status, out, err = await docker.run("exec", ref, "missing-program")
    assert (status, "executable file not found" in out + err) == (127, True)
    assert (await docker.run("exec", "-d", ref, "x"))[0] == 0


async def test_terminal_and_detach_keys(docker: Docker, served: Served) -> None:
    """The client's own sequence leaves; the container is not stopped."""
    ref = await served.create("cat", Tty=True, OpenStdin=True, AttachStdin=True)
    await served.engine.containers.attach(None, ref)  # type: ignore[arg-type]  # the engine in its place asks nobody
    served.engine.containers.streams[ref].words = ("silent",)
    await served.json("POST", f"/containers/{ref}/start", status=204)
    master, slave = pty.openpty()
    try:
        process = await docker.start("attach", ref, stdin=slave, stdout=slave, stderr=slave)
        os.set_blocking(master, False)
        seen = b""
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(master, readable.set)
        # Until the client made the terminal raw, the kernel itself would echo and take ctrl-q.
        while termios.tcgetattr(master)[3] & termios.ECHO:
            await asyncio.sleep(0.001)
        os.write(master, b"typed\r")
        while b"typed" not in seen:
            await readable.wait()
            readable.clear()
            try:
                seen += os.read(master, 4096)
            except BlockingIOError:
                continue
        os.write(master, b"\x10\x11")
        await process.wait()
        loop.remove_reader(master)
    finally:
        os.close(master)
        os.close(slave)
    assert served.engine.containers.find(ref).state.running
    served.engine.containers.end(ref, 0)


async def test_logs(docker: Docker, served: Served) -> None:
    ref = await served.create("x")
    served.engine.containers.log = [
        LogEntry("stdout", 10**18, b"one\n"),
        LogEntry("stderr", 10**18, b"two\n"),
    ]
    assert await docker.run("logs", "--tail", "5", ref) == (0, "one\n", "two\n")


async def test_copies(docker: Docker, served: Served, tmp_path: Path) -> None:
    ref = await served.create("x")
    source = tmp_path / "file"
    source.write_bytes(b"content")
    await docker.ok("cp", str(source), f"{ref}:/etc")
    assert b"content" in served.engine.containers.uploads[0]
    assert len(await docker.ok("export", "-o", str(tmp_path / "e"), ref)) == 0
    assert (tmp_path / "e").stat().st_size == 8 << 20


async def test_images(docker: Docker, served: Served, tmp_path: Path) -> None:
    assert "busybox" in await docker.ok("images")
    assert "4MB" in await docker.ok("images")
    assert "/bin/sh" in await docker.ok("history", "busybox")
    assert "Downloaded newer image" in await docker.ok("pull", "busybox")
    status, _, err = await docker.run("pull", "broken")
    assert (status, "wrong digest" in err) == (1, True)
    await docker.ok("tag", "busybox", "busybox:2")
    _, (source, repo, tag) = served.engine.images.calls[-1]
    # Clients differ in whether they spell the default registry out.
    assert (source, repo.rpartition("/")[2], tag) == ("busybox", "busybox", "2")
    assert "Untagged: busybox:latest" in await docker.ok("rmi", "busybox")
    await docker.ok("save", "-o", str(tmp_path / "s"), "busybox")
    assert (tmp_path / "s").stat().st_size == 4 << 20
    assert "Loaded 4194304" in await docker.ok("load", "-i", str(tmp_path / "s"))
    ref = await served.create("x")
    assert (await docker.ok("commit", "-m", "hi", ref, "new:1")).startswith("sha256:")
    assert served.engine.containers.calls[-1][1]["comment"] == "hi"


async def test_system(docker: Docker, served: Served) -> None:
    served.engine.system.past = [
        Event("container", "start", "ab" * 32, (("image", "busybox"), ("name", "x")), 10**18)
    ]
    found = await docker.ok("events", "--since", "1", "--until", "2", "--format", "{{json .}}")
    assert json.loads(found)["Action"] == "start"
    assert "Server: rootless" in await docker.ok("version")
    info = await docker.ok("info")
    assert "no controllers are delegated" in info or "Cgroup Driver: none" in info
    assert "Local Volumes" in await docker.ok("system", "df")
    await docker.ok("system", "df", "-v")
    assert "Total reclaimed space" in await docker.ok("system", "prune", "-f", "--volumes")
    assert await docker.ok("volume", "create", "--label", "a=b", "v") == "v\n"
    assert "v" in await docker.ok("volume", "ls", "-q")
    assert await docker.ok("volume", "rm", "v") == "v\n"
    assert "slirp4netns" in await docker.ok("network", "ls")
    made = await docker.ok("network", "create", "--subnet", "10.9.0.0/24", "n")
    assert len(made) == 65
    assert '"Subnet": "10.9.0.0/24"' in await docker.ok("network", "inspect", "n")
    assert await docker.ok("network", "rm", "n") == "n\n"
    status, _, err = await docker.run("network", "create", "host")
    assert (status, "operation is not permitted on predefined host network" in err) == (1, True)
    status, _, err = await docker.run("swarm", "init")
    assert (status, "swarm mode is not supported" in err) == (1, True)
