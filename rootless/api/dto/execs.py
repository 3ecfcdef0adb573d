"""Execs."""

from __future__ import annotations

from rootless.model.records import ExecRecord


def inspect(record: ExecRecord) -> dict[str, object]:
    """The answer of ``GET /exec/{id}/json``."""
    request = record.request
    return {
        "ID": record.id,
        "Running": record.running,
        "ExitCode": record.exit_code,
        "ProcessConfig": {
            "tty": request.tty,
            "entrypoint": request.cmd[0] if request.cmd else "",
            "arguments": list(request.cmd[1:]),
            "privileged": request.privileged,
            **({"user": request.user} if request.user else {}),
        },
        "OpenStdin": request.attach_stdin,
        "OpenStderr": request.attach_stderr,
        "OpenStdout": request.attach_stdout,
        "CanRemove": record.exit_code is not None,
        "ContainerID": record.container_id,
        "DetachKeys": request.detach_keys,
        "Pid": record.pid,
    }
