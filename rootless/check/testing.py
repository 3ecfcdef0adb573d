"""``rootless policy test``: run PolicyTest documents."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rootless import publickeys
from rootless.check import exits
from rootless.check.inputs import units, units_of_text
from rootless.check.policies import load_policies, read_text
from rootless.errors import InvalidInput
from rootless.model.image import ImageFacts, Voucher
from rootless.model.verbs import EVERYBODYS
from rootless.policy.actions import action_findings, owner_findings
from rootless.policy.callers import parse_identity
from rootless.policy.documents import Document, InvalidPolicy, load_documents
from rootless.policy.fields import FIELDS
from rootless.policy.inputs.unit import Container, Unit
from rootless.policy.judge import Judge
from rootless.policy.matching import Subject
from rootless.policy.podsecurity.checks import checks_of, parse_standard
from rootless.policy.policy import Policy
from rootless.policy.reports.model import Result
from rootless.policy.rules import RULES, api, cis, cis_daemon, landlock, pss, quotas
from rootless.policy.rules.base import Rule
from rootless.policy.rules.images import full_name
from rootless.policy.schema import validate
from rootless.policy.trust import is_inline
from rootless.units import parse_seconds, parse_size

_WORST = ("pass", "warn", "fail", "not-understood")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rootless policy test",
        description="Run PolicyTest documents: cases, each an input with the verdict and the "
        "rules that are expected.",
        epilog="exit status: 0 every case is as expected, 1 some are not, 2 usage or a file that "
        "cannot be read, 3 an invalid policy or test. A case lists the rules that must be found; "
        "an empty list means none. example: rootless policy test tests.yaml",
    )
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--policy", metavar="POLICY", help="instead of the one the tests name")
    parser.add_argument("--coverage", action="store_true", help="also list the rules of the "
        "policies that no case broke")  # fmt: skip
    return parser


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: where it is, what it is called, and what was not as expected."""

    place: str
    name: str
    problems: tuple[str, ...]
    broken: frozenset[str]


@exits.guarded("policy test")
def main(argv: Sequence[str]) -> int:
    """Run the command; ``argv`` is without the command's name."""
    options = _parser().parse_intermixed_args(argv)
    found = [
        (document, policy_of(document, options.policy))
        for name in options.files
        for document in load_documents(read_text(name), name)
    ]
    outcomes = [o for document, policy in found for o in run(document, policy)]
    for outcome in outcomes:
        for problem in outcome.problems:
            print(f"{outcome.place}: {outcome.name}: {problem}")
    failed = sum(bool(outcome.problems) for outcome in outcomes)
    print(f"{len(outcomes)} cases, {failed} not as expected")
    if options.coverage:
        _coverage([policy for _, policy in found], outcomes)
    return exits.VIOLATIONS if failed else exits.HOLDS


def policy_of(document: Document, instead: str | None) -> Policy:
    """The policy a test is about; a file's name is relative to the test."""
    value = validate(document, "PolicyTest")
    name: str = instead or value["policy"]
    if not instead and not name.startswith("builtin:"):
        name = os.path.join(os.path.dirname(document.name), name)
    return load_policies([name])


def run(document: Document, policy: Policy) -> list[Outcome]:
    """Every case of a document that is valid."""
    value = validate(document, "PolicyTest")
    base = os.path.dirname(document.name)
    return [
        _case(case, document.where(("cases", index)), policy, base)
        for index, case in enumerate(value["cases"])
    ]


def _case(case: dict[str, Any], place: str, policy: Policy, base: str) -> Outcome:
    if "action" in case:
        verdict, broken = _asked(case["action"], place, policy)
    else:
        judge = Judge(policy)
        found: list[Unit]
        if "file" in case:
            found = list(units(os.path.join(base, case["file"]), case.get("as")))
        else:
            found = list(units_of_text(case["input"].encode(), case.get("as")))
        if "image" in case:
            found = [_with_image(unit, case["image"], place, base) for unit in found]
        results = [judge.result(unit, "input") for unit in found]
        verdict = max((result.verdict for result in results), key=_WORST.index, default="")
        broken = _broken(results)
    problems = []
    if verdict != case["verdict"]:
        problems.append(f"the verdict is {verdict or 'none'}, not {case['verdict']}")
    wanted = set(case.get("rules", broken))
    problems += [f"{rule} is not found" for rule in sorted(wanted - broken)]
    problems += [f"{rule} is found and not expected" for rule in sorted(broken - wanted)]
    return Outcome(place, case["name"], tuple(problems), frozenset(broken))


def _with_image(unit: Unit, known: Mapping[str, Any], place: str, base: str) -> Unit:
    """The input with what a case says of its containers' images."""
    signed = known.get("signedBy")
    keys = [_signer(text, place, base) for text in signed or ()]
    setuid = known.get("setuidFiles")
    now = time.time_ns()

    def of(container: Container) -> Container:
        named = ImageFacts(full_name(container.spec.request.config.image))
        repository = known.get("signedAs", named.repository)
        image = replace(
            named,
            created_ns=now - _seconds(known["age"]) * 10**9 if "age" in known else None,
            size=_bytes(known["size"]) if "size" in known else None,
            vouchers=None if signed is None else tuple(Voucher(k, "", repository) for k in keys),
            setuid=None if setuid is None else tuple(setuid),
        )
        return replace(container, image=image)

    return replace(unit, containers=tuple(map(of, unit.containers)))


def _signer(text: str, place: str, base: str) -> str:
    """The fingerprint of a key: the name of a file beside the test, or PEM."""
    try:
        pem = text if is_inline(text) else read_text(os.path.join(base, text))
        return publickeys.from_pem(pem, text).fingerprint
    except InvalidInput as error:
        raise InvalidPolicy([f"{place}: {error}"]) from None


def _seconds(value: str | int) -> int:
    return parse_seconds(value) if isinstance(value, str) else value


def _bytes(value: str | int) -> int:
    return parse_size(value) if isinstance(value, str) else value


def _asked(action: Mapping[str, Any], place: str, policy: Policy) -> tuple[str, set[str]]:
    """The verdict on an action by an identity, and the rules it breaks.

    An object with an owner exists already; whose the others are does not matter.
    """
    try:
        caller = parse_identity(action["by"])
        made = action.get("object", {})
        owner = made.get("owner")
        owners = None if owner is None else frozenset({_owner_key(owner)})
    except InvalidInput as error:
        raise InvalidPolicy([f"{place}: {error}"]) from None
    asked = action.get("with", {})
    subject = Subject(
        image=made.get("image", ""),
        name=made.get("name", ""),
        labels=made.get("labels", {}),
        identity=caller,
        owners=owners,
        images=tuple(asked.get("images", ())),
        networks=tuple(asked.get("networks", ())),
        sources=tuple(asked.get("mounts", ())),
        paths=tuple(asked.get("paths", ())),
        users=tuple(asked.get("execUsers", ())),
        privileged=asked.get("execPrivileged", False),
    )
    findings = owner_findings(caller, policy, subject)
    findings += action_findings(caller, action["verb"], policy, subject)
    told = [one for one in findings if one.action != "audit"]
    denied = any(one.action == "deny" for one in told)
    return "fail" if denied else "warn" if told else "pass", {one.rule for one in told}


def _owner_key(owner: str) -> str:
    """Whose an object is; ``*`` everybody's."""
    return owner if owner == EVERYBODYS else parse_identity(owner).key


def _broken(results: Sequence[Result]) -> set[str]:
    """Rules with a finding that no exception forgives and that is more than recorded."""
    return {
        entry.rule
        for result in results
        for entry in result.findings
        if entry.exception is None and entry.mode != "audit"
    }


_NOT_OF_FILES = frozenset(
    rule.id for topic in (api, cis_daemon, landlock, quotas) for rule in topic.RULES
)
"""Rules about who asks, about this engine and this host: no input can break them."""


def _constrains(policy: Policy, key: str) -> bool:
    """Whether a policy's field denies anything at all."""
    value, field = policy.constraints.get(key), FIELDS[key]
    if value is None or (isinstance(value, bool) and value != (field.kind.name == "require")):
        return False
    if isinstance(value, frozenset):
        allows = field.kind.name.startswith("allow")
        return (
            value != frozenset(field.values) if allows and field.values else allows or bool(value)
        )
    return True


def _able(policy: Policy, rule: Rule) -> bool:
    """Whether some input could break a rule under a policy."""
    if rule.id in _NOT_OF_FILES or policy.mode_of(rule.id) == "audit":
        return False
    if pss.KEY in rule.keys:
        standards = map(parse_standard, policy.names_of(pss.KEY) or ())
        checks = [check.id for found in standards if found for check in checks_of(*found)]
        return rule.id.removeprefix("pss.") in checks
    if cis.KEY in rule.keys:
        return rule.id.removeprefix("cis-docker.") in (policy.names_of(cis.KEY) or ())
    return any(_constrains(policy, key) for key in rule.keys)


def uncovered(policies: Sequence[Policy], outcomes: Sequence[Outcome]) -> tuple[int, list[str]]:
    """How many rules the policies have, and those that no case broke."""
    parts = [part for p in policies for part in (p, *(layer.policy for layer in p.layers))]
    able = {rule.id for rule in RULES for part in parts if _able(part, rule)}
    broken = {rule for outcome in outcomes for rule in outcome.broken}
    return len(able), sorted(able - broken)


def _coverage(policies: Sequence[Policy], outcomes: Sequence[Outcome]) -> None:
    """Rules that the policies can break, and how many of them some case did."""
    count, missing = uncovered(policies, outcomes)
    print(f"coverage: {count - len(missing)} of {count} rules")
    for rule in missing:
        print(f"  no case breaks {rule}")
