"""Bent inputs and policies: judged or refused with a place, whatever is in them.

``ROOTLESS_FUZZ_SECONDS=600 ci/test fuzz`` is the long form; without it each test takes
a few seconds. The seed is printed with a failure, and ``ROOTLESS_FUZZ_SEED`` repeats it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import time
from collections.abc import Iterator
from functools import reduce
from pathlib import Path

import jsonschema_rs
import pytest

from rootless.check.inputs import units_of_text
from rootless.errors import InvalidInput
from rootless.policy.documents import InvalidPolicy
from rootless.policy.inputs.detect import FORMS, units_of
from rootless.policy.inputs.read import InputDocument, NotUnderstood, read_documents
from rootless.policy.judge import Judge, report
from rootless.policy.lint import lint
from rootless.policy.load import BUILTINS, builtin, load_policy
from rootless.policy.policy import meet
from rootless.policy.profiles import landlock, seccomp
from rootless.policy.reports import as_github, as_json, as_junit, as_sarif, as_text
from rootless.policy.reports.model import Result
from rootless.policy.writer import as_yaml
from tests.support.seeds import INPUTS, POLICIES, PROFILES, TOKENS, mutated
from tests.support.shared import shared_root
from tests.unit.policy.cases import HOME

SECONDS = float(os.environ.get("ROOTLESS_FUZZ_SECONDS", "3"))
_MAX_SEED = 20_000
_MAX_MEMORY = 1 << 20
"""KiB that all of this may take: the bounds of the reader are what keeps it."""
pytestmark = pytest.mark.timeout(SECONDS * 2 + 120)

_POLICY = reduce(meet, [builtin(name, HOME) for name in BUILTINS])
_EVERY = Judge(_POLICY, engine=True)


def corpus() -> list[bytes]:
    """Our own seeds, and the files of the external tables where they are."""
    root = shared_root() / "policy"
    files = [p for area in ("kics-compose", "compose-wild", "compose-spec", "pss")
             for p in sorted((root / area).rglob("*.y*ml"))]  # fmt: skip
    found = [path.read_bytes() for path in files]
    return [*INPUTS, *(data for data in found if len(data) < _MAX_SEED)]


def drawn(pool: list[bytes], what: str) -> Iterator[tuple[random.Random, bytes]]:
    """Bent members of a pool, for as long as there is time."""
    seed = int(os.environ.get("ROOTLESS_FUZZ_SEED") or time.time_ns())
    print(f"{what}: ROOTLESS_FUZZ_SEED={seed}")
    dice = random.Random(seed)
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        data = dice.choice(pool)
        if dice.random() < 0.2:  # two halves of different files
            other = dice.choice(pool)
            data = data[: dice.randrange(len(data) + 1)] + other[dice.randrange(len(other)) :]
        edits = [
            (dice.random(), dice.choice((0, 0, 1, 3, 20, 200)), _new(dice, pool))
            for _ in range(dice.choice((1, 1, 2, 3, 8)))
        ]
        yield dice, mutated(data, edits)
        count += 1
    print(f"{what}: {count} were tried")
    assert count
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < _MAX_MEMORY


def _new(dice: random.Random, pool: list[bytes]) -> bytes:
    match dice.randrange(4):
        case 0:
            return dice.choice(TOKENS)
        case 1:
            return dice.randbytes(dice.randrange(4))
        case 2:
            lines = dice.choice(pool).splitlines(keepends=True)
            return b"".join(lines[dice.randrange(len(lines)) :][: dice.randrange(4)])
    return dice.choice(TOKENS) * dice.choice((2, 50, 2000))


def _whole(results: list[Result], data: bytes) -> None:
    """Places are in the file, and every format can show it."""
    assert results
    lines = data.count(b"\n") + data.count(b"\r") + data.count("\u2028".encode()) + 1
    lines += data.count("\u2029".encode()) + data.count("\u0085".encode())
    for result in results:
        for entry in result.findings:
            assert 1 <= entry.at.line <= lines, entry
            assert entry.at.column >= 1, entry
    whole = report(_POLICY, results)
    for render in (as_text.render, as_sarif.render, as_junit.render, as_github.render):
        render(whole).encode("utf-8", "backslashreplace")
    _SCHEMA.validate(json.loads(as_json.render(whole)))


_ROOT = Path(__file__).resolve().parents[2]
_SCHEMA = jsonschema_rs.validator_for(
    json.loads((_ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
)


def test_inputs() -> None:
    for dice, data in drawn(corpus(), "inputs"):
        form = dice.choice((None, None, *FORMS))
        units = list(units_of_text(data, form))
        _whole([_EVERY.result(unit, "f") for unit in units], data)


def rules(documents: list[InputDocument]) -> list[tuple[str, list[str]]]:
    """Verdict and rules of each thing in these documents."""
    results = [_EVERY.result(unit, "f") for unit in units_of(documents, None, None)]
    return [(result.verdict, sorted(e.rule for e in result.findings)) for result in results]


def test_the_same_as_yaml_and_as_json() -> None:
    compared = 0
    for _, data in drawn(corpus(), "yaml and json"):
        try:
            documents = read_documents(data)
            text = "\n".join(json.dumps(d.value, ensure_ascii=False) for d in documents)
            again = read_documents(text.encode())
        except (NotUnderstood, UnicodeEncodeError):
            continue
        if not any(document.tagged for document in documents):
            assert rules(again) == rules(documents), text
            compared += 1
    assert compared


def test_policies() -> None:
    for _, data in drawn(POLICIES, "policies"):
        try:
            policy = load_policy(data.decode(errors="replace"), "f", home=HOME)
        except InvalidPolicy as error:
            complaints = error.context["complaints"]
            assert isinstance(complaints, list)
            assert complaints
            continue
        _whole([lint(policy, "f")], b"\n" * 10_000)
        if not policy.layers:
            same = load_policy(as_yaml(policy), "g", home=HOME)
            assert same.digest == policy.digest


def test_profiles() -> None:
    for dice, data in drawn(PROFILES, "profiles"):
        text = data.decode(errors="replace")
        union = dice.random() < 0.5
        for kind in (seccomp, landlock):
            try:
                parsed = kind.parse(text, "f")
                merged = kind.merge([parsed, parsed], union=union)
                again = kind.merge([kind.parse(json.dumps(merged), "g")], union=union)
            except InvalidInput:
                continue
            assert again == merged
