"""Seccomp profiles in the JSON of OCI (config-linux.md, seccomp) and Docker.

Parsing is strict: a key, name or operator that is not understood could be a
condition, and a condition that is dropped makes a filter weaker than written.
"""

from __future__ import annotations

import errno as _errno
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rootless.errors import HostUnsupported, InvalidInput
from rootless.linux import seccomp
from rootless.linux.process import CAPABILITIES
from rootless.seccomp.arches import BY_GO_NAME, BY_MACHINE, BY_NAME, Arch

MAX_SIZE = 1 << 20
"""Bytes of JSON; Docker's own profile has 14 KB."""
_MAX_RULES = 4096
_MAX_NAMES = 20000

_ACTIONS = {
    "SCMP_ACT_KILL": seccomp.RET_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": seccomp.RET_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": seccomp.RET_KILL_PROCESS,
    "SCMP_ACT_TRAP": seccomp.RET_TRAP,
    "SCMP_ACT_ERRNO": seccomp.RET_ERRNO,
    "SCMP_ACT_TRACE": seccomp.RET_TRACE,
    "SCMP_ACT_LOG": seccomp.RET_LOG,
    "SCMP_ACT_ALLOW": seccomp.RET_ALLOW,
}
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": seccomp.FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": seccomp.FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": seccomp.FLAG_SPEC_ALLOW,
}
_TOP = frozenset(
    "comment defaultAction defaultErrnoRet defaultErrno archMap architectures flags syscalls "
    "listenerPath listenerMetadata".split()
)
_RULE = frozenset("comment names name action errnoRet errno args includes excludes".split())
_ARG = frozenset({"index", "value", "valueTwo", "op"})
_CONDITION = frozenset({"caps", "arches", "minKernel"})
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_KERNEL = re.compile(r"(\d{1,4})\.(\d{1,4})(\.\d{1,6})?")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition on a 64-bit argument. For MASKED_EQ ``value`` is the mask."""

    index: int
    op: str
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """When a rule counts: all of ``caps`` (includes) or any (excludes), likewise for the rest."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of ``syscalls``; ``action`` is the kernel's return value."""

    names: tuple[str, ...]
    action: int
    args: tuple[Comparison, ...] = ()
    includes: Condition = Condition()
    excludes: Condition = Condition()


@dataclass(frozen=True, slots=True)
class Profile:
    """A parsed profile. ``arch_map`` or ``architectures`` say which ABIs the filter knows."""

    default: int
    rules: tuple[Rule, ...]
    arch_map: tuple[tuple[str, tuple[str, ...]], ...] = ()
    architectures: tuple[str, ...] = ()
    flags: int = 0


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """One call and its answer on this host; ``index`` is the profile's rule."""

    name: str
    action: int
    args: tuple[Comparison, ...]
    index: int


@dataclass(frozen=True, slots=True)
class ResolvedProfile:
    """What the compiler gets: no conditions are left. ``arches[0]`` is the machine's own."""

    default: int
    arches: tuple[Arch, ...]
    rules: tuple[ResolvedRule, ...]
    flags: int


def _bad(where: str, problem: str, hint: str | None = None) -> InvalidInput:
    return InvalidInput(f"seccomp profile: {where}: {problem}", hint=hint)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _bad("JSON", f"key {key!r} appears twice in one object")
        result[key] = value
    return result


def _object(value: object, where: str, keys: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(where, "must be an object")
    for key in value:
        if key not in keys:
            raise _bad(where, f"unknown key {key!r}", f"known are {', '.join(sorted(keys))}")
    return value


def _list(value: object, where: str, limit: int = 64) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(where, "must be a list")
    if len(value) > limit:
        raise _bad(where, f"has {len(value)} entries, more than {limit}")
    return value


def _choice(value: object, where: str, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise _bad(where, f"unknown value {value!r}", f"known are {', '.join(sorted(known))}")
    return value


def _integer(value: object, where: str, top: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
        raise _bad(where, f"{value!r} is not an integer from 0 to {top}")
    return value


def _errno_of(number: object, name: object, where: str) -> int | None:
    """``errnoRet`` and containers/common's symbolic ``errno``, which must agree."""
    value = None if number is None else _integer(number, f"{where}.errnoRet", 0xFFF)
    if name is None or name == "":
        return value
    symbolic = getattr(_errno, name, None) if isinstance(name, str) and name.isupper() else None
    if not isinstance(symbolic, int):
        raise _bad(f"{where}.errno", f"unknown errno {name!r}")
    if value is not None and value != symbolic:
        raise _bad(where, f"errnoRet {value} is not {name}")
    return symbolic


def _action(value: object, errno: int | None, where: str) -> int:
    if value == "SCMP_ACT_NOTIFY":
        raise _bad(where, "SCMP_ACT_NOTIFY needs a listener, which profiles cannot name here")
    action = _ACTIONS[_choice(value, where, _ACTIONS)]
    if action in {seccomp.RET_ERRNO, seccomp.RET_TRACE}:
        return action | (_errno.EPERM if errno is None else errno)
    if errno is not None:
        raise _bad(where, f"errnoRet has no meaning for {value}")
    return action


def _parse_arg(value: object, where: str) -> Comparison:
    fields = _object(value, where, _ARG)
    op = _choice(fields.get("op"), f"{where}.op", OPERATORS)
    second = fields.get("valueTwo")
    comparison = Comparison(
        index=_integer(fields.get("index"), f"{where}.index", 5),
        op=op,
        value=_integer(fields.get("value"), f"{where}.value", (1 << 64) - 1),
        value_two=0 if second is None else _integer(second, f"{where}.valueTwo", (1 << 64) - 1),
    )
    if comparison.value_two and op != "SCMP_CMP_MASKED_EQ":
        raise _bad(where, f"valueTwo has no meaning for {op}")
    if op == "SCMP_CMP_MASKED_EQ" and comparison.value_two & ~comparison.value:
        raise _bad(where, "valueTwo has bits outside the mask in value, so nothing matches")
    return comparison


def _parse_condition(value: object, where: str) -> Condition:
    if value is None:
        return Condition()
    fields = _object(value, where, _CONDITION)
    kernel = fields.get("minKernel")
    parsed = None
    if kernel is not None and kernel != "":
        match = _KERNEL.fullmatch(kernel) if isinstance(kernel, str) else None
        if match is None:
            raise _bad(f"{where}.minKernel", f"{kernel!r} is not a kernel version such as 5.13")
        parsed = (int(match[1]), int(match[2]))
    return Condition(
        caps=tuple(
            _choice(cap, f"{where}.caps[{i}]", CAPABILITIES)
            for i, cap in enumerate(_list(fields.get("caps"), f"{where}.caps"))
        ),
        arches=tuple(
            _choice(arch, f"{where}.arches[{i}]", BY_GO_NAME)
            for i, arch in enumerate(_list(fields.get("arches"), f"{where}.arches"))
        ),
        min_kernel=parsed,
    )


def _parse_rule(value: object, index: int) -> Rule:
    where = f"syscalls[{index}]"
    fields = _object(value, where, _RULE)
    names = _list(fields.get("names"), f"{where}.names", _MAX_NAMES)
    single = fields.get("name")
    if single:
        if names:
            raise _bad(where, "has both name and names")
        names = [single]
    if not names:
        raise _bad(where, "names no system call")
    for position, name in enumerate(names):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _bad(f"{where}.names[{position}]", f"{name!r} is not a system call's name")
    args = tuple(
        _parse_arg(arg, f"{where}.args[{i}]")
        for i, arg in enumerate(_list(fields.get("args"), f"{where}.args"))
    )
    if len({arg.index for arg in args}) != len(args):
        raise _bad(
            f"{where}.args",
            "compares one argument twice, which libseccomp cannot express",
            "write one rule for each alternative",
        )
    errno = _errno_of(fields.get("errnoRet"), fields.get("errno"), where)
    return Rule(
        names=tuple(names),
        action=_action(fields.get("action"), errno, f"{where}.action"),
        args=args,
        includes=_parse_condition(fields.get("includes"), f"{where}.includes"),
        excludes=_parse_condition(fields.get("excludes"), f"{where}.excludes"),
    )


def _parse_arches(fields: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    result = []
    for i, entry in enumerate(_list(fields.get("archMap"), "archMap")):
        where = f"archMap[{i}]"
        pair = _object(entry, where, frozenset({"architecture", "subArchitectures"}))
        main = _choice(pair.get("architecture"), f"{where}.architecture", BY_NAME)
        subs = _list(pair.get("subArchitectures"), f"{where}.subArchitectures")
        result.append((main, tuple(_choice(s, f"{where}.subArchitectures", BY_NAME) for s in subs)))
    return tuple(result)


def parse_profile(text: str | bytes) -> Profile:
    """Parse a profile's JSON; every complaint names the place (``syscalls[3].args[0].op``)."""
    if len(text) > MAX_SIZE:
        raise _bad("JSON", f"has {len(text)} bytes, more than {MAX_SIZE}")
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad("JSON", str(error)) from error
    fields = _object(document, "top level", _TOP)
    for key in ("listenerPath", "listenerMetadata"):
        if fields.get(key):
            raise _bad(key, "notification agents are not supported", f"remove {key}")
    if fields.get("archMap") and fields.get("architectures"):
        raise _bad("top level", "has both archMap and architectures")
    flags = 0
    for i, flag in enumerate(_list(fields.get("flags"), "flags")):
        flags |= _FLAGS[_choice(flag, f"flags[{i}]", _FLAGS)]
    errno = _errno_of(fields.get("defaultErrnoRet"), fields.get("defaultErrno"), "default")
    architectures = _list(fields.get("architectures"), "architectures")
    rules = _list(fields.get("syscalls"), "syscalls", _MAX_RULES)
    return Profile(
        default=_action(fields.get("defaultAction"), errno, "defaultAction"),
        rules=tuple(_parse_rule(rule, i) for i, rule in enumerate(rules)),
        arch_map=_parse_arches(fields),
        architectures=tuple(
            _choice(arch, f"architectures[{i}]", BY_NAME) for i, arch in enumerate(architectures)
        ),
        flags=flags,
    )


def _applies(rule: Rule, caps: Collection[str], arch: Arch, kernel: tuple[int, int]) -> bool:
    """Docker's conditions: includes need all of their capabilities, excludes any one."""
    wanted, unwanted = rule.includes, rule.excludes
    if any(cap not in caps for cap in wanted.caps):
        return False
    if wanted.arches and arch.go not in wanted.arches:
        return False
    if wanted.min_kernel is not None and kernel < wanted.min_kernel:
        return False
    if any(cap in caps for cap in unwanted.caps) or arch.go in unwanted.arches:
        return False
    return unwanted.min_kernel is None or kernel < unwanted.min_kernel


def _arches(profile: Profile, native: Arch) -> tuple[Arch, ...]:
    names = dict(profile.arch_map).get(native.name, ()) or profile.architectures
    others = dict.fromkeys(BY_NAME[name] for name in names)
    return (native, *(arch for arch in others if arch is not native))


def strictness(action: int) -> int:
    """The kernel's order of actions (seccomp(2)): as a signed number, lower is stricter."""
    kind = action & seccomp.RET_ACTION_MASK
    return kind - (1 << 32) if kind >= 1 << 31 else kind


def _settle(rules: Collection[ResolvedRule]) -> tuple[ResolvedRule, ...]:
    """One meaning for each call: of contradicting rules without arguments the strictest.

    libseccomp would keep the first without a word (Podman's own profile has
    such pairs). A rule with arguments that is stricter than one without cannot
    be expressed by it and is refused.
    """
    plain: dict[str, ResolvedRule] = {}
    for rule in rules:
        if not rule.args:
            first = plain.setdefault(rule.name, rule)
            if strictness(rule.action) < strictness(first.action):
                plain[rule.name] = rule
    kept: dict[tuple[str, tuple[Comparison, ...]], ResolvedRule] = {}
    for rule in rules:
        other = plain.get(rule.name)
        if other is not None:
            if rule.args and strictness(rule.action) < strictness(other.action):
                raise _bad(
                    f"syscalls[{rule.index}]",
                    f"{rule.name} with arguments is stricter than syscalls[{other.index}] "
                    "without, which libseccomp cannot express",
                    "give the other rule the opposite arguments",
                )
            kept.setdefault((rule.name, ()), other)
            continue
        first = kept.setdefault((rule.name, rule.args), rule)
        if strictness(rule.action) < strictness(first.action):
            kept[rule.name, rule.args] = rule
    return tuple(kept.values())


def resolve(
    profile: Profile, caps: Collection[str], arch: str, kernel: tuple[int, int]
) -> ResolvedProfile:
    """The rules that count for these capabilities on this machine (``arch`` as in uname(2)).

    An unconditional rule makes those with arguments superfluous, being as strict or stricter.
    """
    native = BY_MACHINE.get(arch)
    if native is None:
        raise HostUnsupported(f"seccomp: the architecture {arch} is not known")
    found: dict[tuple[str, int, tuple[Comparison, ...]], ResolvedRule] = {}
    for index, rule in enumerate(profile.rules):
        if _applies(rule, caps, native, kernel):
            for name in rule.names:
                key = (name, rule.action, rule.args)
                found.setdefault(key, ResolvedRule(name, rule.action, rule.args, index))
    return ResolvedProfile(
        default=profile.default,
        arches=_arches(profile, native),
        rules=_settle(found.values()),
        flags=profile.flags,
    )
