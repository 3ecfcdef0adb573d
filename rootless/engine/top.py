"""``top``: the host's ps(1), limited to the container's processes."""

from __future__ import annotations

import asyncio
import shlex
import shutil

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import procfs
from rootless.model.records import ProcessTable


async def process_table(init_pid: int, ps_args: str) -> ProcessTable:
    """The processes in the pid namespace of ``init_pid``; pids and ids are the host's."""
    program = shutil.which("ps")
    if program is None:
        raise HostUnsupported("top needs ps, which is not installed", hint="apt install procps")
    try:
        arguments = shlex.split(ps_args) or ["-ef"]
    except ValueError as error:
        raise InvalidInput(f"invalid ps arguments {ps_args!r}: {error}") from None
    wanted = await _pids(init_pid)
    # Without -q, ps shows only what its own options select, `-o pid` only this terminal's.
    chosen = "-q" + ",".join(str(pid) for pid in sorted(wanted))
    status, out, _ = await _ps(program, *arguments, chosen)
    if status != 0:  # some options cannot go with -q
        status, out, err = await _ps(program, *arguments)
        if status != 0:
            lines = err.strip().splitlines()
            raise InvalidInput(f"ps {ps_args}: {lines[0] if lines else 'failed'}")
    return parse_ps(out, wanted)


async def _ps(program: str, *arguments: str) -> tuple[int | None, str, str]:
    """Status and both outputs of ps(1)."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


async def _pids(init_pid: int) -> frozenset[int]:
    """Descendants, and what execs added: both found by the pid namespace where /proc allows it."""
    try:
        return frozenset(procfs.pids_of_namespace(init_pid))
    except PermissionError:
        return frozenset((init_pid, *procfs.descendants(init_pid)))


def parse_ps(text: str, wanted: frozenset[int]) -> ProcessTable:
    """Rows of ps' output whose PID is wanted; the last column keeps its blanks."""
    lines = text.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidInput("Couldn't find PID field in ps output", hint="let ps print the pid")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(None, len(titles) - 1)
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in wanted:
            rows.append(tuple(fields))
    return ProcessTable(tuple(titles), tuple(rows))
