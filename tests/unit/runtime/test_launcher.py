"""A launcher whose daemon is gone ends without a word: it has nobody to tell and nothing to do."""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from rootless.runtime import launcher

SECONDS = 30.0


@contextmanager
def launched(theirs: socket.socket) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        launcher.command(str(theirs.fileno()), "--inside", "storage.tree"),
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_daemon_that_died_before_the_launcher_was_ready() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        with launched(theirs) as process:
            theirs.close()
            _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (1, "")


def test_daemon_that_died_without_hearing_that_the_launcher_is_ready() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, launched(theirs) as process:
        theirs.close()
        with ours:
            assert select.select([ours], [], [], SECONDS)[0]
        # Closing with an unread message resets the connection.
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (0, "")
