"""Execs: further processes in running containers."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rootless import ids
from rootless.engine import starting
from rootless.engine.attach import Attached, parse_detach_keys
from rootless.engine.core import Core
from rootless.engine.layout import make_layout
from rootless.engine.lifecycle import LOST_EXIT_CODE
from rootless.engine.ownership import of_unit, seen_unit
from rootless.engine.turns import Slots, Turns
from rootless.engine.unit import Unit
from rootless.errors import Conflict, InvalidInput, NotFound, RootlessError, StartFailed
from rootless.linux import procfs
from rootless.model.identity import Identity
from rootless.model.records import ExecRecord
from rootless.model.request import ExecRequest

if TYPE_CHECKING:
    from rootless.model.plan import ExecPlan
    from rootless.runtime.shim_client import ShimClient

KEPT = 256
"""Ended execs that are remembered per engine for a late ``inspect``."""

_PATIENCE = 1.0
"""Seconds that an exec waits for those before it to be under way."""


@dataclass(slots=True)
class _Live:
    """One exec in memory."""

    record: ExecRecord
    unit: Unit
    shim: ShimClient | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Execs:
    """See :class:`rootless.engine.interface.Execs`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._live: dict[str, _Live] = {}
        self._old: deque[str] = deque()
        """Ended ones, the oldest first."""
        self._turns = Turns()
        self._slots = Slots(2 + 2 * (os.cpu_count() or 1), patience=_PATIENCE)

    async def create(self, identity: Identity, ref: str, request: ExecRequest) -> str:
        """A new exec of a running container; nothing runs yet."""
        unit = seen_unit(self._core, identity, "container.exec", ref)
        self._check_running(unit)
        if not request.cmd or not request.cmd[0]:
            raise InvalidInput("No exec command specified")
        if request.working_dir and not request.working_dir.startswith("/"):
            raise InvalidInput(
                f"the working directory '{request.working_dir}' is invalid, "
                "it needs to be an absolute path"
            )
        for entry in request.env:
            if not entry.partition("=")[0] or "\0" in entry:
                raise InvalidInput(f"invalid environment variable: {entry}")
        parse_detach_keys(request.detach_keys)
        self._core.policy.admit_exec(identity, unit.record.spec, request, unit.record.identity)
        exec_id = ids.new_id()
        record = ExecRecord(exec_id, unit.id, request, time.time_ns())
        self._live[exec_id] = _Live(record, unit)
        unit.execs.add(exec_id)
        self._publish(unit, "exec_create", record)
        return exec_id

    @staticmethod
    def _check_running(unit: Unit) -> None:
        state = unit.record.state
        if state.status == "paused":
            raise Conflict(
                f"Container {unit.record.name} is paused, unpause the container before exec"
            )
        if not state.running or unit.shim is None:
            raise Conflict(f"container {unit.id} is not running")

    def _admit(self, identity: Identity, verb: str, exec_id: str) -> _Live:
        """The exec, when the caller may know of its container and do ``verb`` with it."""
        live = self._get(exec_id)
        absent = NotFound(f"No such exec instance: {exec_id}")
        subject = of_unit(live.unit)
        self._core.policy.admit_object(identity, f"exec.{verb}", exec_id, subject, absent)
        return live

    def _get(self, exec_id: str) -> _Live:
        found = self._live.get(exec_id)
        if found is None and ids.is_id_prefix(exec_id):
            matches = [live for key, live in self._live.items() if key.startswith(exec_id)]
            found = matches[0] if len(matches) == 1 else None
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    async def start(
        self,
        identity: Identity,
        exec_id: str,
        *,
        detach: bool,
        console_size: tuple[int, int] = (0, 0),
    ) -> Attached | None:
        """Run it; streams unless detached."""
        live = self._admit(identity, "start", exec_id)
        record = live.record
        if record.exit_code is not None:
            raise Conflict(f"exec instance {exec_id} has already run")
        if record.running or record.started_ns:
            raise Conflict(f"exec instance {exec_id} is already running")
        self._check_running(live.unit)
        request = record.request
        if detach:
            request = replace(request, attach_stdin=False, attach_stdout=False, attach_stderr=False)
        size = console_size if any(console_size) else request.console_size
        live.record = replace(
            record,
            request=replace(request, console_size=size),
            started_ns=time.time_ns(),
        )
        attached = None if detach else self._attachment(live)
        try:
            await self._launch(live, attached)
        except BaseException as error:
            if attached is not None:
                attached.fail()
            missing = isinstance(error, StartFailed) and error.exit_code == 127
            self._end(live, 127 if missing else 126)  # Docker knows no other
            raise
        return attached

    def _attachment(self, live: _Live) -> Attached:
        request = live.record.request
        return Attached(
            tty=request.tty,
            stdin=request.attach_stdin,
            stdout=request.attach_stdout,
            stderr=request.attach_stderr,
            detach_keys=parse_detach_keys(request.detach_keys),
            on_detach=lambda: self._publish(live.unit, "exec_detach", live.record),
            finished=live.ended,
        )

    async def _launch(self, live: _Live, attached: Attached | None) -> None:
        from rootless.runtime.planner import plan_exec

        core, unit, record = self._core, live.unit, live.record
        directory = self.directory(unit, record.id)
        directory.mkdir(mode=0o700, parents=True)
        plan = plan_exec(
            # What runs was admitted at its start; after a restart of the daemon it is
            # admitted again for whoever made the container.
            unit.admitted
            or starting.admit_again(core, unit, unit.record.identity, verb="container.exec"),
            record.request,
            # Where it is, not where it would be: a daemon may have been given other cgroups.
            replace(make_layout(core, unit.record.spec, unit.directory), cgroup=unit.cgroup),
            exec_id=record.id,
            directory=str(directory),
            init_pid=unit.record.state.pid,
            init_start=unit.init_start,
            env=exec_env(starting.with_links(core, unit.record.spec).process.env, record.request),
        )
        # From here on a process may run that a new daemon has to find.
        core.state.put_exec(record)
        async with self._slots.one():
            await self._begin(live, plan, attached)
        self._publish(unit, "exec_start", record)
        core.background(self._watch(live), f"exec {record.id[:12]}")

    async def _begin(self, live: _Live, plan: ExecPlan, attached: Attached | None) -> None:
        """Have the process made and let it go."""
        from rootless.runtime.shim_client import ShimClient

        core = self._core
        created = await (await core.launcher()).exec(plan)
        try:
            await self._turns.take()
            live.shim = ShimClient(self.directory(live.unit, live.record.id))
            if attached is not None:
                await attached.ask(live.shim)
            live.record = replace(live.record, running=True, pid=created.init_pid)
            core.state.put_exec(live.record)
            await created.go()
            if attached is not None:
                await attached.join_late(live.shim)
        except BaseException:
            created.cancel()
            raise
        finally:
            created.close_fds()

    @staticmethod
    def directory(unit: Unit, exec_id: str) -> Path:
        """The exec's directory; its name is short, as it holds a socket."""
        return unit.directory / "exec" / exec_id

    async def _watch(self, live: _Live) -> None:
        assert live.shim is not None
        try:
            status = await live.shim.wait()
            code, finished = status.code, status.finished_ns
        except RootlessError:
            code, finished = LOST_EXIT_CODE, time.time_ns()
        await self._turns.take()
        self._end(live, code, finished_ns=finished)
        self._publish(live.unit, "exec_die", live.record, exitCode=str(code))

    def _end(self, live: _Live, code: int, *, finished_ns: int = 0) -> None:
        live.record = replace(
            live.record,
            running=False,
            pid=0,
            exit_code=code,
            finished_ns=finished_ns or time.time_ns(),
        )
        live.shim = None
        live.ended.set()
        if live.record.started_ns and not live.unit.removed:
            self._core.state.put_exec(live.record)
        live.unit.execs.discard(live.record.id)
        directory = self.directory(live.unit, live.record.id)
        for name in ("exit.json", "shim.json", "shim.sock"):
            (directory / name).unlink(missing_ok=True)
        try:
            directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            self._core.discard(directory)  # its shim was killed while it wrote a file
        self._forget_old(live.record.id)

    def _forget_old(self, *ended: str) -> None:
        self._old += ended
        old = [self._old.popleft() for _ in range(len(self._old) - KEPT)]
        for key in old:
            del self._live[key]
        if old:
            self._core.state.remove_execs(old)

    async def recover(self) -> None:
        """Find the execs of the daemon before: those that run, and how the others ended.

        Those whose container was removed went with it.
        """
        for record in sorted(self._core.state.execs(), key=lambda r: r.created_ns):
            unit = self._core.registry.get(record.container_id)
            if unit is None or record.id in self._live:
                continue
            live = self._live[record.id] = _Live(record, unit)
            if record.exit_code is not None:
                live.ended.set()
                self._old.append(record.id)
            else:
                await self._reconnect(live)
        self._forget_old()

    async def _reconnect(self, live: _Live) -> None:
        from rootless.runtime.shim_client import ShimClient, read_exit, read_state

        directory = self.directory(live.unit, live.record.id)
        found = read_state(directory)
        if found is not None and procfs.is_alive(found.shim_pid, found.shim_start):
            try:
                live.shim = await ShimClient.connect(directory)
            except NotFound:
                found = None  # it ended between the two looks
        if found is not None and live.shim is not None:
            live.record = replace(live.record, running=True, pid=found.init_pid)
            live.unit.execs.add(live.record.id)
            self._core.background(self._watch(live), f"exec {live.record.id[:12]}")
            return
        status = read_exit(directory)
        if status is None:
            self._end(live, LOST_EXIT_CODE)
        else:
            self._end(live, status.code, finished_ns=status.finished_ns)

    async def inspect(
        self, identity: Identity, exec_id: str, *, verb: str = "inspect"
    ) -> ExecRecord:
        """One exec; ended ones are remembered for a while."""
        return self._admit(identity, verb, exec_id).record

    async def resize(self, identity: Identity, exec_id: str, *, height: int, width: int) -> None:
        """Set the terminal's size; fine when it just ended."""
        live = self._admit(identity, "resize", exec_id)
        if live.shim is None:
            if live.ended.is_set():
                return
            raise Conflict(f"exec instance {exec_id} is not running")
        try:
            await live.shim.resize(height, width)
        except NotFound:
            return

    async def wait(self, exec_id: str) -> int:
        """The exit code, once it ended."""
        live = self._get(exec_id)
        await live.ended.wait()
        return live.record.exit_code or 0

    async def kill(self, exec_id: str) -> None:
        """SIGKILL to its process; fine when it ended."""
        live = self._get(exec_id)
        if live.shim is not None:
            try:
                await live.shim.signal(9)
            except NotFound:
                return

    def _publish(self, unit: Unit, action: str, record: ExecRecord, **more: str) -> None:
        text = action
        if action in ("exec_create", "exec_start"):
            command, *arguments = record.request.cmd
            text = f"{action}: {command} {' '.join(arguments)}"  # a blank without any: Docker's
        self._core.registry.publish(unit, text, execID=record.id, **more)


def exec_env(container: tuple[str, ...], request: ExecRequest) -> tuple[str, ...]:
    """The container's variables with the request's over them; TERM for a terminal."""
    env = dict(entry.partition("=")[::2] for entry in container)
    if request.tty:
        env.setdefault("TERM", "xterm")
    else:
        env.pop("TERM", None)
    for entry in request.env:
        key, equals, value = entry.partition("=")
        if equals:
            env[key] = value
        else:
            env.pop(key, None)
    return tuple(f"{key}={value}" for key, value in env.items())
