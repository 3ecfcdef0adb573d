"""``rootless create``."""

from __future__ import annotations

import sys

from rootless.cli.command import Command, Invocation
from rootless.cli.commands.run import create
from rootless.cli.createbody import create_body
from rootless.cli.createflags import CREATE_FLAGS
from rootless.errors import RootlessError


def run(call: Invocation) -> int:
    """Create a container and print its id."""
    body = create_body(call)
    if call["dry-run"]:
        from rootless.cli.dryrun import show_plan

        return show_plan(call, body)
    try:
        sys.stdout.write(create(call, body) + "\n")
    except RootlessError as error:
        error.exit_status = 1
        raise
    return 0


COMMAND = Command(
    run,
    usage="create [OPTIONS] IMAGE [COMMAND] [ARG...]",
    summary="Create a new container",
    description="The container is not started; `rootless start` does that. See `run` for more.",
    aliases="container create, create",
    flags=CREATE_FLAGS,
    min_args=1,
    max_args=None,
    interspersed=False,
    exit_codes="""  0      success
  1      wrong number of arguments, or the daemon refused or failed
  125    wrong flags
  130    interrupted""",
    examples="rootless create --name db -e POSTGRES_PASSWORD=x postgres\nrootless start -a db",
)
