"""The systemd units: what systemd reads is the command that was meant, and it is safe to start."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from rootless.cli.commands.service import unit_files
from rootless.cli.units_text import quoted, service_unit
from rootless.linux import cgroupfs


def _words(line: str) -> list[str]:
    """ExecStart= as systemd.service(5) has it: quotes, C escapes, %% and $$."""
    found = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    escapes = {"n": "\n", "t": "\t"}
    words = [
        re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), inside) if inside else bare
        for inside, bare in found
    ]
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def _start(unit: str) -> list[str]:
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return _words(line)


@pytest.mark.parametrize(
    "word", ["/usr/bin/python3", "/a b", "50%", "$HOME", 'say "x"', "back\\slash", "a;b", "it's"]
)
def test_words_come_through_as_they_are(word: str) -> None:
    assert _start(service_unit(("/bin/x", word, "z"))) == ["/bin/x", word, "z"]
    assert "\n" not in quoted("two\nlines")


def test_the_service_takes_no_code_from_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user service starts in $HOME, where a directory may be called rootless."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    trap = tmp_path / "home" / "rootless" / "daemon"
    trap.mkdir(parents=True)
    for place in (trap.parent, trap):
        (place / "__init__.py").write_text("")
    (trap / "main.py").write_text("print('TRAPPED')\ndef main():\n    return 0\n")
    (unit,) = (t for path, t in unit_files().items() if path.endswith(f"/{cgroupfs.SERVICE}"))
    done = subprocess.run(
        [*_start(unit), "--version"],
        cwd=tmp_path / "home",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "TRAPPED" not in done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("rootlessd ")


def test_containers_live_in_a_unit_beside_the_daemons() -> None:
    """In the daemon's own, which they would make hand controllers on, it could not start again."""
    files = {os.path.basename(path): text for path, text in unit_files().items()}
    assert "\nDelegate=yes\n" in files[cgroupfs.BESIDE]
    assert "Delegate" not in files[cgroupfs.SERVICE]
    assert f"\nWants={cgroupfs.BESIDE}\n" in files[cgroupfs.SERVICE]
    assert f"After=rootless.socket {cgroupfs.BESIDE}\n" in files[cgroupfs.SERVICE]
