"""``rootless update``."""

from __future__ import annotations

import sys

from rootless.cli.command import BYTES, DECIMAL, INT, STRING, Command, Invocation
from rootless.cli.createspec import parse_restart
from rootless.cli.each import each
from rootless.cli.flags import UsageError
from rootless.client.api import quote

_FIELDS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "pids-limit": "PidsLimit",
}


def run(call: Invocation) -> int:
    """Change limits and the restart policy of containers."""
    body: dict[str, object] = {key: call[flag] for flag, key in _FIELDS.items() if call.given(flag)}
    if call.given("restart"):
        body["RestartPolicy"] = parse_restart(call["restart"])
    if not body:
        raise UsageError("you must provide one or more flags when using this command", status=1)

    def show(name: str, answer: object) -> str:
        warnings = answer.get("Warnings") if isinstance(answer, dict) else None
        for warning in warnings or ():
            sys.stderr.write(f"WARNING: {warning}\n")
        return name

    return each(
        call.args,
        lambda name: call.client.post(f"/containers/{quote(name)}/update", body),
        show=show,
    )


COMMAND = Command(
    run,
    usage="update [OPTIONS] CONTAINER [CONTAINER...]",
    summary="Update configuration of one or more containers",
    description="""
Changes limits of containers that run or do not; a limit whose cgroup controller is
not delegated to you is refused by name.
""",
    aliases="container update, update",
    flags=(
        ("blkio-weight", "", INT, 0, "Block IO weight, 10 to 1000, or 0 to disable"),
        ("cpu-period", "", INT, 0, "Length of a CPU quota's period in microseconds"),
        ("cpu-quota", "", INT, 0, "CPU time per period in microseconds"),
        ("cpu-rt-period", "", INT, 0, "Limit the CPU real-time period in microseconds"),
        ("cpu-rt-runtime", "", INT, 0, "Limit the CPU real-time runtime in microseconds"),
        ("cpu-shares", "c", INT, 0, "CPU shares (relative weight)"),
        ("cpus", "", DECIMAL, 0, "Number of CPUs (0.5, 2)"),
        ("cpuset-cpus", "", STRING, "", "CPUs in which to allow execution (0-3, 0,1)"),
        ("cpuset-mems", "", STRING, "", "Memory nodes in which to allow execution (0-3, 0,1)"),
        ("memory", "m", BYTES, 0, "Memory limit (512m; at least 6m)"),
        ("memory-reservation", "", BYTES, 0, "Memory soft limit"),
        ("memory-swap", "", BYTES, 0, "Limit of memory plus swap: -1 to enable unlimited swap"),
        ("pids-limit", "", INT, 0, "Most processes and threads; 0 or -1 for unlimited"),
        (
            "restart",
            "",
            STRING,
            "",
            "Restart: no, on-failure[:N], always, unless-stopped",
        ),
    ),
    min_args=1,
    max_args=None,
    examples="rootless update --memory 512m --restart on-failure:3 web",
)
