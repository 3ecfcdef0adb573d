"""Rules for every test: where skips are allowed, and that nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

from tests.support import leftovers, swagger
from tests.support.fixtures import api, docker_cli, engine, fresh_engine, shared_engine
from tests.support.shared import shared_root

__all__ = ["api", "docker_cli", "engine", "fresh_engine", "shared_engine"]

# The checkout may be read-only for the user who runs the tests, and a busy
# machine is no reason to fail: no database, no deadline. Each run draws other
# examples, so a few per run find in a week what many find in a night; who
# changes a parser asks for many at once: HYPOTHESIS_PROFILE=thorough.
hypothesis.settings.register_profile("rootless", database=None, deadline=None, max_examples=25)
hypothesis.settings.register_profile(
    "thorough",
    database=None,
    deadline=None,
    max_examples=1000,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "rootless"))

HOST_LACKS = (
    "host lacks SELinux",
    "host lacks delegated cgroup controllers",
    "host lacks shared test data",
    "host lacks a Debian mirror",
)
"""In CI a skip must begin with one of these; any other is a failure.

They name what no machine of CI's kind has. A missing package or program is
none of them: ci/test installs those.
"""


def _allowed(reason: str) -> bool:
    return reason.removeprefix("Skipped: ").startswith(HOST_LACKS)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip without an allowed reason into a failure, in CI only."""
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not _allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, which only {HOST_LACKS} may be: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Apply the rule for skips to tests."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Apply the rule for skips to whole modules."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout the tests run from."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """External tables (Docker's API schema, Pod Security fixtures …), or a skip that says so."""
    found = shared_root()
    if not found.is_dir():
        pytest.skip(f"host lacks shared test data: no directory {found}")
    return found


@pytest.fixture(scope="session")
def docker_description() -> swagger.Description:
    """Docker's description of its API, or a skip that says it is absent."""
    found = swagger.description()
    if found is None:
        pytest.skip("host lacks shared test data: no description of Docker's API")
    return found


@pytest.fixture(autouse=True)
def _unprivileged(request: pytest.FixtureRequest) -> None:
    """Integration tests prove what an unprivileged user can do; as root they prove nothing."""
    if request.node.get_closest_marker("integration") and os.geteuid() == 0:
        pytest.fail("integration tests run as an unprivileged user: use ci/test", pytrace=False)


_BEFORE = pytest.StashKey[leftovers.Snapshot]()
_LEFT = pytest.StashKey[list[str]]()


class _Failures:
    """Tells of each failure at once: a whole run takes minutes, one that is ended tells none."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line with the beginning of the reason."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = crash.message.partition("\n")[0] if crash else report.longreprtext[-200:]
            terminal.write_line(f"\n{report.nodeid} failed in its {report.when}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Register what needs the configuration."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what is there before the first test; xdist's workers leave that to their controller."""
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_BEFORE] = leftovers.snapshot()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run that leaves something behind has failed, whatever its tests said."""
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    left = leftovers.since(before)
    session.config.stash[_LEFT] = left
    if left and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name what was left behind."""
    left = config.stash.get(_LEFT, [])
    if left:
        terminalreporter.section("left behind by the tests", red=True)
        for line in left:
            terminalreporter.line(line)
