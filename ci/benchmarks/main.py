"""The outer part of ci/bench: install what is compared, make a place, go on as the user."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from lib import account, apt, checkout, pyenv, supervise, testrun
from lib.say import SetupFailed, note, open_standard_streams

NAMES = (
    "startup", "run", "many", "exec", "memory", "pull", "cli", "policy", "throughput", "networks",
    "load", "remote",
)  # fmt: skip
PACKAGES = (
    *apt.ENGINE,
    *apt.PYTHON,
    "podman",
    "netavark",
    "iptables",
    "conmon",
    "crun",
    "bubblewrap",
    "skopeo",
    "docker-registry",
    "util-linux",
)
UNIFIED = Path("/sys/fs/cgroup/unified")
LIMIT_SECONDS = 3600


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="ci/bench",
        description="Measure this engine against Podman (crun, fuse-overlayfs), crun and "
        "bubblewrap in interleaved rounds of one run. Ratios mean something, seconds do not.",
    )
    made.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default all"
    )
    made.add_argument("--json", metavar="FILE", help="also write the results as JSON")
    made.add_argument(
        "--rounds", type=int, default=0, help="rounds (default: each benchmark's own)"
    )
    made.add_argument("--user", default=testrun.TEST_USER, help="unprivileged user to run as")
    made.add_argument("--keep-cgroups", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--inside", metavar="PLACE", help=argparse.SUPPRESS)
    return made


def main(argv: list[str]) -> int:
    """The whole command; exit status 0 also when a goal was missed, 1 when nothing could be run."""
    open_standard_streams()
    options = parser().parse_args(argv)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        print(f"ci/bench: no benchmark {unknown[0]!r} (have: {', '.join(NAMES)})", file=sys.stderr)
        return 2
    names = options.names or list(NAMES)
    if options.inside:
        from benchmarks.inside import run

        return run(Path(options.inside), names, options.rounds)
    os.umask(0o022)
    # Ended from outside, the place is removed all the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _outside(options, names, argv)
    except SetupFailed as error:
        print(f"ci/bench: {error}", file=sys.stderr)
        return 1


def _hide_hybrid_cgroups(argv: list[str]) -> None:
    """Go on in a mount namespace without cgroup2, where crun would refuse to run.

    crun (and Podman with it) refuses a hybrid host whose cgroup2 hierarchy has
    controllers. Nothing that is measured here uses cgroups.
    """
    if os.geteuid() == 0 and (UNIFIED / "cgroup.procs").exists():
        script = f'umount {UNIFIED} && exec "$@"'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        again = [sys.executable, "-IB", str(checkout.ROOT / "ci/bench"), "--keep-cgroups", *argv]
        os.execvp(command[0], [*command, *again])


def _outside(options: argparse.Namespace, names: list[str], argv: list[str]) -> int:
    if not options.keep_cgroups:
        _hide_hybrid_cgroups(argv)
    apt.ensure(PACKAGES)
    venv = pyenv.ensure(checkout.ROOT / "pyproject.toml", ("test",))
    user = account.ensure(options.user) if os.geteuid() == 0 else account.current()
    if user.switch:
        testrun.prepare_host(checkout.ROOT, user.name)
    place = Path(tempfile.mkdtemp(prefix="rlb-", dir="/tmp"))
    try:
        place.chmod(0o755)
        env = testrun._lay_out(place, checkout.ROOT, venv, user)
        (place / "w").mkdir(mode=0o700)
        if user.switch:
            os.chown(place / "w", user.uid, user.gid)
        note(f"benchmarks {', '.join(names)} as {user.name}")
        status = supervise.run(
            [
                str(place / "venv/bin/python"),
                "-IB",
                str(place / "src/ci/bench"),
                f"--inside={place}",
                f"--rounds={options.rounds}",
                *names,
            ],
            account=user,
            env=env,
            cwd=str(place / "src"),
            seconds=LIMIT_SECONDS,
        )
        found = place / "w/results.json"
        if options.json and found.exists():
            shutil.copyfile(found, options.json)
        return status
    finally:
        testrun._remove(place)
