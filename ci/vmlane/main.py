"""ci/vm: build the machine when it is not there, run tests in it, bring the results back."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from lib import apt, checkout, pyenv
from lib.say import SetupFailed, note, open_standard_streams, run

from vmlane import boot, image

USAGE = """usage: ci/vm [--short] [--results DIR] [pytest arguments]

Runs the tests of tests/vm as an ordinary user in a Debian machine under QEMU, where SELinux is
enforcing and cgroup controllers are delegated: what most machines of developers and of CI cannot
show. Needs root, to build the machine's disk once (two minutes, kept in the cache).

  --short        what a few minutes show: a denial of SELinux, a memory and a pids limit, the unit
  --results DIR  where junit.xml, journal, audit.log and console go (default: vm-results)
"""
SECONDS = 40 * 60
SHORT_SECONDS = 15 * 60
_COMMAND = """
set -e
python3 -m venv --without-pip ~/venv
for site in ~/venv/lib/python3*/site-packages; do
    echo /opt/venv/lib/python3*/site-packages >$site/lane.pth
done
/opt/venv/bin/pip -q --python ~/venv/bin/python install --no-index --no-deps $LANE_IN/*.whl
export PATH=$HOME/venv/bin:$PATH ROOTLESS_TEST_VM=1 CI=1
mkdir -p ~/t && cd $LANE_IN/src
set +e
TMPDIR=$HOME/t ~/venv/bin/python -m pytest -p no:cacheprovider -o timeout=1800 \
    --junit-xml=$LANE_OUT/junit.xml {arguments}
"""


def main(argv: list[str]) -> int:
    """The whole command; the exit status is the tests'."""
    open_standard_streams()
    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    short, results, arguments = False, Path("vm-results"), []
    words = iter(argv)
    for word in words:
        if word == "--short":
            short = True
        elif word == "--results":
            results = Path(next(words, "vm-results"))
        else:
            arguments.append(word)
    try:
        return _run(arguments, results.absolute(), short=short)
    except (SetupFailed, OSError) as error:
        print(f"ci/vm: {error}", file=sys.stderr)
        return 1


def _run(arguments: list[str], results: Path, *, short: bool) -> int:
    if os.geteuid() != 0:
        raise SetupFailed("building the machine's disk needs root: sudo ci/vm")
    started = time.monotonic()
    os.umask(0o022)
    apt.ensure(image.HOST_PACKAGES)
    made = image.ensure(checkout.ROOT)
    targets = [] if any(word.startswith("tests/") for word in arguments) else ["tests/vm"]
    words = [*targets, *(["-m", "short"] if short else []), *arguments]
    place = Path(tempfile.mkdtemp(prefix="vm-in-"))
    try:
        place.chmod(0o755)  # the machine's user is to see it
        _stage(place)
        command = _COMMAND.replace("{arguments}", shlex.join(words))
        seconds = SHORT_SECONDS if short else SECONDS
        ended = boot.boot(made, place, command, results, seconds=seconds)
    finally:
        shutil.rmtree(place)
    took = time.monotonic() - started
    note(f"the tests in the machine ended with {ended.status} after {took:.0f} s; see {results}")
    return ended.status


def _stage(place: Path) -> None:
    """The wheel as users install it, and the tests without the engine's source beside them."""
    source = place / "src"
    checkout.copy(checkout.ROOT, source)
    venv = pyenv.ensure(checkout.ROOT / "pyproject.toml", ("test",))
    run([
        str(venv / "bin/python"), "-m", "pip", "-q", "wheel", "--no-deps", "--no-build-isolation",
        "--wheel-dir", str(place), str(source),
    ])  # fmt: skip
    for name in ("rootless", "build", "rootless.egg-info"):
        shutil.rmtree(source / name, ignore_errors=True)
