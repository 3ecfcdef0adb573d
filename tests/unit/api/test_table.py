"""Every endpoint and field of the description has its place, and docs/api.md tells the truth."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rootless.api.dto.create import CreateBody
from rootless.api.dto.decode import Body
from rootless.api.dto.host_config import UpdateBody
from rootless.api.fields import SUPPORTED
from rootless.api.router import Route
from rootless.api.routes import table
from rootless.api.routes.table import ROUTES
from tests.support import apitable
from tests.support.apitable import Entry, body_fields, plain_path
from tests.support.swagger import Description
from tests.unit.api.conftest import Served

OPEN = {("GET", "/containers/{}/attach/ws")}
"""Rows without a plain answer, which other tests try."""


def key(method: str, path: str) -> tuple[str, str]:
    return method, re.sub(r"\{\w+\}", "{}", plain_path(path))


ROWS = {key(route.method, route.path): route for route in ROUTES}


def test_every_endpoint_of_the_description_is_a_row(docker_description: Description) -> None:
    assert {key(*one) for one in docker_description.paths()} - ROWS.keys() == set()


def test_every_parameter_of_the_description_is_listed(docker_description: Description) -> None:
    missing = []
    for method, path in docker_description.paths():
        row = ROWS[key(method, path)]
        for name in docker_description.parameters(method, path, "query"):
            if name not in row.query:
                missing.append(f"{method} {path}: {name}")
    assert missing == []


def test_every_field_of_the_description_is_listed(docker_description: Description) -> None:
    missing = []
    for method, path in docker_description.paths():
        row = ROWS[key(method, path)]
        if row.refused:
            continue
        known = {one.path: one for one in body_fields(row.body)} if row.body else {}
        closed = tuple(p + end for p, one in known.items() if one.treatment.how == "refused"
                       for end in (".", "[", "{"))  # fmt: skip
        for field in docker_description.body_fields(method, path):
            if field not in known and not field.startswith(closed):
                missing.append(f"{method} {path}: {field}")
    assert missing == []


def test_the_page_is_made_from_the_code(repository: Path) -> None:
    page = (repository / "docs/api.md").read_text()
    assert page == apitable.render(), "python -m tests.support.apitable > docs/api.md"


def words_of(module: ModuleType) -> set[str]:
    """Every text in the functions of a module."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found |= {
                one.value for one in ast.walk(node)
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            }  # fmt: skip
    return found


def test_what_is_supported_is_read() -> None:
    """A parameter that no handler asks for has a note that says why."""
    modules = [found for found in vars(table).values() if isinstance(found, ModuleType)]
    read = set().union(*map(words_of, modules), ["filters"])
    idle = [
        f"{route.method} {route.path}: {name}"
        for route in ROUTES
        for name, treatment in route.query.items()
        if not route.refused and treatment == SUPPORTED and name not in read
    ]
    assert idle == []


def with_value(path: str, kind: str) -> Any:
    """A body that asks for something at ``path``."""
    head, *rest = re.split(r"\.(?=\w)", path, maxsplit=1)
    name, marks = re.fullmatch(r"(\w+)((?:\[\]|\{\})*)", head).groups()  # type: ignore[union-attr]  # None fails the test
    value: Any = with_value(rest[0], kind) if rest else SAMPLES[kind]
    for mark in reversed(re.findall(r"\[\]|\{\}", marks)):
        value = [value] if mark == "[]" else {"a": value}
    return {name: value}


SAMPLES = {
    "string": "x", "integer": 1, "boolean": True, "object": {"x": "y"}, "string[]": ["x"],
    "object[]": [{}],
}  # fmt: skip


def without_effect() -> Iterator[tuple[Route, Entry]]:
    for route in ROUTES:
        if route.body is None:
            continue
        for entry in body_fields(route.body):
            if entry.treatment.how != "supported":
                yield route, entry


def address(route: Route, ref: str, exec_id: str) -> str:
    path = plain_path(route.path).replace("/exec/{id}", f"/exec/{exec_id}")
    path = path.replace("/containers/{id}", f"/containers/{ref}")
    return re.sub(r"\{\w+\}", "busybox", path)


BASE: dict[type[Body], dict[str, Any]] = {CreateBody: {"Image": "busybox"}}


@pytest.mark.parametrize(
    ("route", "entry"),
    [*without_effect()],
    ids=lambda one: one.path if isinstance(one, Entry) else f"{one.method}{one.path}",
)
async def test_fields_without_effect_are_told(served: Served, route: Route, entry: Entry) -> None:
    ref = await served.create("silent")
    assert route.body is not None
    body = {**BASE.get(route.body, {}), **with_value(entry.path, entry.kind)}
    path = address(route, ref, "x") + (f"?container={ref}" if route.path == "/commit" else "")
    answer = await served.request(route.method, path, body)
    # A mapping's keys are in the message's path as the client wrote them.
    told = re.sub(r"\[\]", "[0]", entry.path).replace("{}.", ".a.")
    if entry.treatment.how == "refused":
        wanted = f"{told} is not supported: {entry.treatment.note}"
        assert (answer.status, answer.message) == (400, wanted)
        return
    warning = f"field {told} was ignored: {entry.treatment.note}"
    assert answer.status < 300, answer.body
    if route.body in (CreateBody, UpdateBody):
        assert warning in answer.json()["Warnings"]
    else:
        assert answer.headers["warning"] == f'299 rootless "{warning}"'


QUERIES = [
    (route, name)
    for route in ROUTES
    for name, treatment in route.query.items()
    if treatment.how != "supported"
]


@pytest.mark.parametrize(("route", "name"), QUERIES, ids=lambda one: getattr(one, "path", one))
async def test_parameters_without_effect_are_told(served: Served, route: Route, name: str) -> None:
    ref = await served.create("silent")
    path = address(route, ref, "x")
    treatment = route.query[name]
    answer = await served.request(route.method, f"{path}?{name}=1")
    if treatment.how == "refused":
        wanted = f"parameter {name} is not supported: {treatment.note}"
        assert (answer.status, answer.message) == (400, wanted)
    else:
        warning = f"parameter {name} was ignored: {treatment.note}"
        assert (answer.status, answer.headers["warning"]) == (200, f'299 rootless "{warning}"')
    assert "warning" not in (await served.request(route.method, f"{path}?{name}=false")).headers


async def test_unknown_parameters_are_told(served: Served) -> None:
    path = '/containers/json?al=1&al=2&%22%5C%C3%A9%0a="'
    answer = await served.request("GET", path)
    assert answer.status == 200
    assert answer.headers["warning"] == (
        '299 rootless "parameter al is not known and was ignored", '
        '299 rootless "parameter al is not known and was ignored", '
        '299 rootless "parameter \\"\\\\?? is not known and was ignored"'
    )
    many = await served.request("GET", "/info?" + "&".join(f"x{n}=" for n in range(1000)))
    assert many.headers["warning"].count("299 rootless") == 17
    assert many.headers["warning"].endswith('"and 984 more"')


async def test_no_row_answers_501_or_crashes(served: Served) -> None:
    """The least request to each row: an answer of Docker's kind, and nothing of a 5xx but Swarm."""
    for (method, path), route in ROWS.items():
        if (method, path) in OPEN or route.disconnect == "cancel":
            continue
        ref = await served.create("silent")
        answer = await served.request(method, address(route, ref, "none"))
        assert answer.status < 500 or answer.status == 503, (method, path, answer.body)
        if answer.status >= 400 and method != "HEAD":
            assert answer.json().keys() == {"message"}


async def test_streams_and_upgrades_warn_in_their_heads(served: Served) -> None:
    ref = await served.create("echo")
    made = await served.json("POST", f"/containers/{ref}/exec", {"Cmd": ["x"]}, status=201)
    async with await served.connect() as client:
        client.send("POST", f"/exec/{made['Id']}/start?odd=1", {"Dettach": True},
                    Connection="Upgrade", Upgrade="tcp")  # fmt: skip
        answer = await client.read_head()
    assert answer.status == 101
    assert answer.headers["warning"] == (
        '299 rootless "parameter odd is not known and was ignored", '
        '299 rootless "field Dettach is not known and was ignored"'
    )
    async with await served.connect() as client:
        client.send("GET", "/events?filter=x")
        answer = await client.read_head()
    assert (
        answer.headers["warning"] == '299 rootless "parameter filter is not known and was ignored"'
    )
