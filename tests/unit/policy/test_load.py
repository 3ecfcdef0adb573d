"""Which files make the policy, and what a broken one does."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.policy import schema
from rootless.policy.documents import InvalidPolicy, load_document
from rootless.policy.fields import FIELDS
from rootless.policy.load import PolicyFiles, PolicyStore, builtin, load_policy
from rootless.policy.policy import meet
from rootless.resources import resource_path
from tests.unit.policy.cases import HOME, policy

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"


@pytest.fixture
def files(tmp_path: Path) -> PolicyFiles:
    return PolicyFiles(user=tmp_path / "user.yaml", admin=tmp_path / "admin.yaml")


def test_without_files_the_default_decides(files: PolicyFiles) -> None:
    assert PolicyStore(files, home=HOME).current() == builtin("default", HOME)


def test_a_file_extends_the_default_unless_it_says_not(files: PolicyFiles) -> None:
    store = PolicyStore(files, home=HOME)
    files.user.write_text(HEAD + "spec: {ports: {minimumHostPort: 2000}}\n")
    assert store.current().number("ports.minimumHostPort") == 2000
    assert not store.current().permits("privileges.allowPrivileged")
    files.user.write_text(HEAD + "extends: none\nspec: {ports: {minimumHostPort: 2000}}\n")
    assert store.current().permits("privileges.allowPrivileged")


def test_the_user_cannot_loosen_the_administrator(files: PolicyFiles) -> None:
    files.admin.write_text(HEAD + "spec: {resources: {maximumPids: 100}}\n")
    files.user.write_text(
        HEAD + "extends: none\nmode: audit\nspec:\n  resources: {maximumPids: 500}\n"
        "  privileges: {allowPrivileged: true}\n"
    )
    current = PolicyStore(files, home=HOME).current()
    assert current.number("resources.maximumPids") == 100
    assert not current.permits("privileges.allowPrivileged")
    assert current.mode == "enforce"
    assert current.source_of("resources.maximumPids") == (f"{files.admin}:4:33, {files.user}:7:28")


def test_extra_files_must_exist(files: PolicyFiles, tmp_path: Path) -> None:
    extra = tmp_path / "extra.yaml"
    store = PolicyStore(PolicyFiles(files.user, files.admin, (extra,)), home=HOME)
    with pytest.raises(InvalidPolicy, match=r"extra\.yaml:1:1: cannot be read"):
        store.current()
    extra.write_text(HEAD + "extends: none\n")
    assert store.current().names == {"mine"}


def test_changes_are_seen_and_a_broken_file_refuses(files: PolicyFiles) -> None:
    store = PolicyStore(files, home=HOME)
    files.user.write_text(HEAD)
    first = store.current()
    assert store.current() is first
    files.user.write_text(HEAD + "spec: {ports: {minimumHostPort: -1, x: 1}}\n")
    for _ in range(2):
        with pytest.raises(InvalidPolicy) as caught:
            store.current()
        assert caught.value.context["complaints"] == [
            f"{files.user}:4:33: spec.ports.minimumHostPort: -1 is beyond the minimum of 0",
            f"{files.user}:4:40: spec.ports.x: unknown key 'x' (known are allowAddresses, "
            "allowPublishAll, maximum, maximumHostPort, minimumHostPort)",
        ]
    # The same length and time, another inode: as an editor saves it.
    replacement = files.user.with_suffix(".new")
    replacement.write_text(HEAD)
    os.replace(replacement, files.user)
    assert store.current() == first


def test_unreadable_is_not_absent(files: PolicyFiles) -> None:
    files.user.mkdir()
    with pytest.raises(InvalidPolicy, match="cannot be read"):
        PolicyStore(files, home=HOME).current()
    files.user.rmdir()
    files.user.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPolicy, match="not UTF-8"):
        PolicyStore(files, home=HOME).current()
    files.user.unlink()
    files.user.symlink_to("user.yaml")
    with pytest.raises(InvalidPolicy, match="cannot be read"):
        PolicyStore(files, home=HOME).current()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "spec: {capabilities: {allow: [SYS_ADMIN]}}",
            "f:4:31: spec.capabilities.allow[0]: 'SYS_ADMIN' is not one of CAP_",
        ),
        (
            "spec: {capabilities: {allow: CAP_KILL}}",
            "f:4:30: spec.capabilities.allow: must be of type list, not 'CAP_K",
        ),
        (
            "spec: {mounts: {denySources: [etc]}}",
            "f:4:31: spec.mounts.denySources[0]: 'etc' is not an absolute path",
        ),
        (
            "spec: {mounts: {denySources: [/a/../b]}}",
            "f:4:31: spec.mounts.denySources[0]: '/a/../b' is not an absolute",
        ),
        (
            "spec: {ports: {allowAddresses: [localhost]}}",
            "f:4:33: spec.ports.allowAddresses[0]: 'localhost' is not an",
        ),
        (
            "spec: {ports: {allowAddresses: [10.0.0.1/8]}}",
            "f:4:33: spec.ports.allowAddresses[0]: '10.0.0.1/8' is not",
        ),
        (
            "spec: {resources: {maximumMemory: lots}}",
            "f:4:35: spec.resources.maximumMemory: 'lots' is not a size such",
        ),
        (
            "spec: {resources: {maximumMemory: true}}",
            "f:4:35: spec.resources.maximumMemory: True is not a size",
        ),
        (
            "spec: {resources: {maximumMemory: -5}}",
            "f:4:35: spec.resources.maximumMemory: -5 is not a size",
        ),
        (
            "spec: {resources: {maximumPids: true}}",
            "f:4:33: spec.resources.maximumPids: must be of type integer, not T",
        ),
        (
            "spec: {privileges: {allowPrivileged: 0}}",
            "f:4:38: spec.privileges.allowPrivileged: must be of type boolean",
        ),
        ("spec: {nowhere: {a: 1}}", "f:4:17: spec.nowhere: unknown key 'nowhere'"),
        ("rules: {mounts.engin: {mode: warn}}", "mounts.engin"),
        (
            "rules: {mounts.type: {mode: off!}}",
            "f:4:29: rules[\"mounts.type\"].mode: 'off!' is not one",
        ),
        ("extends: builtin:lax", "f:4:10: extends: there is no 'builtin:lax'"),
        ("mode: off!", "f:4:7: mode: 'off!' is not one of"),
    ],
)
def test_complaints_name_the_place(body: str, complaint: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        load_policy(HEAD + body + "\n", "f", home=HOME)
    assert any(complaint in line for line in caught.value.context["complaints"])  # type: ignore[attr-defined]  # context holds any value


def test_head_is_required() -> None:
    with pytest.raises(InvalidPolicy, match="'apiVersion' is missing"):
        load_policy("kind: Policy\nmetadata: {name: x}\n", "f", home=HOME)


def test_home_and_lists_are_brought_to_one_form() -> None:
    found = policy('  mounts: {allowSources: ["~", /srv/a/, /srv/a/b, "~/x"]}\n')
    assert found.names_of("mounts.allowSources") == {HOME, "/srv/a"}
    assert policy("  resources: {maximumMemory: 1g}\n").number("resources.maximumMemory") == 1 << 30


def test_builtin_policies_are_tight() -> None:
    default, strict = builtin("default", HOME), builtin("strict", HOME)
    assert meet(default, strict).constraints == strict.constraints
    assert default.mode == strict.mode == "enforce"


@pytest.mark.parametrize("name", ["default", "strict", "role-ci", "roles"])
def test_builtin_policies_are_valid(name: str) -> None:
    """The daemon does not validate them when it starts, so this does."""
    text = resource_path("policies", f"{name}.yaml").read_text()
    loaded = load_policy(text, f"builtin:{name}", home=HOME)
    found = builtin(name, HOME)
    assert loaded == replace(found, names=loaded.names)
    assert found.names <= loaded.names
    # Those of the roles, which all extend, say nothing of what was chosen.
    assert {other for other in found.names if other.startswith("role-")} <= {name}
    assert loaded.sources == builtin(name, HOME).sources


_LEAF = st.sampled_from(["x", "", "8g", "none", 0, -1, 70000, True, [], ["ALL"], [1], {}, {"a": 1}])
_AREAS = sorted({key.partition(".")[0] for key in FIELDS})
_NAMES = sorted({key.partition(".")[2] for key in FIELDS} | {"readOnly", "grantLists", "nothing"})
_BENT = st.fixed_dictionaries(
    {"apiVersion": st.just("rootless.dev/v1alpha1"), "kind": st.just("Policy")},
    optional={
        "metadata": _LEAF | st.just({"name": "mine"}) | st.just({"version": 1, "nme": "x"}),
        "mode": _LEAF,
        "rules": _LEAF | st.dictionaries(st.sampled_from(["user.root", "x", "u*"]), _LEAF),
        "spec": _LEAF
        | st.dictionaries(
            st.sampled_from([*_AREAS, "moonts"]),
            _LEAF | st.dictionaries(st.sampled_from(_NAMES), _LEAF, max_size=4),
            max_size=4,
        ),
        "defaults": _LEAF | st.dictionaries(st.sampled_from(["memory", "pids", "egres"]), _LEAF),
        "exceptions": _LEAF | st.lists(st.dictionaries(st.sampled_from(["id", "rules"]), _LEAF)),
        "selector": _LEAF | st.dictionaries(st.sampled_from(["names", "nams"]), _LEAF),
        "sepc": _LEAF,
    },
)


def complaints(value: dict[str, Any]) -> list[str]:
    try:
        schema.validate(load_document(json.dumps(value), "mine.yaml"))
    except InvalidPolicy as error:
        found = error.context["complaints"]
        assert isinstance(found, list)
        return found
    return []


@given(_BENT)
def test_of_the_schema_only_what_a_document_has_counts(value: dict[str, Any]) -> None:
    found = complaints(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_needed", lambda whole, _: whole)
        assert found == complaints(value)
