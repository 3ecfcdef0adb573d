"""``docker search`` asks an index and says so when there is none."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import pytest

from rootless.errors import InvalidInput
from rootless.images.registry.search import split_term
from tests.support import registry
from tests.support.engine import Engine
from tests.support.fixtures import DockerCli

pytestmark = pytest.mark.integration

_ROWS = [
    {"name": "me/tool", "description": "a tool", "star_count": 3, "is_official": False},
    {"name": "tool", "description": "the tool", "star_count": 90, "is_official": True},
    {"name": 7, "description": None, "star_count": "many"},
]


def _index(handler: BaseHTTPRequestHandler) -> None:
    if handler.path.startswith("/v1/search?"):
        body = json.dumps({"num_results": len(_ROWS), "results": _ROWS}).encode()
        registry.reply(handler, 200, body, {"Content-Type": "application/json"})
        return
    registry.reply(handler, 404, b"not here")


def test_results_pass_the_filters(docker_cli: DockerCli) -> None:
    form = "{{.Name}} {{.StarCount}} {{.IsOfficial}}"
    with registry.http_server(_index) as index:
        found = docker_cli("search", "--format", form, f"{index.host}/tool & die")
        assert [line.rstrip() for line in found.stdout.splitlines()] == [
            "me/tool 3", "tool 90 [OK]", " 0",
        ]  # fmt: skip
        assert index.seen[-1][1] == "/v1/search?q=tool%20%26%20die&n=25"
        stars = docker_cli("search", "--filter", "stars=4", "--limit", "9", f"{index.host}/tool")
        assert stars.stdout.splitlines()[1].split() == ["tool", "the", "tool", "90", "[OK]"]
        assert index.seen[-1][1].endswith("&n=9")
        official = docker_cli("search", "--filter", "is-official=false", f"{index.host}/tool")
        assert "the tool" not in official.stdout
        wrong = docker_cli("search", "--filter", "colour=red", f"{index.host}/tool")
        assert (wrong.returncode, "invalid filter 'colour'" in wrong.stderr) == (1, True)
        wrong = docker_cli("search", "--limit", "101", f"{index.host}/tool")
        assert "Limit 101 is outside the range of [1, 100]" in wrong.stderr


def test_a_registry_without_an_index_is_not_an_empty_one(engine: Engine) -> None:
    with registry.http_server(lambda handler: registry.reply(handler, 404)) as index:
        done = engine.run("search", f"{index.host}/tool")
        assert done.returncode == 1
        assert "this registry has no search" in done.stderr


@pytest.mark.parametrize(
    ("term", "split"),
    [
        ("redis", ("docker.io", "redis")),
        ("library/redis", ("docker.io", "redis")),
        ("me/redis", ("docker.io", "me/redis")),
        ("reg.example:5000/a/b", ("reg.example:5000", "a/b")),
        ("localhost/a", ("localhost", "a")),
    ],
)
def test_where_a_term_is_looked_for(term: str, split: tuple[str, str]) -> None:
    assert split_term(term) == split


def test_a_url_is_no_term() -> None:
    with pytest.raises(InvalidInput, match="scheme"):
        split_term("https://x/y")
