"""The scripts behind ci/test: copying, requirements, supervising; each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def lib(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes ``lib`` importable here and for children; its directory."""
    monkeypatch.syspath_prepend(str(repository / "ci"))
    return repository / "ci"


def _supervise(lib: Path, command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Run ``command`` under supervision in a fresh process, as ci/test does."""
    code = (
        "import json, os, sys\n"
        f"sys.path.insert(0, {str(lib)!r})\n"
        "from lib import account, supervise\n"
        "sys.exit(supervise.run(json.loads(sys.argv[1]), account=account.current(),\n"
        "    env=dict(os.environ), cwd='/', seconds=float(sys.argv[2])))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(command), str(seconds)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_exit_status_is_passed_on(lib: Path) -> None:
    assert _supervise(lib, ["sh", "-c", "exit 3"], 60).returncode == 3
    assert _supervise(lib, ["sh", "-c", "exit 0"], 60).returncode == 0


def test_what_is_left_running_is_named_ended_and_a_failure(lib: Path, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    # It tells its pid itself: in the middle of execve(2) a process has no command line.
    left = f"setsid sh -c 'echo $$ > {told}; read word < {told}' left-behind & read pid < {told}"
    done = _supervise(lib, ["sh", "-c", f"{left}; echo $pid"], 60)
    assert done.returncode == 1
    assert "left running by the tests" in done.stderr
    assert "left-behind" in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_overtime_ends_with_stacks(lib: Path) -> None:
    hang = "import faulthandler, time; faulthandler.enable(); time.sleep(600)"
    done = _supervise(lib, [sys.executable, "-c", hang], 1)
    assert done.returncode == 124
    assert "time is up" in done.stderr
    assert 'File "<string>", line 1 in <module>' in done.stderr


def test_interrupted_supervisor_takes_the_tests_along(lib: Path, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    os.mkfifo(told)
    code = (
        f"import os, sys; sys.path.insert(0, {str(lib)!r})\n"
        "from lib import account, supervise\n"
        f"supervise.run(['sh', '-c', 'echo $$ > {told}; exec sleep 653'], cwd='/',\n"
        "    account=account.current(), env=dict(os.environ), seconds=600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    pid = int(told.read_text())
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_requirements_come_from_pyproject(lib: Path, repository: Path) -> None:
    from lib import pyenv  # type: ignore[import-not-found]  # the fixture puts ci/ on the path

    plain = pyenv.requirements(repository / "pyproject.toml", ())
    both = pyenv.requirements(repository / "pyproject.toml", ("test",))
    assert any(name.startswith("aiohttp") for name in plain)
    assert not any(name.startswith("pytest") for name in plain)
    assert set(plain) < set(both)


def test_copy_takes_what_git_would_and_nothing_else(lib: Path, tmp_path: Path) -> None:
    from lib import checkout

    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["git", "init", "--quiet", str(source)], check=True)
    (source / ".gitignore").write_text("junk\n")
    (source / "junk").write_text("")
    (source / "private").write_text("secret mode")
    (source / "private").chmod(0o600)
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o700)
    (source / "link").symlink_to("tool")
    checkout.copy(source, tmp_path / "copy")
    found = {path.name: path for path in (tmp_path / "copy").iterdir()}
    assert set(found) == {".gitignore", "private", "tool", "link"}
    assert found["private"].stat().st_mode & 0o777 == 0o644
    assert found["tool"].stat().st_mode & 0o777 == 0o755
    assert os.readlink(found["link"]) == "tool"


def test_streams_closed_by_the_caller_are_replaced(lib: Path) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(lib)!r})\n"
        "from lib.say import open_standard_streams; open_standard_streams()\n"
        "fd = os.open('/proc/self/status', os.O_RDONLY)\n"
        "sys.exit(0 if fd > 2 and os.readlink('/proc/self/fd/0') == '/dev/null' else 1)\n"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code], check=False
    )
    assert done.returncode == 0
