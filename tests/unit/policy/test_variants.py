"""The external tables' files in other clothes: another syntax, order, wrapping or line ends
change no verdict, and lines follow."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rootless.policy.inputs.detect import units_of
from rootless.policy.inputs.read import read_documents
from rootless.policy.judge import Judge
from tests.unit.policy.test_tables import ids, judge, lines

Value = Any


def shuffled(value: Value, dice: random.Random) -> Value:
    if isinstance(value, dict):
        items = list(value.items())
        dice.shuffle(items)
        return {key: shuffled(item, dice) for key, item in items}
    return [shuffled(item, dice) for item in value] if isinstance(value, list) else value


def workload(kind: str, pod: Value) -> Value:
    """A workload whose template the pod is."""
    template = {"metadata": pod.get("metadata", {}), "spec": pod["spec"]}
    spec: Value = {"template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    made = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "other"}, "spec": spec}
    return {**made, **spec} if kind == "PodTemplate" else made


def nulls(pod: Value) -> Value:
    """The same with everything absent written as null."""
    spec = {"securityContext": None, "volumes": None, "ephemeralContainers": None, **pod["spec"]}
    for name in ("containers", "initContainers"):
        if spec.get(name):
            empty = {"securityContext": None, "ports": None, "livenessProbe": None}
            spec[name] = [{**empty, **container} for container in spec[name]]
    return {**pod, "spec": spec, "status": None}


def texts(pod: Value, dice: random.Random) -> Iterator[tuple[str, str]]:
    block = yaml.safe_dump(pod)
    yield "json", json.dumps(shuffled(pod, dice))
    yield "block", block
    yield "flow", yaml.safe_dump(pod, default_flow_style=True)
    yield "crlf", "\ufeff" + block.replace("\n", "\r\n")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    yield "beside", yaml.safe_dump_all([service, pod])
    yield "list", json.dumps({"apiVersion": "v1", "kind": "List", "items": [service, pod]})
    yield "nulls", json.dumps(nulls(pod))
    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController",
                 "Job", "CronJob", "PodTemplate"):  # fmt: skip
        yield kind, json.dumps(workload(kind, pod))


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_pods_are_judged_by_what_they_say(shared_data: Path, level: str) -> None:
    root = shared_data / "policy" / "pss"
    dice = random.Random(level)
    judges: dict[str, Judge] = {}
    for row in lines(root / "CROSS.jsonl"):
        pod = read_documents((root / row["path"]).read_bytes())[0].value
        wanted = {key: checks for key, checks in row["verdicts"].items() if key.startswith(level)}
        for name, text in dice.sample(list(texts(pod, dice)), 4):
            key = dice.choice(sorted(wanted))  # of all revisions one
            version = key.partition(":v")[2]
            by = judges.setdefault(version, judge(f"builtin:pss-{level}@{version}"))
            units = units_of(read_documents(text.encode()), None, None)
            found = [by.result(unit, "input") for unit in units]
            assert ids(found, "pss") == sorted(wanted[key]), (name, row["path"], key)


Change = tuple[Callable[[str], str], Callable[[int], int]]
CHANGES: dict[str, Change] = {
    "crlf": (lambda text: text.replace("\n", "\r\n"), lambda line: line),
    "mark": (lambda text: f"\ufeff{text}", lambda line: line),
    "comments": (
        lambda text: "".join(f"# a: - b\n{line}" for line in text.splitlines(keepends=True)),
        lambda line: 2 * line,
    ),
    "document": (lambda text: f"---\n{text}\n...\n", lambda line: line + 1),
    "extension": (lambda text: f"x-a: &a\n  b: c\n{text}", lambda line: line + 2),
    "blank lines": (lambda text: text.replace("\n", "\n\n"), lambda line: 2 * line - 1),
    "quoted keys": (
        lambda text: re.sub(r"(?m)^(\s*)([a-z_]+):(\s)", r'\1"\2":\3', text),
        lambda line: line,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_lines_of_compose_files_follow(shared_data: Path, change: str) -> None:
    root = shared_data / "policy" / "kics-compose"
    by = judge("builtin:cis-docker")
    bend, moved = CHANGES[change]
    rows = csv.DictReader((root / "INDEX.tsv").read_text().splitlines(), delimiter="\t")
    for row in rows:
        path = root / row["file"]
        text = bend(path.read_text(encoding="utf-8").removeprefix("\ufeff"))
        units = units_of(read_documents(text.encode()), None, str(path.parent))
        numbers = set(row["cis"].split("/"))
        hits = {
            entry.at.line
            for unit in units
            for entry in by.result(unit, "f").findings
            if numbers & {r.id for r in entry.references if r.standard == "cis-docker"}
            or (row["cis"] == "-" and entry.rule == "mounts.shared-volume")
        }
        wanted = {moved(int(line)) for line in row["expected_lines"].split(",") if line}
        assert wanted <= hits if row["kind"] == "positive" else not hits, row["file"]
