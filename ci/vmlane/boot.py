"""One run of the machine: what goes in, the emulator, what comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from lib.say import SetupFailed, note, run

from vmlane.image import UID

MEMORY_MIB, CPUS = 3072, 2
RESULTS = 256 << 20
"""Bytes of the disk that brings results back."""
_PART = 1 << 16
_APPEND = (
    "console=ttyS0 panic=-1 quiet loglevel=4 root=/dev/vda "
    "lsm=landlock,lockdown,yama,selinux,bpf selinux=1 enforcing=1 audit=1 "
    "audit_backlog_limit=8192 mitigations=off systemd.show_status=no"
)


@dataclass(frozen=True)
class Result:
    """How the command ended, and where its results are."""

    status: int
    directory: Path


def boot(image: Path, inside: Path, command: str, results: Path, *, seconds: float) -> Result:
    """Run ``command`` with bash as the unprivileged user; it sees ``inside`` as ``$LANE_IN``.

    What it leaves in ``$LANE_OUT`` comes back in ``results``, beside stdout, stderr,
    journal, dmesg, audit.log and console. The machine's disk is a copy on write.
    """
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    (inside / "command").write_text(command)
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        place = Path(name)
        # Not compressed: that is what emulation is slow at.
        run(["mksquashfs", str(inside), str(place / "in.img"), "-quiet", "-no-progress", "-noI",
             "-noD", "-noF", "-noX", "-all-root", "-no-xattrs"])  # fmt: skip
        with open(place / "out.img", "wb") as file:
            file.truncate(RESULTS)
        run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E",
             f"root_owner={UID}:{UID}", str(place / "out.img")])  # fmt: skip
        run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
             str(image / "root.img"), str(place / "root.qcow2")])  # fmt: skip
        _emulate(image, place, results / "console", seconds)
        run(["debugfs", "-R", f"rdump / {results}", str(place / "out.img")])
    shutil.rmtree(results / "lost+found", ignore_errors=True)
    status = results / "exit-status"
    if not status.exists():
        raise SetupFailed(f"the machine left no exit status; see {results}/console")
    return Result(int(status.read_text()), results)


def _emulate(image: Path, place: Path, console: Path, seconds: float) -> None:
    argv = [
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
        "-smp", str(CPUS), "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-display",
        "none", "-no-reboot", "-nic", "none", "-kernel", str(image / "vmlinuz"), "-initrd",
        str(image / "initrd"), "-append", _APPEND, "-serial", "stdio", "-device",
        "virtio-rng-pci", "-drive", f"file={place}/root.qcow2,if=virtio,format=qcow2,cache=unsafe",
        "-drive", f"file={place}/in.img,if=virtio,format=raw,readonly=on",
        "-drive", f"file={place}/out.img,if=virtio,format=raw,cache=unsafe",
    ]  # fmt: skip
    note(f"booting the machine (at most {seconds / 60:.0f} minutes)")
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as machine:
        timer = threading.Timer(seconds, machine.kill)
        timer.start()
        try:
            assert machine.stdout is not None
            with open(console, "wb") as kept:
                # As it comes, not by lines: pytest writes a dot for a test.
                while part := os.read(machine.stdout.fileno(), _PART):
                    kept.write(part)
                    kept.flush()
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
        finally:
            expired = not timer.is_alive()
            timer.cancel()
    if expired:
        raise SetupFailed(f"the machine did not end within {seconds:.0f} s; see {console}")
