"""Who is attached and does not read: a hindrance to nobody else, not even at the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tests.support.api import Api, until
from tests.support.engine import Engine
from tests.support.hijacked import Hijacked, unframed

pytestmark = pytest.mark.integration
_LINES = [b"%d" % number for number in range(1, 1_000_001)]
"""Seven megabytes: more than is held in memory on the way."""
_OUTPUT = {"stream": 1, "stdout": 1, "stderr": 1}
Attach = Callable[..., Hijacked]


@pytest.fixture
def attach(engine: Engine) -> Iterator[Attach]:
    with ExitStack() as opened:

        def start(ref: str, **query: object) -> Hijacked:
            made = Hijacked(engine, f"/containers/{ref}/attach", **_OUTPUT, **query)
            opened.enter_context(closing(made.sock))
            return made

        yield start


@pytest.mark.parametrize("tty", [False, True])
def test_one_of_several_that_is_stuck_stalls_nobody(api: Api, attach: Attach, tty: bool) -> None:
    """And gets all of it when it reads again, although the container is gone."""
    ref = api.create("seq", str(len(_LINES)), Tty=tty)
    stuck, reads = attach(ref), attach(ref)
    api.ok("POST", f"/containers/{ref}/start")
    said = reads.rest()
    api.ok("POST", f"/containers/{ref}/wait")
    log = api.raw("GET", f"/containers/{ref}/logs", stdout=1, tail=1)[2]
    assert log.strip().endswith(_LINES[-1])
    api.ok("DELETE", f"/containers/{ref}")
    kept = stuck.rest()
    texts = [each if tty else unframed(each) for each in (said, kept)]
    assert [text.split() for text in texts] == [_LINES, _LINES]


def _blocked(api: Api, ref: str) -> bool:
    """Whether the container's process stays asleep in write(2): for a moment each writer is."""
    for _ in range(10):
        (process,) = api.ok("GET", f"/containers/{ref}/top", ps_args="-o pid,wchan:20,comm")[
            "Processes"
        ]
        if "pipe_write" not in process[1]:
            return False
        time.sleep(0.05)
    return True


def test_a_container_whose_only_reader_is_stuck_waits_for_it(api: Api, attach: Attach) -> None:
    """It can be killed, started again and removed all the same; nothing that was said is lost."""
    ref = api.create("seq", "100000000", HostConfig={"LogConfig": {"Type": "none"}})
    first = attach(ref)
    api.ok("POST", f"/containers/{ref}/start")
    until(lambda: _blocked(api, ref))
    api.ok("POST", f"/containers/{ref}/kill")
    assert api.state(ref)["ExitCode"] == 128 + signal.SIGKILL
    second = attach(ref)
    api.ok("POST", f"/containers/{ref}/start")
    until(lambda: _blocked(api, ref))
    api.ok("DELETE", f"/containers/{ref}", force=1)
    for reader in (first, second):
        *lines, last = unframed(reader.rest()).split(b"\n")
        assert lines == [b"%d" % number for number in range(1, len(lines) + 1)]
        assert (b"%d" % (len(lines) + 1)).startswith(last)
        assert len(lines) > 200_000


def test_an_exec_that_nobody_reads_ends(engine: Engine, api: Api) -> None:
    ref = api.run("sleep", "1000")
    body = {"Cmd": ["seq", "250000"], "AttachStdout": True}
    made = api.ok("POST", f"/containers/{ref}/exec", body)["Id"]
    with closing(Hijacked(engine, f"/exec/{made}/start", {}).sock) as line:
        until(lambda: api.ok("GET", f"/exec/{made}/json")["Running"])
        api.ok("POST", f"/containers/{ref}/kill")
        until(lambda: not api.ok("GET", f"/exec/{made}/json")["Running"])
        line.settimeout(60)
    api.remove(ref)


def test_what_goes_on_writing_after_an_exec_does_not_keep_it(engine: Engine, api: Api) -> None:
    """Its output ends with the exec's first process."""
    ref = api.run("sleep", "1000")
    body = {"Cmd": ["sh", "-c", "yes & echo begun"], "AttachStdout": True}
    made = api.ok("POST", f"/containers/{ref}/exec", body)["Id"]
    line = Hijacked(engine, f"/exec/{made}/start", {})
    with closing(line.sock):
        assert b"begun\n" in unframed(line.rest())
    assert api.ok("GET", f"/exec/{made}/json")["ExitCode"] == 0
    api.remove(ref)
