"""docs/roles.md says what each built-in role is answered at each endpoint, as it is now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.rolematrix import render, world

pytestmark = pytest.mark.integration


@pytest.mark.timeout(600)
def test_the_matrix_is_what_the_daemon_answers(repository: Path) -> None:
    with world() as asked:
        found = render(asked)
    page = (repository / "docs" / "roles.md").read_text()
    told = dict(zip(page.splitlines(), found.splitlines(), strict=False))
    differing = [f"{a}\n{b}" for a, b in told.items() if a != b]
    assert found == page, "make it again (tests/support/rolematrix.py):\n" + "\n".join(differing)
