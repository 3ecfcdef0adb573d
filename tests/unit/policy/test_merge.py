"""Merging is a meet: it can only tighten, in any order, any number of times."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rootless.model.image import ImageFacts, Voucher
from rootless.model.mounts import MountSpec
from rootless.model.request import PortBinding, Resources
from rootless.model.spec import ContainerSpec, NamespacesSpec, NetworkSpec, PrivilegesSpec
from rootless.policy import grants
from rootless.policy.admission import preview
from rootless.policy.fields import FIELDS, Field
from rootless.policy.matching import Excuse, Layer, Match
from rootless.policy.policy import Policy, join, meet
from rootless.policy.rules import RULES
from rootless.policy.trust import Requirement
from tests.support.signing import ecdsa, ed
from tests.unit.policy.cases import FACTS, IDENTITY, PATHS, spec

_SAMPLES = {
    "path": ["/", "/srv", "/srv/a", "/srv/a/b", "/srv-b", "/opt"],
    "network": ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "::1/128"],
    "egress": ["*.b.c", "a.b.c:443", "*:80", "10.0.0.0/8", "10.1.2.3:443", "10.1.2.3/udp"],
    "sysctl": ["*", "net.*", "net.ipv4.*", "net.ipv4.ip_forward", "kernel.shm*"],
    "image": ["*", "docker.io/*", "docker.io/library/*", "docker.io/library/busybox:latest"],
    "action": ["container.exec", "container.*", "image.pull"],
    "role": ["viewer", "auditor"],
    "tag": ["latest", "la*", "edge"],
    "variable": ["LD_*", "LD_PRELOAD", "PATH"],
    "label": ["owner", "team"],
    "selinux": ["container_t", "spc_t"],
    "level": ["s0:c1,c2", "s0:c3"],
    "call": ["bpf", "keyctl"],
    "port": ["80", "443"],
    "registry": ["docker.io", "registry.example:5000"],
    "labels": ["com.example.*", "com.*", "team"],
    "secret": ["pypi-*", "pypi-token", "key"],
    "option": ["syslog-*", "labels", "*"],
    "name": ["front", "fro*", "back"],
    "glob": ["/srv/*", "/srv/**", "/srv/a/?", "/opt/* & /opt/y", "/**"],
    "caller": ["role:admin", "role:*", "uid:5", "spiffe://example.org/*"],
    "standard": ["baseline", "restricted@1.24", "restricted@1.37"],
}


_REPOSITORIES = ["docker.io/library/busybox", "docker.io/*", "*", "quay.io/*"]
_requirement = st.builds(
    Requirement,
    repositories=st.sets(st.sampled_from(_REPOSITORIES), min_size=1, max_size=2).map(frozenset),
    keys=st.sets(
        st.sampled_from([ecdsa("a").public, ecdsa("b").public, ed("c").public]), min_size=1
    ).map(frozenset),
    minimum=st.integers(1, 3),
    signed_as=st.none()
    | st.sets(st.sampled_from(_REPOSITORIES), min_size=1, max_size=2).map(frozenset),
)
_image = st.builds(
    ImageFacts,
    name=st.just("docker.io/library/busybox:latest"),
    created_ns=st.integers(0, 10) | st.just(time.time_ns()),
    size=st.integers(0, 4000),
    vouchers=st.lists(
        st.builds(
            Voucher,
            key=st.sampled_from([ecdsa("a"), ecdsa("b"), ed("c"), ed("d")]).map(
                lambda signer: signer.public.fingerprint
            ),
            digest=st.just("sha256:" + "0" * 64),
            repository=st.sampled_from(["docker.io/library/busybox", "quay.io/x", ""]),
        ),
        max_size=4,
    ).map(tuple),
)
_grant = st.fixed_dictionaries(
    {"verbs": st.sampled_from([["container.*"], ["container.create"], ["image.pull"], ["*"]])},
    optional={
        "who": st.sampled_from(
            [{"roles": ["ci"]}, {"uids": [3_000_000_001]}, {"identities": ["t*"]}]
        ),
        "objects": st.sampled_from([{"names": ["web*"]}, {"owners": ["self"]}]),
        "limits": st.sampled_from(
            [{"images": ["docker.io/*"]}, {"mounts": ["/srv/a"]}, {"mounts": ["/opt"]},
             {"networks": ["none"]}, {"networks": ["*"], "execPrivileged": False}]
        ),
    },
)  # fmt: skip


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Values that a field can have."""
    shape = field.kind.shape
    if shape == "grants":
        texts = st.lists(_grant, max_size=3).map(grants.encode)
        return st.frozensets(texts, min_size=1, max_size=2).map(field.kind.canonical)
    if shape == "list":
        members = st.sampled_from(field.values or _SAMPLES[field.format])
        return st.frozensets(members, max_size=4).map(field.kind.canonical)
    if shape == "boolean":
        return st.booleans()
    if shape == "trust":
        return st.frozensets(_requirement.map(lambda made: made.text), max_size=3)
    return st.integers(0, 2000)


_mode = st.sampled_from(["enforce", "warn", "audit"])


_match = st.builds(
    Match,
    names=st.sampled_from([frozenset(), frozenset({"quiet*"}), frozenset({"other"})]),
    images=st.sampled_from([frozenset(), frozenset({"docker.io/*"})]),
)
_excuse = st.builds(
    Excuse,
    id=st.sampled_from(["one", "two"]),
    rules=st.sets(st.sampled_from([r.id for r in RULES]), min_size=1, max_size=4).map(frozenset),
    match=_match,
    allow=st.just(frozenset()),
    reason=st.just("why"),
    approved_by=st.just("who"),
    expires=st.sampled_from([date(2000, 1, 1), date(2999, 1, 1)]),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Plain ones, and ones that are a layer with a selector and exceptions."""
    plain = draw(plain_policies())
    if draw(st.booleans()):
        return plain
    excuses = tuple(draw(st.lists(_excuse, max_size=2)))
    return Policy(names=plain.names, layers=(Layer(plain, draw(_match), excuses),))


@st.composite
def plain_policies(draw: st.DrawFn) -> Policy:
    keys = draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=8))
    mode = draw(_mode)
    rules = draw(st.dictionaries(st.sampled_from([r.id for r in RULES]), _mode, max_size=3))
    return Policy(
        names=frozenset({draw(st.sampled_from("abc"))}),
        constraints={key: draw(values_of(FIELDS[key])) for key in keys},
        mode=mode,
        rule_modes={rule: found for rule, found in rules.items() if found != mode},
        sources={key: frozenset({"f:1"}) for key in keys},
    )


@st.composite
def specs(draw: st.DrawFn) -> ContainerSpec:
    sources = st.sampled_from(["/srv/a/x", "/srv", "/opt/y", "/srv-b"])
    return spec(
        mounts=tuple(
            MountSpec("bind", f"/t{i}", source=source, read_only=draw(st.booleans()))
            for i, source in enumerate(draw(st.lists(sources, max_size=2)))
        ),
        namespaces=NamespacesSpec(pid=draw(st.sampled_from(["private", "host"]))),
        privileges=PrivilegesSpec(
            draw(st.sampled_from([(), ("CAP_KILL",), ("CAP_KILL", "CAP_SYS_ADMIN")])),
            draw(st.booleans()),
            draw(st.booleans()),
        ),
        network=NetworkSpec(
            "slirp4netns",
            (PortBinding(80, "tcp", draw(st.sampled_from(["10.1.2.3", "::1"])), 1000),),
            egress=draw(st.sampled_from([None, (), ("a.b.c:443",), ("10.1.2.3:443", "x:80")])),
        ),
        resources=Resources(memory=draw(st.integers(0, 2000))),
        sysctls=draw(st.sampled_from([(), (("net.ipv4.ip_forward", "1"),)])),
    )


@given(policies(), policies())
def test_commutative(a: Policy, b: Policy) -> None:
    assert meet(a, b) == meet(b, a)
    assert meet(a, b).sources == meet(b, a).sources


@given(policies(), policies(), policies())
def test_associative(a: Policy, b: Policy, c: Policy) -> None:
    assert meet(meet(a, b), c) == meet(a, meet(b, c))


@given(policies())
def test_idempotent_and_neutral(a: Policy) -> None:
    assert meet(a, a) == a
    merged = meet(a, Policy())
    assert (merged.constraints, merged.mode, merged.rule_modes) == (
        a.constraints, a.mode, a.rule_modes,
    )  # fmt: skip


Request = tuple[ContainerSpec, ImageFacts]
requests = st.tuples(specs(), _image)


def _allowed(request: Request, policy: Policy) -> bool:
    case, image = request
    return preview(IDENTITY, case, policy, FACTS, PATHS, image_facts=(image,)).allowed


@given(policies(), policies(), requests)
def test_adding_a_policy_never_turns_a_denial_into_an_allowance(
    a: Policy, b: Policy, case: Request
) -> None:
    if not _allowed(case, a) or not _allowed(case, b):
        assert not _allowed(case, meet(a, b))


@given(policies(), policies(), requests)
def test_what_both_allow_enforced_is_allowed_merged(a: Policy, b: Policy, case: Request) -> None:
    """The meet is exact: with all rules enforced it denies nothing that both sides allow."""

    def enforced(policy: Policy) -> Policy:
        return Policy(policy.names, policy.constraints, "enforce")

    if _allowed(case, enforced(a)) and _allowed(case, enforced(b)):
        assert _allowed(case, meet(enforced(a), enforced(b)))


@given(plain_policies(), plain_policies(), requests)
def test_the_join_allows_what_either_allows(a: Policy, b: Policy, case: Request) -> None:
    if _allowed(case, a) or _allowed(case, b):
        assert _allowed(case, join(a, b))
    assert join(a, b) == join(b, a)
    assert join(a, a) == a
