"""The external tables: verdicts and check ids of others' implementations, row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless.policy.inputs.detect import units_of
from rootless.policy.inputs.read import InputDocument, NotUnderstood, Place, read_documents
from rootless.policy.judge import Judge
from rootless.policy.load import load_named
from rootless.policy.podsecurity.checks import CHECKS, REVISIONS
from rootless.policy.reports.model import Result
from tests.unit.policy.cases import HOME

HOLES = {
    ("5.26", "no-new-privileges:false"),
    ("5.3", "label=disable"),
    ("5.22", "seccomp=/p.json"),
    ("4.1", "user-0:0"),
    ("4.1", "user-root:root"),
    ("4.1", "user-1000:0"),
    ("5.6", "bind-/-ro"),
    ("5.6", "bind-/etc/ssh-rw"),
    ("5.6", "bind-/root-rw"),
    ("5.6", "bind-/var/lib/docker-rw"),
    ("5.6", "bind-/var/run-rw"),
    ("5.6", "bind-/usr/share/"),
    ("5.32", "containerd.sock"),
    ("5.32", "podman.sock"),
    ("5.32", "bind-/var/run-"),
    ("5.32", "bind-/run-"),
    ("C.5.3.1", "'ALL'"),
    ("C.5.3.2", "'ALL'"),
    ("C.5.3.3", "'ALL'"),
    ("C.5.3.4", "'ALL'"),
    ("5.8", "ports-1024"),
    ("5.15", "restart-always"),
}
"""Where HOLES.md says that docker-bench is too lax (or, at port 1024, too strict)."""


def judge(policy: str) -> Judge:
    return Judge(load_named(policy, home=HOME, where="test"))


def lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def results(found: Judge, value: Any) -> list[Result]:
    units = units_of([InputDocument(0, value, text=json.dumps(value))], None, None)
    return [found.result(unit, "input") for unit in units]


def ids(found: list[Result], standard: str) -> list[str]:
    assert all(result.verdict != "not-understood" for result in found), found
    return sorted(
        {r.id for x in found for e in x.findings for r in e.references if r.standard == standard}
    )


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_every_pod_security_fixture_at_every_revision(shared_data: Path, level: str) -> None:
    root = shared_data / "policy" / "pss"
    judges = {minor: judge(f"builtin:pss-{level}@1.{minor}") for minor in REVISIONS}
    rows = list(lines(root / "CROSS.jsonl"))
    assert rows
    for row in rows:
        value = read_documents((root / row["path"]).read_bytes())[0].value
        for key, wanted in row["verdicts"].items():
            at, _, version = key.partition(":v1.")
            if at == level:
                found = results(judges[int(version)], value)
                assert ids(found, "pss") == sorted(wanted), (row["path"], key)
                assert (found[0].verdict == "fail") == bool(wanted)


def test_the_index_of_the_fixtures(shared_data: Path) -> None:
    root = shared_data / "policy" / "pss"
    for row in csv.DictReader((root / "INDEX.tsv").read_text().splitlines(), delimiter="\t"):
        minors = [int(v.partition(".")[2]) for v in row["versions"].split("-")]
        value = read_documents((root / row["path"]).read_bytes())[0].value
        for minor in minors:
            found = results(judge(f"builtin:pss-{row['level']}@1.{minor}"), value)
            assert (found[0].verdict == "fail") == (row["verdict"] == "fail"), row["path"]
            assert ids(found, "pss") == sorted(filter(None, row["checks"].split(";"))), row["path"]


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_manifests_of_the_wild(shared_data: Path, level: str) -> None:
    found = judge(f"builtin:pss-{level}")
    for row in lines(shared_data / "policy" / "pss-wild" / "visible.jsonl"):
        wanted = row["expect"][level]
        judged = results(found, row["manifest"])
        assert ids(judged, "pss") == sorted(wanted["checks"]), row["id"]
        assert (judged[0].verdict == "pass") == wanted["allowed"], row["id"]


def test_the_pods_of_upstreams_own_tests(shared_data: Path) -> None:
    for row in lines(shared_data / "policy" / "pss-wild" / "unit-visible.jsonl"):
        for key, wanted in row["expect"].items():
            level, _, version = key.partition(":v")
            judged = results(judge(f"builtin:pss-{level}@{version}"), row["manifest"])
            assert ids(judged, "pss") == sorted(wanted), (row["id"], key)


def test_the_checks_are_those_of_the_standard(shared_data: Path) -> None:
    text = (shared_data / "policy" / "pss-checks.tsv").read_text()
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    assert {row["check"]: row["level"] for row in rows} == {c.id: c.level for c in CHECKS}
    for row in rows:
        since = {c.id: c.since for c in CHECKS}[row["check"]]
        assert since == int(row["revisions"].split(",")[0].partition(".")[2])


def test_docker_bench_on_inspect_documents(shared_data: Path) -> None:
    found = judge("builtin:cis-docker")
    count = 0
    for row in lines(shared_data / "policy" / "cis-inspect" / "visible.jsonl"):
        have = ids(results(found, row["inspect"]), "cis-docker")
        for check, verdict in row["expect"].items():
            count += 1
            agrees = (check in have) == (verdict != "PASS")
            hole = any(check == c and part in row["case"] for c, part in HOLES)
            assert agrees or hole, (row["id"], row["case"], check, verdict)
    assert count > 3000


def test_docker_bench_holes_are_closed(shared_data: Path) -> None:
    found = judge("builtin:cis-docker")
    rows = lines(shared_data / "policy" / "cis-inspect" / "visible.jsonl")
    row = next(row for row in rows if row["case"] == "apparmor-my-profile")
    base = row["inspect"]
    for check, area, change in (
        ("5.26", "HostConfig", {"SecurityOpt": ["no-new-privileges:false"]}),
        ("5.3", "HostConfig", {"SecurityOpt": ["label=disable", "no-new-privileges"]}),
        ("5.22", "HostConfig", {"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']}),
        ("4.1", "Config", {"User": "0:0"}),
        ("4.1", "Config", {"User": "1000:root"}),
        ("C.5.3.2", "HostConfig", {"CapAdd": ["all"]}),
        ("5.15", "HostConfig", {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}),
        ("5.14", "HostConfig", {"PortBindings": {"80/tcp": [{"HostIp": "::", "HostPort": "9"}]}}),
        ("5.9", "HostConfig", {"PortBindings": {"80/tcp": [{"HostIp": "::", "HostPort": "9"}]}}),
    ):
        assert check not in ids(results(found, base), "cis-docker")
        changed = {**base, area: {**base[area], **change}}
        assert check in ids(results(found, changed), "cis-docker"), check
    quota = {**base, "HostConfig": {**base["HostConfig"], "CpuShares": 0, "CpuQuota": 5000}}
    assert "5.12" not in ids(results(found, quota), "cis-docker")


def _rows(root: Path) -> Iterator[dict[str, str]]:
    yield from csv.DictReader((root / "INDEX.tsv").read_text().splitlines(), delimiter="\t")


def test_compose_files_at_the_expected_lines(shared_data: Path) -> None:
    root = shared_data / "policy" / "kics-compose"
    found = judge("builtin:cis-docker")
    for row in _rows(root):
        path = root / row["file"]
        units = units_of(read_documents(path.read_bytes()), None, str(path.parent))
        entries = [e for u in units for e in found.result(u, str(path)).findings]
        numbers = set(row["cis"].split("/"))
        hits = [
            entry.at.line
            for entry in entries
            if numbers & {r.id for r in entry.references if r.standard == "cis-docker"}
            or (row["cis"] == "-" and entry.rule == "mounts.shared-volume")
        ]
        wanted = {int(line) for line in row["expected_lines"].split(",") if line}
        if row["kind"] == "negative":
            assert not hits, row["file"]
        else:
            assert wanted <= set(hits), (row["file"], hits)


def test_every_other_compose_file_is_understood_or_refused_with_a_place(shared_data: Path) -> None:
    root = shared_data / "policy"
    files = [*(root / "compose-wild").glob("*/*"), *(root / "compose-spec").rglob("*.yaml")]
    assert len(files) > 60
    found = judge("builtin:cis-docker")
    understood = 0
    places: list[Place | None] = []
    for path in files:
        try:
            documents = read_documents(path.read_bytes())
        except NotUnderstood as problem:
            places.append(problem.place)
            continue
        for unit in units_of(documents, None, str(path.parent)):
            result = found.result(unit, str(path))
            understood += result.verdict != "not-understood"
            assert all(entry.at.line >= 1 and entry.at.column >= 1 for entry in result.findings)
    assert understood > 60
    assert None not in places
