"""Compiled filters, judged by evaluating them."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import seccomp
from rootless.resources import resource_path
from rootless.seccomp import bpf
from rootless.seccomp.compile import (
    CompiledFilter,
    compile_filter,
    filter_for,
    read_raw,
    store_raw,
)
from rootless.seccomp.names import call_name
from rootless.seccomp.profile import OPERATORS, parse_profile, resolve

X86_64 = 0xC000003E
X86 = 0x40000003
ALLOW = seccomp.RET_ALLOW
EPERM = seccomp.RET_ERRNO | 1
ENOSYS = seccomp.RET_ERRNO | 38

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="numbers of x86_64 are written out here"
)


def compiled(text: str, *caps: str) -> CompiledFilter:
    return compile_filter(resolve(parse_profile(text), caps, "x86_64", (6, 18)))


def answer(result: CompiledFilter, number: int, *args: int, arch: int = X86_64) -> int:
    return bpf.evaluate(bpf.decode(result.bpf), number, arch, args)


@pytest.fixture(scope="module")
def default() -> CompiledFilter:
    return compiled(resource_path("profiles", "seccomp/default.json").read_text())


@pytest.mark.parametrize(
    ("number", "args", "expected"),
    [
        (0, (), ALLOW),  # read
        (59, (), ALLOW),  # execve
        (41, (1,), ALLOW),  # socket AF_UNIX
        (41, (16, 3, 0), ALLOW),  # NETLINK_ROUTE
        (41, (16, 3, 12), EPERM),  # NETLINK_NETFILTER
        (41, (16, 3, 21), EPERM),  # NETLINK_CRYPTO
        (41, (17,), EPERM),  # AF_PACKET without CAP_NET_RAW
        (41, (38,), EPERM),  # AF_ALG
        (41, (40,), EPERM),  # AF_VSOCK
        (41, (38 | 1 << 32,), EPERM),  # the kernel cuts it to AF_ALG
        (41, (-1,), EPERM),
        (53, (30,), EPERM),  # socketpair AF_TIPC
        (56, (0x11,), ALLOW),  # clone as fork
        (56, (0x10000011,), EPERM),  # CLONE_NEWUSER
        (56, (0x10000011 | 1 << 40,), EPERM),
        (435, (), ENOSYS),  # clone3
        (135, (0xFFFFFFFF,), ALLOW),  # personality, reading
        (135, (0x40000,), EPERM),  # ADDR_NO_RANDOMIZE
        (135, (0x400000,), EPERM),  # READ_IMPLIES_EXEC
        (462, (), ALLOW),  # mseal, newer than Debian's libseccomp
        (467, (), EPERM),  # open_tree_attr
        (999, (), ENOSYS),
        (0x40000000, (), seccomp.RET_KILL_PROCESS),  # x32 read
        (0x40000000 | 520, (), seccomp.RET_KILL_PROCESS),  # x32 execve
    ],
)
def test_answers(
    default: CompiledFilter, number: int, args: tuple[int, ...], expected: int
) -> None:
    assert hex(answer(default, number, *args)) == hex(expected)


@pytest.mark.parametrize(
    ("machine", "arch"),
    [("x86_64", X86_64), ("x86_64", X86), ("aarch64", 0xC00000B7), ("aarch64", 0x40000028),
     ("riscv64", 0xC00000F3), ("ppc64le", 0xC0000015)],
)  # fmt: skip
def test_every_call_of_every_architecture(machine: str, arch: int) -> None:
    """By number, as the kernel sees them: each answers what the profile says of its name."""
    text = resource_path("profiles", "seccomp/default.json").read_text()
    resolved = resolve(parse_profile(text), ("CAP_SYS_CHROOT",), machine, (6, 18))
    program = bpf.decode(compile_filter(resolved).bpf)
    plain = {rule.name: rule.action for rule in resolved.rules if not rule.args}
    partly = {rule.name for rule in resolved.rules if rule.args}
    seen = 0
    for number in range(480):
        name = call_name(number, arch)
        if name not in partly:
            seen += name in plain
            found = bpf.evaluate(program, number, arch, (0,) * 6)
            assert hex(found) == hex(plain.get(name, ENOSYS)), name
    assert seen > 250


def test_32_bit_calls_keep_to_the_same_rules(default: CompiledFilter) -> None:
    assert answer(default, 3, arch=X86) == ALLOW  # read
    assert answer(default, 359, 2, arch=X86) == ALLOW  # socket AF_INET
    assert answer(default, 359, 38, arch=X86) == EPERM
    assert answer(default, 102, 1, arch=X86) == ENOSYS  # socketcall(SYS_SOCKET)
    assert answer(default, 102, 3, arch=X86) == ENOSYS
    assert answer(default, 462, arch=X86) == ALLOW
    assert answer(default, 0, arch=0xC00000B7) == seccomp.RET_KILL_PROCESS  # aarch64


@pytest.mark.parametrize(
    ("cap", "number", "args"),
    [
        ("CAP_SYS_ADMIN", 165, ()),  # mount
        ("CAP_SYS_ADMIN", 430, ()),  # fsopen
        ("CAP_SYS_ADMIN", 272, ()),  # unshare
        ("CAP_SYS_ADMIN", 435, ()),  # clone3
        ("CAP_SYS_ADMIN", 56, (0x10000011,)),
        ("CAP_SYS_PTRACE", 101, ()),
        ("CAP_SYS_PTRACE", 438, ()),  # pidfd_getfd
        ("CAP_DAC_READ_SEARCH", 304, ()),
        ("CAP_NET_RAW", 41, (17,)),
        ("CAP_NET_ADMIN", 41, (16, 3, 12)),
        ("CAP_SYS_CHROOT", 161, ()),
        ("CAP_SYSLOG", 103, ()),
    ],
)
def test_capabilities_open_their_calls_and_nothing_else_does(
    default: CompiledFilter, cap: str, number: int, args: tuple[int, ...]
) -> None:
    with_cap = compiled(resource_path("profiles", "seccomp/default.json").read_text(), cap)
    assert answer(default, number, *args) != ALLOW
    assert answer(with_cap, number, *args) == ALLOW
    assert answer(with_cap, 425) == EPERM  # io_uring_setup stays closed


def test_a_custom_profile_denies_calls_newer_than_libseccomp() -> None:
    rule = {"names": ["mseal"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    assert answer(compiled(text), 462) == EPERM
    assert answer(compiled(text), 461) == ALLOW


def test_a_denial_of_an_unknown_name_is_an_error() -> None:
    rule = {"names": ["mseall"], "action": "SCMP_ACT_ERRNO"}
    with pytest.raises(InvalidInput, match="mseall"):
        compiled(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))


def test_an_allowance_of_an_unknown_name_is_a_gap() -> None:
    rule = {"names": ["read", "not_a_call"], "action": "SCMP_ACT_ALLOW"}
    result = compiled(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
    assert result.gaps == ("not_a_call",)
    assert answer(result, 0) == ALLOW


def test_socketcall_stays_closed_unless_the_profile_opens_it() -> None:
    arg = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    rules: list[dict[str, Any]] = [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [arg]}]
    top = {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"]}
    closed = compiled(json.dumps({**top, "syscalls": rules}))
    assert answer(closed, 102, 1, arch=X86) == EPERM
    assert answer(closed, 359, 1, arch=X86) == ALLOW
    rules.append({"names": ["socketcall"], "action": "SCMP_ACT_ALLOW"})
    opened = compiled(json.dumps({**top, "syscalls": rules}))
    assert answer(opened, 102, 1, arch=X86) == ALLOW


def test_notification_filter_differs_only_in_denials(default: CompiledFilter) -> None:
    text = resource_path("profiles", "seccomp/default.json").read_text()
    resolved = resolve(parse_profile(text), (), "x86_64", (6, 18))
    result = compile_filter(resolved, notify_denied=True)
    assert result.notifies
    assert result.bpf == default.bpf
    asked = bpf.decode(result.loaded)
    for number in range(480):
        plain = answer(default, number)
        loaded = bpf.evaluate(asked, number, X86_64, ())
        assert loaded == (plain if plain == ALLOW else seccomp.RET_USER_NOTIF)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_cache_is_private_checked_and_mended(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["read", "nope"], "action": "SCMP_ACT_ALLOW"}],
        }
    )
    resolved = resolve(parse_profile(text), (), "x86_64", (6, 18))
    fresh = compile_filter(resolved, cache_dir=cache)
    [entry] = cache.iterdir()
    assert (_mode(cache), _mode(entry)) == (0o700, 0o600)
    good = entry.read_bytes()
    assert compile_filter(resolved, cache_dir=cache) == fresh
    # An attacker's or a crash's file: all-allowing, cut, empty, with loose modes, a link.
    evil = good.replace(b"\x06\x00\x00\x00\x01\x00\x05\x00", b"\x06\x00\x00\x00\x00\x00\xff\x7f")
    assert evil != good
    for damaged in (evil, good[:-8], good[:20], b"", good + b"\0" * 8):
        entry.write_bytes(damaged)
        assert compile_filter(resolved, cache_dir=cache) == fresh
        assert entry.read_bytes() == good
    entry.chmod(0o666)
    assert compile_filter(resolved, cache_dir=cache) == fresh
    assert _mode(entry) == 0o600
    other = tmp_path / "elsewhere"
    other.write_bytes(good)
    entry.unlink()
    entry.symlink_to(other)
    assert compile_filter(resolved, cache_dir=cache) == fresh
    assert not entry.is_symlink()
    assert len(list(cache.iterdir())) == 1


def test_a_cache_entry_is_not_accepted_under_another_name(tmp_path: Path) -> None:
    def of(name: str) -> CompiledFilter:
        rule = {"names": [name], "action": "SCMP_ACT_ALLOW"}
        text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
        return filter_for(text, (), "x86_64", (6, 18), cache_dir=tmp_path / name)

    first, second = of("read"), of("write")
    assert first != second
    [a], [b] = (tmp_path / "read").iterdir(), (tmp_path / "write").iterdir()
    os.replace(a, b)
    rule = {"names": ["write"], "action": "SCMP_ACT_ALLOW"}
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
    resolved = resolve(parse_profile(text), (), "x86_64", (6, 18))
    assert compile_filter(resolved, cache_dir=tmp_path / "write") == second


def test_raw_files_are_what_their_name_says(tmp_path: Path, default: CompiledFilter) -> None:
    path = store_raw(tmp_path, default.loaded)
    assert read_raw(path) == default.loaded
    path.write_bytes(default.loaded[:-8])
    with pytest.raises(InvalidInput, match="damaged"):
        read_raw(path)
    assert store_raw(tmp_path, default.loaded) == path
    assert read_raw(path) == default.loaded


def test_names_of_calls() -> None:
    assert call_name(0, X86_64) == "read"
    assert call_name(3, X86) == "read"
    assert call_name(462, X86_64) == "mseal"
    assert call_name(9999, X86_64) == "syscall 9999"


def _holds(op: str, have: int, value: int, second: int) -> bool:
    return {
        "SCMP_CMP_NE": have != value,
        "SCMP_CMP_LT": have < value,
        "SCMP_CMP_LE": have <= value,
        "SCMP_CMP_EQ": have == value,
        "SCMP_CMP_GE": have >= value,
        "SCMP_CMP_GT": have > value,
        "SCMP_CMP_MASKED_EQ": have & value == second,
    }[op]


@pytest.mark.parametrize("first", [[], [("SCMP_CMP_EQ", 0, 0)]])
def test_a_filter_that_libseccomp_gets_wrong_is_not_used(first: list[Any]) -> None:
    """With ``>= 2^32`` and ``<= 0`` for one argument libseccomp 2.5.4 allows 1 as well."""
    rules = [
        {
            "names": ["ioctl"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": index, "value": value, "op": op}],
        }
        for op, index, value in (*first, ("SCMP_CMP_GE", 3, 1 << 32), ("SCMP_CMP_LE", 3, 0))
    ]
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})
    try:
        result = compiled(text)
    except HostUnsupported as error:
        assert "ioctl" in error.message  # noqa: PT017 - either is right
    else:
        assert answer(result, 16, 1, 0, 0, 1) == EPERM


_value = st.one_of(st.integers(0, 8), st.integers(0, (1 << 64) - 1), st.just(1 << 32))


@given(
    rules=st.lists(
        st.tuples(
            st.sampled_from(["read", "write", "ioctl"]),
            st.sampled_from(sorted(OPERATORS)),
            st.integers(0, 5),
            _value,
        ),
        max_size=5,
    ),
    args=st.lists(_value, min_size=6, max_size=6),
)
def test_filters_mean_what_profiles_say(rules: list[Any], args: list[int]) -> None:
    """The compiled filter agrees with the profile on every argument, or is refused."""
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {
                    "names": [name],
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": index, "value": value, "op": op}],
                }
                for name, op, index, value in rules
            ],
        }
    )
    try:
        result = compiled(text)
    except HostUnsupported:
        return
    for name, number in (("read", 0), ("write", 1), ("ioctl", 16)):
        values = [value for n, _, _, value in rules if n == name]
        for have in (
            args,
            *([v] * 6 for v in values),
            *([(v + 1) % (1 << 64)] * 6 for v in values),
        ):
            expected = any(
                n == name and _holds(op, have[index], value, 0) for n, op, index, value in rules
            )
            assert (answer(result, number, *have) == ALLOW) is expected
