"""What check-policy says of policies that are valid and odd: each kind is found, none invented."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from rootless.check import policies
from rootless.check.main import main
from rootless.check.policies import load_policies, written
from rootless.policy.lint import lint
from rootless.policy.load import BUILTINS, PolicyFiles

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    files = PolicyFiles(user=tmp_path / "user.yaml", admin=tmp_path / "admin.yaml")
    monkeypatch.setattr(policies, "_files", lambda: files)


def found(tmp_path: Path, text: str, *more: str) -> list[tuple[str, int, str]]:
    """Rule, line and message of each finding."""
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + text)
    names = [str(path), *more]
    result = lint(load_policies(names), "p", written=written(names))
    return [(entry.rule, entry.at.line, entry.message) for entry in result.findings]


def rules(tmp_path: Path, text: str) -> list[tuple[str, int]]:
    return [(rule, line) for rule, line, _ in found(tmp_path, text)]


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ("userns: {allowModes: []}", "policy.contradiction"),
        ("network: {allowModes: []}", "policy.contradiction"),
        ("images: {allow: []}", "policy.contradiction"),
        ("images: {deny: ['*']}", "policy.contradiction"),
        ("mounts: {allowPropagation: []}", "policy.contradiction"),
        ("landlock: {readOnly: []}", "policy.contradiction"),
        ("api: {allowActions: []}", "policy.contradiction"),
        ("resources: {minimumMemory: 2g, maximumMemory: 1g}", "policy.contradiction"),
        ("ports: {minimumHostPort: 9000, maximumHostPort: 80}", "policy.contradiction"),
        ("capabilities: {allow: [CAP_KILL], deny: [CAP_KILL]}", "policy.shadowed"),
        ("mounts: {allowSources: [/srv/a], denySources: [/srv]}", "policy.shadowed"),
        ("mounts: {readOnlySources: [/srv/a], denySources: [/srv]}", "policy.shadowed"),
        ("mounts: {allowSources: [/srv/a], allowTypes: [volume]}", "policy.shadowed"),
        ("images: {allow: [docker.io/a/b], deny: [docker.io/a/*]}", "policy.shadowed"),
        ("api: {allowActions: [container.*], denyActions: [container.*]}", "policy.shadowed"),
        ("seccomp: {allowUnconfined: true, denyCalls: [ptrace]}", "policy.shadowed"),
        ("restart: {allow: ['no'], maximumRetries: 5}", "policy.shadowed"),
        ("{namespaces: {allowHost: [network]}, network: {allowModes: [none]}}", "policy.shadowed"),
        ("ports: {minimumHostPort: 0}", "policy.dead-rule"),
        ("images: {allow: ['*']}", "policy.dead-rule"),
        ("mounts: {allowSources: [/]}", "policy.dead-rule"),
    ],
)
def test_one_odd_field(tmp_path: Path, spec: str, rule: str) -> None:
    inner = spec if spec.startswith("{") else f"{{{spec}}}"
    assert (rule, 5) in rules(tmp_path, f"extends: none\nspec: {inner}\n")


@pytest.mark.parametrize(
    "spec",
    [
        "capabilities: {allow: [CAP_KILL], deny: [CAP_CHOWN]}",
        "mounts: {allowSources: [/srv], denySources: [/srv/a]}",
        "mounts: {allowSources: [/srv], allowTypes: [bind]}",
        "images: {allow: [docker.io/*], deny: [docker.io/a/*]}",
        "resources: {minimumMemory: 1g, maximumMemory: 1g}",
        "{namespaces: {allowHost: [network]}, network: {allowModes: [host]}}",
        "seccomp: {denyCalls: [ptrace]}",
    ],
)
def test_nothing_odd(tmp_path: Path, spec: str) -> None:
    inner = spec if spec.startswith("{") else f"{{{spec}}}"
    assert found(tmp_path, f"extends: none\nspec: {inner}\n") == []


@pytest.mark.parametrize(
    ("spec", "lost"),
    [
        ("capabilities: {allow: [CAP_KILL, CAP_SYS_ADMIN]}", "CAP_SYS_ADMIN"),
        ("privileges: {allowPrivileged: true}", "true"),
        ("privileges: {requireNoNewPrivileges: false}", "false"),
        ("ports: {minimumHostPort: 80}", "80"),
        ("ports: {allowAddresses: [127.0.0.1, 10.0.0.0/8]}", "10.0.0.0/8"),
        ("devices: {allow: [/dev/kvm, /dev/null]}", "/dev/kvm"),
        ("sysctls: {allow: ['*']}", "*"),
    ],
)
def test_what_a_file_cannot_loosen(tmp_path: Path, spec: str, lost: str) -> None:
    """Somebody writes what he wants allowed and forgets that files only tighten."""
    rows = found(tmp_path, f"spec: {{{spec}}}\n")
    [(line, message)] = [row[1:] for row in rows if row[0] == "policy.shadowed"]
    assert line == 4
    assert f"{lost} has no effect: builtin:default:" in message


def test_what_a_file_tightens_is_not_odd(tmp_path: Path) -> None:
    assert found(
        tmp_path,
        "spec:\n  capabilities: {allow: [CAP_KILL], deny: [CAP_BPF]}\n"
        "  ports: {minimumHostPort: 8000, maximumHostPort: 9000, allowAddresses: [127.0.0.1]}\n"
        "  privileges: {allowPrivileged: false, requireNoNewPrivileges: true}\n"
        "  mounts: {denySources: [/srv]}\n",
    ) == []  # fmt: skip


def test_files_beside_it_and_the_administrators(tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(HEAD + "extends: none\nspec: {ports: {minimumHostPort: 5000}}\n")
    text = "extends: none\nspec: {ports: {minimumHostPort: 80}}\n"
    [(rule, line, message)] = found(tmp_path, text, str(other))
    assert (rule, line) == ("policy.shadowed", 5)
    assert f"80 has no effect: {other}:5:33" in message
    (tmp_path / "admin.yaml").write_text(other.read_text())
    (tmp_path / "user.yaml").write_text(HEAD + text)
    assert main(["--fail-on", "warn"]) == 4


def _exception(tmp_path: Path, rule: str, expires: date) -> Iterator[str]:
    entry = f"{{id: e, rules: [{rule}], reason: r, approvedBy: a, expires: {expires}}}"
    text = f"extends: none\nspec: {{ports: {{maximum: 1}}}}\nexceptions:\n  - {entry}\n"
    for name, line, _ in found(tmp_path, text):
        yield f"{name}:{line}"


def test_exceptions(tmp_path: Path) -> None:
    today = date.today()
    assert list(_exception(tmp_path, "ports.count", today)) == []
    assert list(_exception(tmp_path, "ports.*", today)) == []
    gone = today - timedelta(days=1)
    assert list(_exception(tmp_path, "ports.count", gone)) == ["policy.exception-expired:7"]
    assert list(_exception(tmp_path, "user.root", today)) == ["policy.dead-rule:7"]


@pytest.mark.parametrize("name", BUILTINS)
def test_no_built_in_is_odd(repository: Path, name: str) -> None:
    file = str(repository / "policies" / f"{name}.yaml")
    for names in ([f"builtin:{name}"], [file]):
        assert lint(load_policies(names), name, written=written(names)).findings == ()


def test_every_kind_of_finding_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("policy.shadowed", "running.drift", "input.not-understood"):
        assert main(["--explain", name]) == 0
        assert "found by: " in capsys.readouterr().out
