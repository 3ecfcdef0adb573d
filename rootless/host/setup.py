"""``rootless setup``: prepare a machine for a user, and take it back exactly."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rootless.errors import InvalidInput, RootlessError
from rootless.host import changes, edit
from rootless.host.changes import Change
from rootless.host.facts import Host, host_for
from rootless.host.plan import plan, subtree_path
from rootless.linux import cgroupfs

Say = Callable[[str], None]


def record_path(host: Host) -> Path:
    """Where the changes for this user are written down."""
    return host.path(f"/var/lib/rootless-setup/{host.user}.json")


def read_record(host: Host) -> list[Change]:
    """The changes made so far, oldest first."""
    path = record_path(host)
    try:
        entries = json.loads(path.read_text())["changes"]
        return [changes.from_json(entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path} is not a record of rootless setup: {error}",
            hint="move it away; what setup changed must then be undone by hand",
        ) from None


def write_record(host: Host, made: Sequence[Change]) -> None:
    """Replace the record; an empty one is removed."""
    path = record_path(host)
    if not made:
        path.unlink(missing_ok=True)
        if path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return
    document = {"version": 1, "changes": [changes.to_json(change) for change in made]}
    edit.replace(path, json.dumps(document, indent=2) + "\n")


def apply(host: Host, *, packages: bool = True, say: Say = print) -> int:
    """Make the changes this machine needs; how many there were.

    Each is recorded before it is made: after a crash in between, --undo finds
    it, and a change's undo is right also when it never happened.
    """
    needed = plan(host, packages=packages)
    made = read_record(host)
    for change in needed:
        say(change.describe())
        if change not in made:
            made.append(change)
            write_record(host, made)
        change.apply(host)
    return len(needed)


def undo(host: Host, *, say: Say = print) -> int:
    """Take back what the record holds, newest first; how many changes there were."""
    made = read_record(host)
    count = len(made)
    while made:
        done = made[-1].undo(host)
        if done:
            say(done)
        made.pop()
        write_record(host, made)
    return count


def delegated_cgroup(host: Host) -> str:
    """The cgroup2 directory set up for the user on a host without systemd, '' for none.

    Root must start the user's processes in it: the kernel lets nobody move in
    from outside (cgroup-v2.rst, "Delegation Containment").
    """
    root = cgroupfs.mount_point(host.read("/proc/self/mountinfo"))
    path = subtree_path(root, host.user)
    here = host.path(path)
    return path if root and here.is_dir() and here.stat().st_uid == host.uid else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless setup",
        description="Prepare this machine so that a user can run containers without root: "
        "subordinate ids, device modes, sysctls, packages, cgroup delegation. Prints each change, "
        "changes nothing when run again, and --undo takes back exactly what it changed.",
        epilog="exit status: 0 the machine is as asked for, 1 a change failed, 2 wrong usage. "
        "example: sudo rootless setup --user alice --dry-run",
    )
    parser.add_argument("--user", help="the user to prepare for (default: who called sudo)")
    parser.add_argument("--undo", action="store_true", help="take the recorded changes back")
    parser.add_argument("--dry-run", action="store_true", help="print the changes, make none")
    parser.add_argument("--no-packages", action="store_true", help="install no Debian packages")
    return parser


def main(argv: Sequence[str]) -> int:
    """Exit status 0 when the machine is as asked for, 1 when a change failed, 2 for bad usage."""
    options = _parser().parse_args(list(argv))
    try:
        host = host_for(options.user)
        if host.uid == 0:
            raise InvalidInput(
                "setup prepares the machine for an unprivileged user, not for root",
                hint="sudo rootless setup --user NAME",
            )
        if options.dry_run:
            return _dry_run(host, options)
        if os.geteuid() != 0:
            raise InvalidInput(
                "setup changes files of the system and needs root",
                hint=f"sudo rootless setup --user {host.user}",
            )
        return _undo(host) if options.undo else _apply(host, packages=not options.no_packages)
    except RootlessError as error:
        print(f"rootless setup: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return 2 if isinstance(error, InvalidInput) else 1
    except OSError as error:
        print(f"rootless setup: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _dry_run(host: Host, options: argparse.Namespace) -> int:
    if options.undo:
        listed = [f"would undo: {change.describe()}" for change in reversed(read_record(host))]
    else:
        wanted = plan(host, packages=not options.no_packages)
        listed = [f"would {change.describe()}" for change in wanted]
    print("\n".join(listed or ["nothing to do"]))
    return 0


def _apply(host: Host, *, packages: bool) -> int:
    count = apply(host, packages=packages)
    if count:
        print(f"{count} changes made for {host.user}; take them back with --undo")
    else:
        print(f"nothing to do: this machine is ready for {host.user}")
    return 0


def _undo(host: Host) -> int:
    count = undo(host)
    print(f"{count} changes taken back" if count else f"no changes are recorded for {host.user}")
    return 0
