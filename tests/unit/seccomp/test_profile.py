"""Parsing and resolving profiles."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import seccomp
from rootless.resources import resource_path
from rootless.seccomp.profile import MAX_SIZE, OPERATORS, parse_profile, resolve


def profile(*rules: dict[str, Any], **top: Any) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **top})


def allow(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **more}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "JSON"),
        ("[" * 100000, "JSON"),
        ("[]", "top level"),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "defaultAction": "SCMP_ACT_ERRNO"}', "twice"),
        ("{}", "defaultAction"),
        (profile(surprise=1), "unknown key 'surprise'"),
        (profile(listenerPath="/run/x.sock"), "listenerPath"),
        (profile(defaultErrnoRet=-1), "defaultErrnoRet|default"),
        (profile(defaultErrnoRet=True), "True"),
        (profile(defaultErrno="EBOGUS"), "EBOGUS"),
        (profile(defaultErrno="EPERM", defaultErrnoRet=38), "38 is not EPERM"),
        (profile(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]), r"flags\[0\]"),
        (profile(architectures=["SCMP_ARCH_Z80"]), r"architectures\[0\]"),
        (profile(archMap=[{"architecture": "amd64"}]), r"archMap\[0\].architecture"),
        (
            profile(
                architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86_64"}]
            ),
            "both archMap and architectures",
        ),
        (profile(allow("read"), {"names": ["x"], "action": "ALLOW"}), r"syscalls\[1\].action"),
        (profile({"names": ["x"], "action": "SCMP_ACT_NOTIFY"}), "NOTIFY"),
        (profile(allow()), r"syscalls\[0\]: names no system call"),
        (profile(allow("read", name="write")), "both name and names"),
        (profile(allow("read", "wr ite")), r"names\[1\]"),
        (profile(allow("read", errnoRet=1)), "errnoRet has no meaning"),
        (profile(allow("read", include={"caps": ["CAP_KILL"]})), "unknown key 'include'"),
        (profile(allow("read", includes={"caps": ["KILL"]})), r"includes.caps\[0\]"),
        (profile(allow("read", includes={"arches": ["x86_64"]})), r"includes.arches\[0\]"),
        (profile(allow("read", excludes={"minKernel": "new"})), "excludes.minKernel"),
        (profile(allow("read", args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])), "index"),
        (profile(allow("read", args=[{"index": 0, "value": 0, "op": "=="}])), r"args\[0\].op"),
        (profile(allow("read", args=[{"index": 0, "value": 1 << 64, "op": "SCMP_CMP_EQ"}])), "val"),
        (
            profile(
                allow(
                    "read",
                    args=[
                        {"index": 0, "value": 1, "op": "SCMP_CMP_GE"},
                        {"index": 0, "value": 5, "op": "SCMP_CMP_LE"},
                    ],
                )
            ),
            "twice",
        ),
        (
            profile(
                allow(
                    "read",
                    args=[{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}],
                )
            ),
            "outside the mask",
        ),
        (" " * (MAX_SIZE + 1), "more than"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(InvalidInput, match=place):
        parse_profile(text)


def test_docker_and_podman_forms_are_read(shared_data: Path) -> None:
    for name in ("moby-default-seccomp.json", "containers-common-seccomp.json"):
        parsed = parse_profile((shared_data / "seccomp" / name).read_text())
        resolved = resolve(parsed, (), "x86_64", (6, 1))
        assert {rule.name for rule in resolved.rules} >= {"read", "execve", "socket"}


def test_old_form_with_name_and_architectures() -> None:
    parsed = parse_profile(
        profile(
            {"name": "read", "action": "SCMP_ACT_ALLOW", "args": None},
            architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        )
    )
    resolved = resolve(parsed, (), "x86_64", (6, 1))
    assert [arch.scmp for arch in resolved.arches] == ["X86_64", "X86"]
    assert [rule.name for rule in resolved.rules] == ["read"]
    assert resolved.default == seccomp.RET_ERRNO | 1


def names(
    text: str, *caps: str, arch: str = "x86_64", kernel: tuple[int, int] = (6, 1)
) -> set[str]:
    return {rule.name for rule in resolve(parse_profile(text), caps, arch, kernel).rules}


def test_conditions() -> None:
    text = profile(
        allow("a", includes={"caps": ["CAP_KILL", "CAP_CHOWN"]}),
        allow("b", excludes={"caps": ["CAP_KILL", "CAP_CHOWN"]}),
        allow("c", includes={"arches": ["arm64"]}),
        allow("d", excludes={"arches": ["arm64", "arm"]}),
        allow("e", includes={"minKernel": "5.13"}),
        allow("f", excludes={"minKernel": "5.13"}),
    )
    assert names(text) == {"b", "d", "e"}
    assert names(text, "CAP_KILL") == {"d", "e"}
    assert names(text, "CAP_KILL", "CAP_CHOWN") == {"a", "d", "e"}
    assert names(text, arch="aarch64", kernel=(5, 12)) == {"b", "c", "f"}
    assert names(text, kernel=(5, 13)) == {"b", "d", "e"}


def test_of_two_plain_rules_the_stricter_counts() -> None:
    deny = {"names": ["setns"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    for rules in ((allow("setns"), deny), (deny, allow("setns"))):
        resolved = resolve(parse_profile(profile(*rules)), (), "x86_64", (6, 1))
        assert [(r.name, r.action) for r in resolved.rules] == [("setns", seccomp.RET_ERRNO | 1)]


def test_a_denial_with_arguments_cannot_hide_behind_an_allowance() -> None:
    deny = {
        "names": ["socket"],
        "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}],
    }
    with pytest.raises(InvalidInput, match="cannot express"):
        resolve(parse_profile(profile(allow("socket"), deny)), (), "x86_64", (6, 1))


def test_unknown_machine() -> None:
    with pytest.raises(HostUnsupported, match="vax"):
        resolve(parse_profile(profile()), (), "vax", (6, 1))


def test_the_default_profile_allows_nothing_docker_denies(shared_data: Path) -> None:
    """By names and without capabilities, but for the harmless calls listed here."""
    ours = resource_path("profiles", "seccomp/default.json").read_text()
    moby = (shared_data / "seccomp" / "moby-default-seccomp.json").read_text()

    def allowed(text: str) -> set[str]:
        resolved = resolve(parse_profile(text), (), "x86_64", (6, 18))
        return {r.name for r in resolved.rules if r.action == seccomp.RET_ALLOW}

    extra = allowed(ours) - allowed(moby)
    # file_[gs]etattr are ioctls made calls, uprobe is the kernel's own trampoline, and the
    # rest are 32-bit forms of calls that are allowed under their newer names.
    assert extra <= {
        "file_getattr", "file_setattr", "uprobe", "sigaction", "signal", "sigpending",
        "sigsuspend", "sync_file_range2",
    }  # fmt: skip
    gone = {
        "io_uring_setup", "keyctl", "add_key", "request_key", "userfaultfd", "bpf", "ptrace",
        "perf_event_open", "process_vm_readv", "process_vm_writev", "clone3", "fsopen", "mount",
        "move_mount", "open_tree", "unshare", "setns", "kexec_load", "socketcall", "vmsplice",
        "modify_ldt", "open_by_handle_at", "pivot_root",
    }  # fmt: skip
    assert not gone & allowed(ours)


_condition = st.fixed_dictionaries(
    {},
    optional={
        "caps": st.lists(st.sampled_from(["CAP_KILL", "CAP_SYS_ADMIN"]), max_size=2),
        "arches": st.lists(st.sampled_from(["amd64", "arm64"]), max_size=2),
        "minKernel": st.sampled_from(["4.8", "6.0"]),
    },
)
_rule = st.fixed_dictionaries(
    {
        "names": st.lists(st.sampled_from(["read", "clone", "bpf"]), min_size=1, max_size=3),
        "action": st.sampled_from(["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL"]),
    },
    optional={
        "includes": _condition,
        "excludes": _condition,
        "args": st.lists(
            st.fixed_dictionaries(
                {
                    "index": st.integers(0, 5),
                    "value": st.integers(0, (1 << 64) - 1),
                    "op": st.sampled_from(sorted(OPERATORS)),
                }
            ),
            max_size=1,
        ),
    },
)


@given(st.lists(_rule, max_size=6))
def test_a_capability_never_changes_rules_that_do_not_mention_it(rules: list[Any]) -> None:
    text = profile(*rules)
    parsed = parse_profile(text)
    try:
        without = resolve(parsed, (), "x86_64", (6, 1))
        with_cap = resolve(parsed, ("CAP_CHOWN",), "x86_64", (6, 1))
    except InvalidInput:
        return
    assert without == with_cap


_keys = st.sampled_from(
    ["defaultAction", "syscalls", "names", "args", "archMap", "includes", "minKernel", "caps"]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("SCMP_ACT_ERRNO"),
    lambda children: st.lists(children) | st.dictionaries(_keys, children),
)


@given(_json, _json)
def test_any_json_is_a_profile_or_one_clear_error(value: Any, other: Any) -> None:
    rule = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": value, "args": other}
    for document in (
        value,
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": value},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [value], "archMap": other},
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]},
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{**rule, "args": [value], "includes": {"minKernel": other}}],
        },
    ):
        with contextlib.suppress(InvalidInput):
            parse_profile(json.dumps(document))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_profile_or_one_clear_error(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_profile(data)
