"""Merged profiles behave as the kernel does with all of them stacked: on the external table,
on random profiles, and on the profiles of the wild."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.check.merge import main
from rootless.errors import InvalidInput
from rootless.policy.profiles import landlock, seccomp
from rootless.policy.profiles.regions import FULL, comparison, describe, difference, interval
from rootless.seccomp.profile import parse_profile

ORDER = list(seccomp.ORDER)
Document = dict[str, Any]
VALUES = [0, 1, 2, 15, 16, 17, 37, 38, 39, 40, 41, 1 << 31, 1 << 63, FULL - 1, FULL]


def holds(arg: Document, args: list[int]) -> bool:
    value, wanted = args[arg["index"]], arg["value"]
    match arg["op"].removeprefix("SCMP_CMP_"):
        case "EQ":
            return value == wanted
        case "NE":
            return value != wanted
        case "LT":
            return value < wanted
        case "LE":
            return value <= wanted
        case "GT":
            return value > wanted
        case "GE":
            return value >= wanted
    return bool(value & wanted == arg.get("valueTwo", 0))


def matches(rule: Document, call: str, args: list[int]) -> bool:
    return call in rule["names"] and all(holds(arg, args) for arg in rule.get("args", []))


def answers(profile: Document, call: str, args: list[int]) -> list[str]:
    """The actions of every rule that matches, or the default's."""
    found = [rule["action"] for rule in profile.get("syscalls", []) if matches(rule, call, args)]
    return found or [profile["defaultAction"]]


def stacked(profiles: list[Document], call: str, args: list[int], choose: Any) -> int:
    return choose(  # type: ignore[no-any-return]  # choose is min or max
        min(ORDER.index(action) for action in answers(p, call, args)) for p in profiles
    )


def merged(profiles: list[Document], *, union: bool) -> Document:
    parsed = [seccomp.parse(json.dumps(p), f"p{i}") for i, p in enumerate(profiles)]
    return seccomp.merge(parsed, union=union)


def agrees(profiles: list[Document], calls: set[str], *, union: bool) -> None:
    one = merged(profiles, union=union)
    choose = max if union else min
    for call in {*calls, "nothing"}:
        for value in VALUES:
            for second in (0, 16):
                args = [value, second, 0, 0, 0, 0]
                found = answers(one, call, args)
                assert len(found) == 1, "rules overlap"
                assert ORDER.index(found[0]) == stacked(profiles, call, args, choose)


def names(profiles: list[Document]) -> set[str]:
    return {n for p in profiles for rule in p.get("syscalls", []) for n in rule["names"]}


def test_seccomp_sets_of_the_table(shared_data: Path) -> None:
    rows = (shared_data / "policy/profile-merge/visible.jsonl").read_text().splitlines()
    sets = [row for row in map(json.loads, rows) if row["type"] == "seccomp"]
    assert len(sets) == 60
    for row in sets:
        for union in (False, True):
            agrees(row["profiles"], names(row["profiles"]), union=union)


_arg = st.builds(
    lambda op, value, index, second: {
        "index": index, "op": f"SCMP_CMP_{op}", "value": value,
        **({"valueTwo": second & value} if op == "MASKED_EQ" else {}),
    },
    st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]),
    st.sampled_from(VALUES),
    st.sampled_from([0, 1]),
    st.sampled_from(VALUES),
)  # fmt: skip
_rule = st.builds(
    lambda name, action, args: {"names": [name], "action": action, "args": args},
    st.sampled_from(["clone", "socket"]),
    st.sampled_from(ORDER),
    st.lists(_arg, max_size=2, unique_by=lambda arg: arg["index"]),
)
_profile = st.builds(
    lambda default, rules: {"defaultAction": default, "syscalls": rules},
    st.sampled_from(ORDER),
    st.lists(_rule, max_size=3),
)


@given(st.lists(_profile, min_size=1, max_size=3), st.booleans())
def test_random_seccomp_profiles(profiles: list[Document], union: bool) -> None:
    agrees(profiles, {"clone", "socket"}, union=union)


def _one_argument(index: int, errno: int) -> Document:
    arg = {"index": index, "op": "SCMP_CMP_GT", "value": 15}
    rule = {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": [arg]}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}


@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=1, max_size=6))
def test_where_one_profile_cannot_be_a_shorter_list_is(indexes: list[int]) -> None:
    profiles = [_one_argument(index, errno) for errno, index in enumerate(indexes, 1)]
    parsed = [seccomp.parse(json.dumps(p), "p") for p in profiles]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seccomp, "_MAX_CELLS", 4)  # two arguments, each compared once
        try:
            stack = seccomp.merged(parsed, union=False)
        except seccomp.NoSingleProfile:
            raise AssertionError("two neighbours can always be merged") from None
    assert len(stack) == 1 or len(stack) < len(profiles)
    assert len(stack) > 1 or len(set(indexes)) <= 2
    for bits in range(16):
        args = [16 if bits >> index & 1 else 0 for index in range(4)]
        seen = [
            next((r["errnoRet"] for r in p.get("syscalls", []) if matches(r, "clone", args)), 0)
            for p in stack
        ]
        wanted = [errno for errno, index in enumerate(indexes, 1) if bits >> index & 1]
        assert next((errno for errno in reversed(seen) if errno), 0) == (wanted or [0])[-1]


def test_what_cannot_be_merged_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = []
    for index in (0, 1):
        names.append(str(tmp_path / f"{index}.json"))
        Path(names[-1]).write_text(json.dumps(_one_argument(index, 1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seccomp, "_MAX_CELLS", 2)
        assert main(["--kind", "seccomp", *names]) == 1
        assert "too many to merge" in capsys.readouterr().err
        assert main(["--kind", "seccomp", "--union", *names]) == 1
        capsys.readouterr()
        assert main(["--kind", "seccomp", names[0], names[0], names[1]]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2


@given(
    st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]),
    st.sampled_from(VALUES),
    st.sampled_from(VALUES),
    st.sampled_from(VALUES),
)
def test_regions_are_the_comparisons(op: str, value: int, second: int, probe: int) -> None:
    cubes = comparison(f"SCMP_CMP_{op}", value, second & value)
    inside = any(probe & mask == under for mask, under in cubes)
    arg = {"index": 0, "op": f"SCMP_CMP_{op}", "value": value, "valueTwo": second & value}
    assert inside == holds(arg, [probe])
    outside = difference([(0, 0)], cubes)
    assert any(probe & mask == under for mask, under in outside) != inside
    for part in (cubes, outside):
        written = [{"index": 0, **args} for args in describe(part)] if part else []
        assert sum(holds(arg, [probe]) for arg in written) == any(
            probe & mask == under for mask, under in part
        )


def test_intervals_are_few_blocks() -> None:
    assert interval(0, FULL) == [(0, 0)]
    assert len(interval(17, 37)) == 6
    assert interval(5, 4) == []


def test_the_profiles_of_docker_and_podman(shared_data: Path) -> None:
    texts = [
        (shared_data / "seccomp" / f"{name}-seccomp.json").read_text()
        for name in ("moby-default", "containers-common")
    ]
    one = seccomp.merge([seccomp.parse(text, "p") for text in texts], union=False)
    parse_profile(json.dumps(one))
    alone = seccomp.merge([seccomp.parse(texts[0], "p")] * 2, union=False)
    again = seccomp.merge([seccomp.parse(json.dumps(alone), "p")], union=False)
    assert alone == again


def test_conditions_on_capabilities_are_kept() -> None:
    rule = {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
    base = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}
    always = {"defaultAction": "SCMP_ACT_ALLOW"}
    [kept] = merged([base, always], union=False)["syscalls"]
    assert kept["includes"] == {"caps": ["CAP_SYS_ADMIN"]}
    denied = merged([base, always], union=True)
    assert denied["defaultAction"] == "SCMP_ACT_ALLOW"
    assert not denied["syscalls"]


def test_the_filter_loaded_last_decides_equals() -> None:
    def profile(errno: int) -> Document:
        entry = {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}
        return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}

    assert merged([profile(13), profile(38)], union=False)["syscalls"][0]["errnoRet"] == 38
    assert merged([profile(38), profile(13)], union=False)["syscalls"][0]["errnoRet"] == 13


def test_architectures_are_common_ones() -> None:
    def arches(*lists: list[str], union: bool = False) -> Any:
        profiles = [{"defaultAction": "SCMP_ACT_ALLOW", "architectures": a} for a in lists]
        return merged(profiles, union=union).get("architectures")

    assert arches(["SCMP_ARCH_X86"], ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]) == ["SCMP_ARCH_X86"]
    assert arches(["SCMP_ARCH_X86"], []) is None  # the machine's own only
    assert arches(["SCMP_ARCH_X86"], [], union=True) == ["SCMP_ARCH_X86"]


def allowed(rules: Document, access: str, path: str) -> bool:
    return access not in rules.get("handledAccessFs", []) or any(
        (path == r["path"] or path.startswith(r["path"].rstrip("/") + "/"))
        and access in r["accessFs"]
        for r in rules.get("pathRules", [])
    )


def connects(rules: Document, access: str, port: int) -> bool:
    return access not in rules.get("handledAccessNet", []) or any(
        r["port"] == port and access in r["accessNet"] for r in rules.get("netRules", [])
    )


def landlock_agrees(rulesets: list[Document], *, union: bool) -> None:
    parsed = [landlock.parse(json.dumps(r), f"r{i}") for i, r in enumerate(rulesets)]
    one = landlock.merge(parsed, union=union)
    every: Callable[[Any], bool] = any if union else all
    for access in ("execute", "read_file", "write_file", "truncate", "read_dir", "make_reg"):
        for path in ("/", "/var", "/var/x", "/var/x/y", "/variant", "/tmp", "/usr/bin", "/data"):
            assert allowed(one, access, path) == every(allowed(r, access, path) for r in rulesets)
    for access in ("bind_tcp", "connect_tcp"):
        for port in (22, 80, 443, 8080):
            assert connects(one, access, port) == every(connects(r, access, port) for r in rulesets)
    scopes = [set(r.get("scoped", [])) for r in rulesets]
    wanted = set.intersection(*scopes) if union else set.union(*scopes)
    assert set(one.get("scoped", [])) == wanted


def test_landlock_sets_of_the_table(shared_data: Path) -> None:
    rows = (shared_data / "policy/profile-merge/visible.jsonl").read_text().splitlines()
    sets = [row for row in map(json.loads, rows) if row["type"] == "landlock"]
    assert len(sets) == 40
    for row in sets:
        for union in (False, True):
            landlock_agrees(row["profiles"], union=union)


_accesses = st.lists(st.sampled_from(["execute", "read_file", "write_file"]), unique=True)
_ruleset = st.builds(
    lambda handled, rules: {
        "handledAccessFs": handled,
        "pathRules": [{"path": path, "accessFs": given} for path, given in rules],
    },
    _accesses,
    st.lists(
        st.tuples(st.sampled_from(["/", "/var", "/var/x", "/tmp"]), _accesses),
        max_size=4,
    ),
)


@given(st.lists(_ruleset, min_size=1, max_size=3), st.booleans())
def test_random_landlock_rules(rulesets: list[Document], union: bool) -> None:
    landlock_agrees(rulesets, union=union)


def test_refer_is_denied_by_who_does_not_handle_it() -> None:
    gives = {"handledAccessFs": ["refer"], "pathRules": [{"path": "/", "accessFs": ["refer"]}]}
    silent = {"handledAccessFs": ["execute"]}
    parsed = [landlock.parse(json.dumps(r), "r") for r in (gives, silent)]
    assert not allowed(landlock.merge(parsed, union=False), "refer", "/x")
    either = landlock.merge(parsed, union=True)
    assert "refer" in either["handledAccessFs"]
    assert allowed(either, "refer", "/x")


@pytest.mark.parametrize("key", ["syscalls", "architectures", "flags", "archMap", "args", "caps"])
@pytest.mark.parametrize("value", [1, True, "x", {"a": 1}])
def test_what_must_be_a_list(key: str, value: Any) -> None:
    rule = {"names": ["a"], "action": "SCMP_ACT_LOG"}
    nested = {"args": {**rule, "args": value}, "caps": {**rule, "includes": {"caps": value}}}
    more = {"syscalls": [nested[key]]} if key in nested else {key: value}
    with pytest.raises(InvalidInput, match="must be a list"):
        seccomp.parse(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **more}), "p")
    for rules in ("pathRules", "netRules"):
        with pytest.raises(InvalidInput, match=f"{rules} must be a list"):
            landlock.parse(json.dumps({rules: value}), "p")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"defaultAction": 1}', '{"defaultAction": "SCMP_ACT_X"}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "bogus": 1}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1]}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"]}]}',
     '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": '
     '"SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_NE", "value": 1}, '
     '{"index": 0, "op": "SCMP_CMP_NE", "value": 2}]}]}'],
)  # fmt: skip
def test_profiles_that_are_not_understood(text: str) -> None:
    with pytest.raises(InvalidInput, match="p: "):
        seccomp.parse(text, "p")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    two.write_text('{"defaultAction": "SCMP_ACT_LOG"}')
    assert main(["--kind", "seccomp", str(one), str(two)]) == 0
    assert json.loads(capsys.readouterr().out)["defaultAction"] == "SCMP_ACT_LOG"
    assert main(["--kind", "seccomp", "--union", str(one), str(two)]) == 0
    assert json.loads(capsys.readouterr().out)["defaultAction"] == "SCMP_ACT_ALLOW"
    assert main(["--kind", "landlock", str(one)]) == 2
    assert "this is not understood" in capsys.readouterr().err
    assert main(["--kind", "seccomp", str(tmp_path / "absent")]) == 2
    head = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: %s}\nextends: none\n"
    for path, name, low in ((one, "a", 5), (two, "b", 7)):
        path.write_text(head % name + f"spec: {{ports: {{minimumHostPort: {low}}}}}\n")
    assert main([str(one), str(two)]) == 0
    out = capsys.readouterr().out
    assert "minimumHostPort: 7" in out
    assert "name: a-b" in out
    (tmp_path / "again.yaml").write_text(out)
    assert main([str(tmp_path / "again.yaml")]) == 0
    assert main(["--union", str(one), str(two)]) == 0
    assert "minimumHostPort: 5" in capsys.readouterr().out.split("name: a-b")[-1]
    two.write_text("kind: Policy\n")
    assert main([str(one), str(two)]) == 3
