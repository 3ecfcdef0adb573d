"""Escape sequences in what others wrote do not reach the user's terminal."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest

from tests.support.engine import Engine, program

pytestmark = pytest.mark.integration
IMAGE = "rootless/busybox"
EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J"


def _on_terminal(engine: Engine, *words: str) -> bytes:
    """What a command writes to a terminal."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [*program("rootless"), *words], env=engine.env, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen = b""
    try:
        while data := os.read(master, 65536):
            seen += data
    except OSError:
        pass  # EIO: the last writer is gone
    finally:
        os.close(master)
        child.wait()
    return seen


def test_names_labels_and_errors_are_shown_as_text(engine: Engine) -> None:
    engine.ok("create", "--name", "odd", "--network", "none", "--label", f"a={EVIL}", IMAGE, "true")
    for words in (
        ("ps", "--all", "--format", "{{.Labels}}"),
        ("inspect", "--format", "{{.Config.Labels}}", "odd"),
        ("rm", EVIL),
        ("run", f"--{EVIL}", IMAGE),
    ):
        seen = _on_terminal(engine, *words)
        assert b"\\x1b]0;owned\\x07" in seen, words
        assert b"\x1b" not in seen, words
        assert b"\x07" not in seen, words
        assert "\x9b".encode() not in seen, words
    # A pipe gets what there is, for scripts.
    assert EVIL in engine.ok("ps", "--all", "--format", "{{.Labels}}")
    # So does the terminal of a container's own output.
    shown = _on_terminal(engine, "run", "--rm", "--network", "none", IMAGE, "echo", EVIL)
    assert b"\x1b]0;owned\x07" in shown
    engine.ok("rm", "odd")
