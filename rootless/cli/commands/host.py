"""doctor, setup, check-policy, policy: programs of their own, without the daemon.

They parse their own arguments; this module only finds them.
"""

from __future__ import annotations

from importlib import import_module

from rootless.cli.command import Command, Invocation
from rootless.cli.flags import UsageError


def _call(module: str, arguments: list[str]) -> int:
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise UsageError("this version has no such command", status=1) from None
        raise
    status = found.main(arguments)
    return status if isinstance(status, int) else 0


def _doctor(call: Invocation) -> int:
    return _call("rootless.host.doctor", call.args)


def _setup(call: Invocation) -> int:
    return _call("rootless.host.setup", call.args)


def _check_policy(call: Invocation) -> int:
    return _call("rootless.check.main", call.args)


def _policy_merge(call: Invocation) -> int:
    return _call("rootless.check.merge", call.args)


def _policy_show(call: Invocation) -> int:
    return _call("rootless.check.show", call.args)


DOCTOR = Command(
    _doctor,
    usage="doctor [OPTIONS]",
    summary="Check what this host can do, what is missing, and the command that mends it",
    max_args=None,
)
SETUP = Command(
    _setup,
    usage="setup [OPTIONS]",
    summary="Prepare this host (as root)",
    max_args=None,
)
CHECK_POLICY = Command(
    _check_policy,
    usage="check-policy [OPTIONS] [POLICY...] [INPUT...]",
    summary="Check policies, and inputs against them",
    max_args=None,
)
POLICY_MERGE = Command(
    _policy_merge,
    usage="policy merge [OPTIONS] FILE...",
    summary="Print several policies or profiles as one",
    max_args=None,
)
POLICY_SHOW = Command(
    _policy_show,
    usage="policy show [OPTIONS] [POLICY...]",
    summary="Print what policies say, and where each value is from",
    max_args=None,
)
