"""Selectors, exceptions, defaults: what is for some, for a while, or for who says nothing."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from rootless.errors import Denied
from rootless.model.decision import Finding
from rootless.model.identity import Identity
from rootless.model.request import (
    ContainerConfig,
    ContainerRequest,
    ExecRequest,
    HostConfig,
    Resources,
)
from rootless.model.spec import ContainerSpec, PrivilegesSpec
from rootless.policy.admission import admit, admit_action, admit_exec, admit_image, preview
from rootless.policy.clauses import check_defaults
from rootless.policy.defaulting import with_defaults
from rootless.policy.documents import InvalidPolicy
from rootless.policy.load import PolicyFiles, PolicyStore, load_policy
from rootless.policy.policy import Policy, meet
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, policy, spec

PRIVILEGED = spec(privileges=PrivilegesSpec(("CAP_CHOWN",), True, True))
CLOSED = "  privileges: {allowPrivileged: false}\n"
TOMORROW = date.today() + timedelta(days=1)
YESTERDAY = date.today() - timedelta(days=1)


def excused(
    expires: date = TOMORROW, more: str = "", rule: str = "privileges.privileged"
) -> Policy:
    return policy(
        CLOSED,
        more=f"exceptions:\n  - id: legacy\n    rules: [{rule}]\n{more}    reason: old\n"
        f"    approvedBy: somebody\n    expires: {expires}\n",
    )


def found(case: ContainerSpec, by: Policy, identity: Identity = IDENTITY) -> list[Finding]:
    return list(preview(identity, case, by, FACTS, PATHS).findings)


def denies(case: ContainerSpec, by: Policy, identity: Identity = IDENTITY) -> bool:
    return not preview(identity, case, by, FACTS, PATHS).allowed


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        ("{names: [quiet*]}", True),
        ("{names: [loud*]}", False),
        ("{images: [docker.io/library/*]}", True),
        ("{images: [ghcr.io/*]}", False),
        ("{labels: [team=a]}", True),
        ("{labels: [team]}", True),
        ("{labels: [te*]}", True),
        ("{labels: [team=b]}", False),
        ("{labels: [team, absent]}", False),
        ("{identities: [tester]}", True),
        ("{identities: [root]}", False),
        ("{roles: [admin]}", False),
        ("{names: [quiet*], images: [ghcr.io/*]}", False),
    ],
)
def test_a_policy_is_for_whom_its_selector_means(selector: str, meant: bool) -> None:
    case = spec(labels=(("team", "a"),), privileges=PRIVILEGED.privileges)
    assert denies(case, policy(CLOSED, more=f"selector: {selector}\n")) == meant


def test_an_exception_forgives_for_a_while_and_is_recorded() -> None:
    assert denies(PRIVILEGED, policy(CLOSED))
    [finding] = found(PRIVILEGED, excused())
    assert (finding.action, finding.exception) == ("audit", "legacy")
    admitted = admit(IDENTITY, PRIVILEGED, excused(), FACTS, PATHS)
    assert admitted.decision.findings == (finding,)
    assert not denies(PRIVILEGED, excused(date.today()))
    assert denies(PRIVILEGED, excused(YESTERDAY))


def test_an_exception_is_for_its_rules_matches_and_values() -> None:
    assert denies(PRIVILEGED, excused(rule="capabilities.add"))
    assert not denies(PRIVILEGED, excused(rule="privileges.*"))
    assert denies(PRIVILEGED, excused(more="    match: {names: [other]}\n"))
    assert not denies(PRIVILEGED, excused(more="    match: {names: [quiet_heron]}\n"))
    assert denies(PRIVILEGED, excused(more="    allow: [other]\n"))
    assert not denies(PRIVILEGED, excused(more="    allow: ['true']\n"))


def test_an_exception_of_one_policy_forgives_nothing_of_another() -> None:
    for pair in ((excused(), policy(CLOSED)), (policy(CLOSED), excused())):
        assert denies(PRIVILEGED, meet(*pair))
    assert not denies(PRIVILEGED, meet(excused(), excused()))


def test_the_floor_has_no_exceptions() -> None:
    with pytest.raises(InvalidPolicy, match="always denies"):
        excused(rule="mounts.engine")
    # A pattern that covers it does not either.
    loose = excused(rule="sysctls.*")
    assert denies(spec(sysctls=(("kernel.hostname", "x"),)), loose)


def test_exceptions_in_documents_of_their_own() -> None:
    head = "apiVersion: rootless.dev/v1alpha1\nmetadata: {name: legacy}\n"
    text = (
        f"{head}kind: Policy\nextends: none\nspec:\n{CLOSED}---\n{head}kind: Exception\nspec:\n"
        f"  rules: [privileges.privileged]\n  reason: r\n  approvedBy: a\n  expires: {TOMORROW}\n"
    )
    assert not denies(PRIVILEGED, load_policy(text, "f", home=HOME))
    with pytest.raises(InvalidPolicy, match="'reason' is missing"):
        load_policy(text.replace("  reason: r\n", ""), "f", home=HOME)
    with pytest.raises(InvalidPolicy, match="one Policy"):
        load_policy(text.replace("kind: Exception", "kind: Policy"), "f", home=HOME)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("expires: 2030-13-01", "is not a day"),
        ("expires: soon", "is not a day"),
        ("rules: []", "breaks minlength"),
        ("rules: [privileges.privilege]", "did you mean 'privileges.privileged'?"),
        ("rules: [nothing.*]", "is the beginning of no rule"),
        ("match: {names: ['*x']}", "* can stand at its end only"),
        ("approvedby: x", "did you mean 'approvedBy'?"),
    ],
)
def test_exceptions_are_validated(more: str, complaint: str) -> None:
    base = {"rules": "[user.root]", "reason": "r", "approvedBy": "a", "expires": "2030-01-01"}
    key, _, value = more.partition(": ")
    fields = "".join(f"    {k}: {v}\n" for k, v in {**base, key: value}.items())
    with pytest.raises(InvalidPolicy) as caught:
        policy(CLOSED, more=f"exceptions:\n  - id: x\n{fields}")
    complaints = caught.value.context["complaints"]
    assert any(complaint in line for line in complaints), complaints  # type: ignore[attr-defined]  # context holds any value


def test_layers_count_for_exec_images_and_actions() -> None:
    only = "selector: {names: [quiet_heron]}\n"
    strict = policy("  user: {requireNonRoot: true}\n  images: {deny: [docker.io/*]}\n", more=only)
    with pytest.raises(Denied, match=r"user\.root"):
        admit_exec(IDENTITY, ExecRequest(("sh",)), SPEC, strict)
    assert (
        admit(IDENTITY, spec(name="other"), strict, FACTS, PATHS).spec.process.forbid_root is False
    )
    users = policy(
        "  api: {denyActions: [container.stop]}\n  images: {deny: [docker.io/*]}\n",
        more="selector: {identities: [tester]}\n",
    )
    with pytest.raises(Denied, match=r"api\.action"):
        admit_action(IDENTITY, "container.stop", "x", users)
    with pytest.raises(Denied, match=r"images\.allowed"):
        admit_image(IDENTITY, "pull", "docker.io/library/x:1", users)
    other = Identity("unix", "somebody", uid=1)
    assert admit_action(other, "container.stop", "x", users).allowed
    assert admit_image(other, "pull", "docker.io/library/x:1", users).allowed


def test_actions_can_be_listed() -> None:
    only = policy("  api: {allowActions: [container.*]}\n")
    assert admit_action(IDENTITY, "container.stop", "x", only).allowed
    with pytest.raises(Denied, match=r"api\.action"):
        admit_action(IDENTITY, "image.remove", "x", only)


DEFAULTS = (
    "defaults: {memory: 64m, cpus: '0.5', pids: 10, userns: auto, network: none, user: '7',"
    " capDrop: [ALL]}\n"
)


def test_defaults_fill_gaps_and_nothing_else() -> None:
    by = policy("", more=DEFAULTS)
    assert by.title != policy("").title
    filled = with_defaults(by, IDENTITY, ContainerRequest(), "x").host
    assert filled.resources == Resources(memory=64 << 20, nano_cpus=5 * 10**8, pids_limit=10)
    assert (filled.userns_mode, filled.network_mode, filled.cap_drop) == ("auto", "none", ("ALL",))
    assert with_defaults(by, IDENTITY, ContainerRequest(), "x").config.user == "7"
    said = ContainerRequest(
        config=ContainerConfig(user="0"),
        host=HostConfig(
            resources=Resources(memory=1 << 30, cpu_quota=5, pids_limit=-1),
            userns_mode="shared",
            network_mode="bridge",
            cap_drop=("KILL",),
        ),
    )
    assert with_defaults(by, IDENTITY, said, "x") == said
    assert with_defaults(policy(""), IDENTITY, said, "x") is said


def test_the_nearest_default_counts_and_selectors_do() -> None:
    far, near = policy("", more="defaults: {pids: 10}\n"), policy("", more="defaults: {pids: 20}\n")
    both = meet(far, near)
    assert with_defaults(both, IDENTITY, ContainerRequest(), "x").host.resources.pids_limit == 20
    some = policy("", more="selector: {names: [a]}\ndefaults: {pids: 30}\n")
    merged = meet(both, some)
    for name, pids in (("a", 30), ("b", 20)):
        request = ContainerRequest(name=name)
        assert with_defaults(merged, IDENTITY, request, "x").host.resources.pids_limit == pids


def test_a_default_that_breaks_a_rule_is_an_error_that_cites_both(tmp_path: Path) -> None:
    files = PolicyFiles(user=tmp_path / "user.yaml", admin=tmp_path / "admin.yaml")
    head = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: x}\nextends: none\n"
    files.admin.write_text(head + "spec: {resources: {maximumMemory: 32m}}\n")
    files.user.write_text(head + "defaults: {memory: 64m}\n")
    with pytest.raises(InvalidPolicy) as caught:
        PolicyStore(files, home=HOME).current()
    [line] = caught.value.context["complaints"]  # type: ignore[misc]  # context holds any value
    assert str(files.user) in line
    assert str(files.admin) in line
    assert "64MiB is above 32MiB" in line
    for body, key in (
        ("spec: {userns: {allowModes: [shared]}}\ndefaults: {userns: auto}\n", "userns"),
        ("spec: {network: {allowModes: [none]}}\ndefaults: {network: bridge}\n", "network"),
        ("spec: {resources: {maximumCpus: 1}}\ndefaults: {cpus: 2}\n", "cpus"),
        ("spec: {network: {egress: ['*.b.c:443']}}\ndefaults: {egress: [b.c]}\n", "egress"),
    ):
        with pytest.raises(InvalidPolicy, match=f"default for {key}"):
            check_defaults(load_policy(head + body, "f", home=HOME))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("  quotas: {maximumContainer: 5}\n", "did you mean 'maximumContainers'?"),
        (
            "  lifetime: {maximum: soon}\n",
            "spec.lifetime.maximum: 'soon' is not a time such as 90s",
        ),
        ("  lifetime: {maximum: 500ms}\n", "is not a time such as 90s, 4h or 30d"),
        ("  lifetime: {maximum: 0}\n", "is not a time such as 90s, 4h or 30d"),
        ("  lifetime: {maximum: true}\n", "is not a time such as 90s, 4h or 30d"),
        ("  landlock: {readOnly: [usr]}\n", "is not an absolute path"),
        ("  landlock: {bindTcp: [70000]}\n", "beyond the maximum"),
        ("  network: {egress: [a..b]}\n", "is not a destination such as pypi.org:443"),
        ("  network: {egress: [none]}\n", "is not a destination such as pypi.org:443"),
        ("  network: {requireEgres: true}\n", "did you mean 'requireEgress'?"),
        ("  ports: {minimumHostPor: 1}\n", "did you mean 'minimumHostPort'?"),
        ("  capabilites: {allow: []}\n", "did you mean 'capabilities'?"),
        ("  capabilities: {allow: [CAP_SYS_ADMN]}\n", "did you mean 'CAP_SYS_ADMIN'?"),
        ("  podSecurity: {require: [strict]}\n", "baseline or restricted"),
        ("  cisDocker: {require: ['9.9']}\n", "is not one of"),
    ],
)
def test_what_is_not_known_is_refused_with_the_nearest_word(body: str, complaint: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policy(body)
    complaints = caught.value.context["complaints"]
    assert any(complaint in line for line in complaints), complaints  # type: ignore[attr-defined]  # context holds any value
