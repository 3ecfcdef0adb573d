"""The area ``api``: who may do what on whose objects, and within which limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rootless.errors import Denied
from rootless.model.identity import Identity
from rootless.model.mounts import MountSpec
from rootless.model.request import ExecRequest
from rootless.model.spec import NetworkSpec
from rootless.model.usage import Usage
from rootless.model.verbs import VERBS
from rootless.policy.actions import action_findings, owner_findings
from rootless.policy.admission import admit, admit_action, admit_exec, admit_image
from rootless.policy.documents import InvalidPolicy
from rootless.policy.load import builtin, load_policy
from rootless.policy.matching import Subject
from rootless.policy.policy import Policy, meet
from rootless.policy.writer import as_yaml
from tests.unit.policy.cases import FACTS, HOME, IDENTITY, PATHS, SPEC, policy, spec

CI = Identity("certificate", "runner", role="ci", uri="spiffe://example.org/role/ci/runner")
OTHER = Identity("certificate", "bob", role="developer")
GRANTS = """\
  api:
    grants:
      - who: {roles: [ci]}
        verbs: [container.*, exec.*, image.pull, image.run]
        objects: {owners: [self]}
        limits:
          images: [docker.io/library/*]
          networks: [none]
          mounts: [/srv/ci]
          paths: [/out]
          execUsers: ["1000"]
          execPrivileged: false
      - who: {identities: ["uid:3000000001", bob]}
        verbs: [container.list, container.inspect, system.*]
        objects: {names: [web*], labels: [team=a]}
"""
BY = policy(GRANTS)
QUIET = spec(network=NetworkSpec("none"))


NOTHING = Subject()


def denied(identity: Identity, verb: str, subject: Subject = NOTHING, by: Policy = BY) -> bool:
    return bool(action_findings(identity, verb, by, replace(subject, identity=identity)))


def test_who_may_do_what() -> None:
    assert not denied(CI, "container.list")
    assert not denied(CI, "image.pull")
    assert denied(CI, "image.push")
    assert denied(CI, "volume.list")
    assert not denied(OTHER, "container.list")
    assert not denied(IDENTITY, "system.info")
    assert denied(OTHER, "container.create")
    assert denied(Identity("certificate", "eve"), "container.list")
    assert not denied(OTHER, "container.create", by=policy())


def test_the_engines_own_user_needs_no_grant() -> None:
    own = Identity("unix", "root", uid=0)
    assert not denied(own, "image.push")
    # What is denied to everybody is denied to this user too.
    assert denied(own, "image.push", by=policy("  api: {denyActions: [image.*]}\n"))


def test_on_which_objects() -> None:
    mine = Subject(name="x", owners=frozenset({CI.key}))
    theirs = Subject(name="x", owners=frozenset({OTHER.key}))
    assert not denied(CI, "container.stop", mine)
    assert denied(CI, "container.stop", theirs)
    web = Subject(name="web-1", labels={"team": "a"}, owners=frozenset({CI.key}))
    assert not denied(OTHER, "container.inspect", web)
    assert denied(OTHER, "container.inspect", replace(web, name="db"))
    assert denied(OTHER, "container.inspect", replace(web, labels={"team": "b"}))


def test_what_they_ask_for_is_limited() -> None:
    assert admit(CI, QUIET, BY, FACTS, PATHS).decision.allowed
    with pytest.raises(Denied, match=r"api\.grant: networks=slirp4netns: what is granted to runn"):
        admit(CI, SPEC, BY, FACTS, PATHS)
    bind = MountSpec("bind", "/x", source="/srv/ci/../other")
    with pytest.raises(Denied, match=r"api\.grant: mounts=/srv/other: "):
        admit(CI, replace(QUIET, mounts=(bind,)), BY, FACTS, PATHS)
    bind = MountSpec("bind", "/x", source="/srv/ci/job")
    assert admit(CI, replace(QUIET, mounts=(bind,)), BY, FACTS, PATHS).decision.allowed
    image = replace(QUIET.image, reference="ghcr.io/a/b:1")
    with pytest.raises(Denied, match=r"api\.grant: images=ghcr\.io/a/b:1"):
        admit(CI, replace(QUIET, image=image), BY, FACTS, PATHS)
    with pytest.raises(Denied, match=r"api\.grant: images=ghcr\.io/a/b:1"):
        admit_image(CI, "pull", "ghcr.io/a/b:1", BY)
    assert admit_image(CI, "pull", "docker.io/library/alpine:3", BY).allowed


def test_execs_are_limited() -> None:
    request = ExecRequest(("sh",), user="1000")
    assert admit_exec(CI, request, QUIET, BY).allowed
    with pytest.raises(Denied, match=r"api\.grant: execUsers=root: "):
        admit_exec(CI, replace(request, user="root"), QUIET, BY)
    with pytest.raises(Denied, match=r"api\.grant: execUsers=\(unset\): "):
        admit_exec(CI, ExecRequest(("sh",)), QUIET, BY)
    with pytest.raises(Denied, match=r"api\.grant: execPrivileged=true: "):
        admit_exec(CI, replace(request, privileged=True), QUIET, BY)
    with pytest.raises(Denied, match=r"api\.grant: action=container\.exec: nothing grants this"):
        admit_exec(CI, request, QUIET, BY, owner=OTHER)


def test_archives_are_limited() -> None:
    mine = Subject(name="x", owners=frozenset({CI.key}))
    assert not denied(CI, "container.read", replace(mine, paths=("/out/log",)))
    assert denied(CI, "container.read", replace(mine, paths=("/etc/passwd",)))
    assert denied(CI, "container.write", replace(mine, paths=("/outer",)))


def test_a_start_is_for_who_owns_the_container() -> None:
    assert admit(CI, QUIET, BY, FACTS, PATHS, verb="container.start").decision.allowed
    with pytest.raises(Denied, match=r"api\.grant"):
        admit(CI, QUIET, BY, FACTS, PATHS, verb="container.start", usage=Usage(OTHER))


def test_others_objects_are_for_whom_the_policy_names() -> None:
    by = policy('  api: {allowOthers: ["role:admin", "uid:7"]}\n')
    theirs = Subject(name="x", owners=frozenset({OTHER.key}))
    [finding] = owner_findings(CI, by, theirs)
    assert (finding.rule, finding.action) == ("api.owner", "deny")
    assert not owner_findings(OTHER, by, theirs)
    assert not owner_findings(replace(CI, role="admin"), by, theirs)
    assert not owner_findings(Identity("unix", "x", uid=7), by, theirs)
    assert not owner_findings(Identity("unix", "root", uid=0), by, theirs)
    assert not owner_findings(CI, by, Subject(owners=frozenset({"*"})))
    # Nobody wrote down whose it is: it is the engine's own user's.
    assert owner_findings(CI, by, Subject(owners=frozenset({""})))
    assert not owner_findings(CI, policy(), theirs)
    assert owner_findings(CI, builtin("default", HOME), theirs)


def test_what_two_policies_grant_is_what_both_do() -> None:
    pull = policy("  api: {grants: [{verbs: [image.*]}]}\n")
    both = meet(BY, pull)
    assert not denied(CI, "image.pull", by=both)
    assert denied(CI, "image.push", by=both)
    assert denied(CI, "container.list", by=both)
    text = as_yaml(both)
    assert "grantLists" in text
    assert load_policy(text, "x.yaml", home=HOME).constraints == both.constraints
    assert load_policy(as_yaml(BY), "x.yaml", home=HOME).constraints == BY.constraints


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("grants: [{who: {roles: [x]}}]", "'verbs' is missing"),
        ("grants: [{verbs: [container.stpo]}]", "did you mean 'container.stop'?"),
        ("grants: [{verbs: ['*'], limit: {}}]", "did you mean 'limits'?"),
        ("grants: [{verbs: ['*'], limits: {mounts: [srv]}}]", "is not an absolute path"),
        ("grants: [{verbs: ['*'], who: {uids: [-1]}}]", "beyond the minimum"),
        ("denyActions: [foo.*]", "is not an action such as"),
        ("allowOthers: ['a b']", "is not a name, uid:1000"),
    ],
)
def test_what_is_wrong_is_told(body: str, complaint: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policy(f"  api: {{{body}}}\n")
    complaints = caught.value.context["complaints"]
    assert any(complaint in line for line in complaints), complaints  # type: ignore[attr-defined]  # context holds any value


def test_every_verb_can_be_denied() -> None:
    for verb in VERBS:
        by = policy(f"  api: {{denyActions: [{verb}]}}\n")
        with pytest.raises(Denied, match=r"api\.action"):
            admit_action(CI, verb, "x", by)
