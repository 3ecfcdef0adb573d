"""Programs of the launcher's whose daemon is gone: they end without a word."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from rootless.engine import worker as unpacking
from rootless.storage import worker as copying


@pytest.mark.parametrize("kind", ["copying", "unpacking"])
def test_nobody_reads_the_report(kind: str, tmp_path: Path) -> None:
    if kind == "copying":
        # No container: a refusal, which would be reported.
        argv = copying.command("stat", {"pid": os.getpid(), "path": "/"})
        number = copying.REPORT_FD
    else:
        argv = unpacking.command(
            f"sha256:{'0' * 64}", str(tmp_path / "absent"), max_size=1, max_ratio=1
        )
        number = unpacking.REPORT_FD
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {number}>&1 1>/dev/null', "sh", *argv],
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_report_is_what_the_test_before_would_read(tmp_path: Path) -> None:
    argv = copying.command("stat", {"pid": os.getpid(), "path": "/"})
    report = tmp_path / "report"
    subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {copying.REPORT_FD}>{report}', "sh", *argv],
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert json.loads(report.read_text())["code"] == "not-found"
