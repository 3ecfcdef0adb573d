"""Builds: what a Dockerfile says, what compose asks for, what the policy lets pass."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Denied
from rootless.model.build import BuildSpec
from rootless.policy.admission import admit_build
from rootless.policy.fields import FIELDS
from rootless.policy.inputs.compose import units_of
from rootless.policy.inputs.dockerfile import read_dockerfile
from rootless.policy.inputs.read import NotUnderstood, read_documents
from rootless.policy.inputs.unit import Container, Unit
from rootless.policy.judge import Judge
from rootless.policy.policy import Policy, join, meet
from tests.unit.policy.cases import IDENTITY, policy
from tests.unit.policy.test_merge import values_of

UNKNOWN = ""


def bases(text: str, args: dict[str, str] | None = None, **contexts: str) -> list[str]:
    return read_dockerfile(text, args or {}, contexts).bases


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("FROM a\n", ["a"]),
        ("# comment\n\n  from   a:1  as  x\nFROM x\n", ["a:1"]),
        ("FROM --platform=linux/amd64 a AS x\nFROM X AS y\nFROM y", ["a"]),
        ("FROM x\nFROM b AS x\n", ["x", "b"]),
        ("FROM scratch\nCOPY --from=b /a /\n", ["b"]),
        ("FROM a\nCOPY --chown=1:1 --from=0 /a /\nCOPY --from=1 /a /", ["a", "1"]),
        ("FROM a\nADD --from=c /a /\nRUN --mount=from=d,target=/d --mount=type=tmpfs,target=/t x",
         ["a", "c", "d"]),
        ("FROM a\nRUN echo --mount=from=d\nRUN x \\\n  FROM b\n", ["a"]),
        ("FROM \\\n  # between\n\n  a\n", ["a"]),
        ("# escape=`\nFROM a`\n:2\nRUN dir c:\\\nFROM b\n", ["a:2", "b"]),
        ("# syntax=x\n# escape=`\nFROM a`\n:2\n", ["a:2"]),
        ("FROM a\nRUN <<E <<-'F'\nFROM b\nE\nFROM c\n\tF\nFROM d\n", ["a", "d"]),
        ("FROM a\nCOPY <<E /x\nFROM b\nE\n", ["a"]),
        ("FROM a\nRUN <<E\nFROM b\n", ["a"]),
        ("ARG V=1\nARG B=a:$V\nFROM $B\nARG V=2\nFROM b:${V}\n", ["a:1", "b:1"]),
        ("ARG B='a b' C=\"c\"\nFROM $C\n", ["c"]),
        ("ARG B\nFROM ${B:-a}\nFROM ${B-b}\nFROM c${B:+d}\n", ["a", "b", "c"]),
        ("ARG B=x\nFROM ${B:-a}\nFROM y${B:+d}\n", ["x", "yd"]),
        ("ARG B\nFROM $B\nFROM ${TARGETARCH}-a\n", [UNKNOWN, UNKNOWN]),
        ("FROM a\nARG B=c\nFROM $B\nCOPY --from=$B / /\n", ["a", UNKNOWN, UNKNOWN]),
        ("FROM\n", [UNKNOWN]),
        ("FROM a\nONBUILD COPY --from=b / /\n", ["a"]),
    ],
)  # fmt: skip
def test_base_images(text: str, wanted: list[str]) -> None:
    assert bases(text) == wanted
    assert bases(text.replace("\n", "\r\n")) == wanted


def test_arguments_and_contexts_of_the_build() -> None:
    text = "ARG B=a\nFROM $B AS x\nCOPY --from=ctx / /\nCOPY --from=dir / /\n"
    found = bases(text, {"B": "b:2", "NEVER": "declared"}, CTX="docker-image://c:3", dir="../d")
    assert found == ["b:2", "c:3"]
    assert bases("FROM b\n", b="docker-image://other") == ["other"]
    assert bases("FROM $NEVER\n", {"NEVER": "declared"}) == [UNKNOWN]


def test_options_of_steps() -> None:
    found = read_dockerfile(
        "FROM a\nRUN --network=host --security=insecure x\nRUN --network=none y\n", {}, {}
    )
    assert (found.networks, found.insecure) == (["host", "none"], True)


@pytest.mark.parametrize("text", ["", "# only\n", "RUN x\n", "ARG FROM=a"])
def test_no_stage_is_not_understood(text: str) -> None:
    with pytest.raises(NotUnderstood, match="no FROM"):
        read_dockerfile(text, {}, {})


@given(st.text(alphabet=st.sampled_from("FROMARGUNCPY abx \n\t\\\"'$={}:-<#`,/0")))
def test_anything_is_read_or_not_understood(text: str) -> None:
    try:
        found = read_dockerfile(f"FROM a\n{text}", {"A": "b"}, {"x": "docker-image://y"})
    except NotUnderstood:
        pytest.fail("there is a stage")
    assert found.bases[0].startswith("a")


def project(text: str, directory: str | None = None) -> Unit:
    [unit] = units_of(read_documents(text.encode())[0], directory)
    return unit


def container(text: str, directory: str | None = None) -> Container:
    unit = project(text, directory)
    assert not unit.problems, unit.problems
    return unit.containers[0]


def test_the_file_of_the_context_is_read(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/Dockerfile").write_text("FROM debian:12\n")
    (tmp_path / "app/other").write_text("ARG B\nFROM $B\n")
    (tmp_path / "base.yaml").write_text("services: {base: {build: {context: app}}}")
    here = str(tmp_path)
    for body, wanted in (
        ("build: app", ("docker.io/library/debian:12",)),
        ("build: {context: ./app, dockerfile: other, args: [B=x/y]}", ("docker.io/x/y:latest",)),
        (f"build: {tmp_path}/app", ("docker.io/library/debian:12",)),
        ("build: .", None),
        ("build: https://git.example/a.git", None),
        ("build: {context: app, dockerfile: '..'}", None),
        ("extends: {service: base, file: base.yaml}", ("docker.io/library/debian:12",)),
    ):
        found = container(f"services: {{web: {{{body}}}}}", here).build
        assert found is not None
        assert found.bases == wanted, body
    nowhere = container("services: {web: {build: app}}").build
    assert nowhere is not None
    assert nowhere.bases is None
    assert container("services: {web: {image: a}}", here).build is None


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("3", "build must be a path or a mapping"),
        ("{context: ., contxt: a}", "a build has no 'contxt'"),
        ("{secrets: key}", "secrets must be a list"),
        ("{secrets: [{target: a}]}", "a secret must have a name"),
        ("{dockerfile_inline: RUN x}", "no FROM"),
        ("{args: 3}", "args must be a list"),
        ("{privileged: perhaps}", "privileged must be true or false"),
        ("{context: [a]}", "context must be a string"),
    ],
)
def test_what_is_no_build(build: str, message: str, tmp_path: Path) -> None:
    [problem] = project(f"services:\n  web:\n    build: {build}\n", str(tmp_path)).problems
    assert message in problem.message
    assert problem.path is not None
    assert problem.path[:3] == ("services", "web", "build")


def test_a_file_that_is_too_large_or_no_text(tmp_path: Path) -> None:
    for data in (b"FROM a\n" + b"#" * (1 << 20), b"FROM \xff\n"):
        (tmp_path / "Dockerfile").write_bytes(data)
        [problem] = project("services: {web: {build: .}}", str(tmp_path)).problems
        assert str(tmp_path / "Dockerfile") in problem.message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Dockerfile")
    found = container("services: {web: {build: .}}", str(tmp_path)).build
    assert found is not None
    assert found.bases is None


def test_findings_are_where_they_are_written() -> None:
    by = Judge(policy("  build: {denyArgs: [A], allowNetworks: [none], allowSecrets: []}\n"))
    text = (
        "services:\n  web:\n    build:\n      network: host\n      args:\n        B: x\n"
        "        A: y\n      secrets:\n        - s\n"
    )
    found = by.result(project(text), "f.yaml").findings
    assert {(e.rule, e.at.line) for e in found} == {
        ("build.network", 4),
        ("build.argument", 7),
        ("build.secret", 8),
    }


BUILD = BuildSpec("team/app:1", ("docker.io/library/debian:12",), ("none",))


@pytest.mark.parametrize(
    ("fields", "change", "rule"),
    [
        ("build: {allowBases: [docker.io/library/alpine:*]}", {}, "build.base"),
        ("build: {allowBases: [docker.io/library/debian:*]}", {"bases": None}, "build.base"),
        ("build: {allowBases: ['*']}", {"bases": (UNKNOWN,)}, "build.base"),
        ("images: {denyTags: ['12']}", {}, "images.tag"),
        ("images: {requireDigest: true}", {}, "images.digest"),
        ("images: {allowRegistries: [quay.io]}", {}, "images.allowed"),
        ("build: {allowNetworks: [none]}", {"networks": ("none", "host")}, "build.network"),
        ("namespaces: {allowHost: []}", {"networks": ("host",)}, "build.network"),
        ("build: {allowSecrets: [a*]}", {"secrets": ("ab", "b")}, "build.secret"),
        ("build: {allowSsh: false}", {"ssh": ("default",)}, "build.secret"),
        ("build: {denyArgs: [HTTP_*]}", {"args": ("HTTP_PROXY=x",)}, "build.argument"),
        ("build: {denySecretArgs: true}", {"args": ("TOKEN=c0ffee12",)}, "build.argument"),
        ("build: {allowInsecure: false}", {"insecure": True}, "build.insecure"),
        ("api: {denyActions: [image.build]}", {}, "api.action"),
    ],
)
def test_admission(fields: str, change: dict[str, Any], rule: str) -> None:
    """Each is denied by its field, and let pass without it."""
    asked = replace(BUILD, **change)
    assert admit_build(IDENTITY, asked, policy()).allowed
    with pytest.raises(Denied) as denied:
        admit_build(IDENTITY, asked, policy(f"  {fields}\n"))
    found = denied.value.context["findings"]
    assert isinstance(found, list)
    assert [item["rule"] for item in found] == [rule]


def test_a_policy_for_others_is_no_policy_for_this() -> None:
    more = "selector: {images: [docker.io/other/*]}\n"
    spec = "  build: {allowNetworks: []}\n"
    assert admit_build(IDENTITY, BUILD, policy(spec, more=more)).allowed
    with pytest.raises(Denied, match=r"build of team/app:1 denied .*build\.network"):
        admit_build(IDENTITY, BUILD, policy(spec, more="selector: {images: [docker.io/team/*]}\n"))


def builds() -> st.SearchStrategy[BuildSpec]:
    some = st.sampled_from(["docker.io/library/busybox:latest", "docker.io/a/b:edge", UNKNOWN])
    return st.builds(
        BuildSpec,
        name=st.just("team/app"),
        bases=st.none() | st.lists(some, max_size=2).map(tuple),
        networks=st.lists(st.sampled_from(["front", "host", "none"]), max_size=2).map(tuple),
        secrets=st.lists(st.sampled_from(["pypi-token", "key"]), max_size=2).map(tuple),
        ssh=st.sampled_from([(), ("default",)]),
        args=st.lists(st.sampled_from(["PATH=a", "LD_PRELOAD=b", "TOKEN=c0ffee1"])).map(tuple),
        insecure=st.booleans(),
    )


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    areas = ("build.", "images.allow", "images.deny", "namespaces.allowHost")
    keys = draw(st.sets(st.sampled_from([key for key in FIELDS if key.startswith(areas)])))
    return Policy(
        names=frozenset({draw(st.sampled_from("ab"))}),
        constraints={key: draw(values_of(FIELDS[key])) for key in keys},
    )


def lets(by: Policy, asked: BuildSpec) -> bool:
    try:
        return admit_build(IDENTITY, asked, by).allowed
    except Denied:
        return False


@given(policies(), policies(), builds())
def test_merged_policies_let_pass_what_both_do(a: Policy, b: Policy, asked: BuildSpec) -> None:
    assert lets(meet(a, b), asked) == (lets(a, asked) and lets(b, asked))
    if lets(a, asked) or lets(b, asked):
        assert lets(join(a, b), asked)
