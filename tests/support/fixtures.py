"""Fixtures for integration tests; tests/conftest.py makes them known everywhere.

``engine``        a running engine, shared by the tests of a module, clean after each test
``fresh_engine``  an engine of the test's own, for tests that kill or configure it
``docker_cli``    runs the ``docker`` command against ``engine``
``api``           sends requests to ``engine``
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support import processes
from tests.support.api import Api
from tests.support.engine import Engine, new_engine

DockerCli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def shared_engine() -> Iterator[Engine]:
    """One engine for a module; use ``engine``, which also checks each test's clean-up."""
    with new_engine() as engine:
        yield engine


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """A running engine. A test that leaves a container, a process or a file fails."""
    before = processes.ours()
    yield shared_engine
    try:
        left = shared_engine.leftovers()
        left += processes.new_since(before, spare=True)
        wrong = shared_engine.wrong_answers()
    finally:
        shared_engine.purge()
    assert not wrong, "answers are not as Docker describes them:\n" + "\n".join(wrong)
    assert not left, "the test left behind:\n" + "\n".join(left)


@pytest.fixture
def fresh_engine() -> Iterator[Engine]:
    """A running engine of the test's own; what it leaves is purged, processes must end."""
    with new_engine() as engine:
        yield engine


@pytest.fixture
def api(engine: Engine) -> Api:
    """Requests to the engine: ``api("GET", "/containers/json", all=1)``."""
    return Api(engine)


@pytest.fixture
def docker_cli(engine: Engine) -> DockerCli:
    """Runs Docker's own client against the engine: ``docker_cli("ps", "-a").stdout``."""
    found = shutil.which("docker")
    if found is None:
        pytest.skip("host lacks Docker's command-line client")

    def run(
        *arguments: str,
        input: str | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [found, "--host", f"unix://{engine.socket}", *arguments],
            env=engine.env,
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
