"""``rootless policy test|init|diff|explain``, and the tests of the built-in policies."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from rootless.check import diff, explain, init, show, testing
from rootless.check.main import main as check
from rootless.policy.load import BUILTINS

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"
TEST = "apiVersion: rootless.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: t}\n"


def test_the_built_in_policies_pass_their_tests(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((repository / "policies" / "tests").glob("*.yaml"))
    assert testing.main([str(path) for path in files]) == 0, capsys.readouterr().out
    tested = "\n".join(path.read_text() for path in files)
    assert all(f"policy: builtin:{name}" in tested for name in BUILTINS)
    page = (repository / "docs" / "builtin-policies.md").read_text()
    assert all(name in page for name in BUILTINS)


@pytest.mark.parametrize("name", ["default", "restricted", "strict", "ci-runner", "standards"])
def test_every_rule_of_a_built_in_policy_is_broken_by_its_tests(
    repository: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = repository / "policies" / "tests" / f"{name}.yaml"
    assert testing.main(["--coverage", str(path)]) == 0
    assert "no case breaks" not in capsys.readouterr().out


def test_coverage_counts_what_a_policy_denies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, tests = tmp_path / "p.yaml", tmp_path / "t.yaml"
    policy.write_text(
        HEAD + "extends: none\nrules: {health.required: {mode: audit}}\nspec:\n"
        "  ports: {maximum: 0, allowPublishAll: true}\n  user: {requireNonRoot: false}\n"
        "  userns: {allowModes: [shared, auto]}\n  capabilities: {allow: [], deny: []}\n"
        "  health: {require: true}\n  api: {denyActions: [container.stop]}\n"
        "  podSecurity: {require: [baseline@1.0]}\n"
    )
    tests.write_text(
        TEST + "policy: p.yaml\ncases:\n"
        "  - {name: a, as: run, input: 'run -p 127.0.0.1:8080:80 app', verdict: fail}\n"
    )
    assert testing.main(["--coverage", str(tests)]) == 0
    out = capsys.readouterr().out
    missing = {line.split()[-1] for line in out.splitlines() if "no case breaks" in line}
    assert "pss.privileged" in missing
    ours = {rule for rule in missing if not rule.startswith("pss.")}
    assert ours == set()
    assert "pss.hostProbesAndHostLifecycle" not in missing
    assert "pss.runAsNonRoot" not in missing


@pytest.mark.parametrize("name", BUILTINS)
def test_every_built_in_policy_is_valid(
    name: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check([f"builtin:{name}", "--format", "json"]) == 0
    # As a file of a user's it is validated, which a shipped one is not at run time.
    assert show.main([str(repository / "policies" / f"{name}.yaml")]) == 0
    assert name in capsys.readouterr().out


def test_cases_that_are_not_as_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.yaml").write_text(
        HEAD + "extends: none\nspec: {ports: {minimumHostPort: 1024}, health: {require: true}}\n"
    )
    (tmp_path / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, livenessProbe: {exec: {}}}]}\n"
    )
    case = "cases:\n  - {name: a, as: run, input: 'run -p 80:80 x', verdict: %s, rules: [%s]}\n"
    test = tmp_path / "t.yaml"
    for verdict, rules, status in (
        ("fail", "ports.privileged, health.required", 0),
        ("pass", "ports.privileged, health.required", 1),
        ("fail", "ports.privileged", 1),
        ("fail", "ports.privileged, health.required, user.root", 1),
    ):
        test.write_text(TEST + "policy: p.yaml\n" + case % (verdict, rules))
        assert testing.main([str(test)]) == status, (verdict, rules)
    assert f"{test}:6:5: a: user.root is not found" in capsys.readouterr().out
    test.write_text(
        TEST + "policy: p.yaml\ncases: [{name: a, file: pod.yaml, verdict: pass, rules: []}]\n"
    )
    assert testing.main([str(test), "--coverage"]) == 0
    assert "no case breaks ports.privileged" in capsys.readouterr().out
    for text in ("policy: p.yaml\n", "policy: absent.yaml\ncases: [{name: a}]\n"):
        test.write_text(TEST + text)
        assert testing.main([str(test)]) == 3
    assert testing.main([str(tmp_path / "absent")]) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("{age: soon}", "cases[0].image.age: 'soon' is not a time such as 90s"),
        ("{age: 0s}", "t.yaml:5:"),
        ("{size: -1}", "is not a size"),
        ("{signedBy: [absent.pub]}", "absent.pub"),
        ("{signedBy: ['-----BEGIN PUBLIC KEY-----']}", "t.yaml:5:"),
        ("{signedAs: nginx}", "is not a repository in full"),
        ("{setuidFiles: [su]}", "is not an absolute path"),
        ("{signdBy: []}", "did you mean 'signedBy'"),
    ],
)
def test_what_is_said_of_an_image_must_make_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], image: str, message: str
) -> None:
    test = tmp_path / "t.yaml"
    case = f"{{name: a, as: run, input: run x, verdict: pass, image: {image}}}"
    test.write_text(f"{TEST}policy: builtin:default\ncases: [{case}]\n")
    assert testing.main([str(test)]) in {2, 3}
    assert message in capsys.readouterr().err


def test_a_new_policy_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.yaml"
    assert init.main([str(path), "--name", "team"]) == 0
    assert check([str(path)]) == 0
    assert init.main([str(path)]) == 2
    assert init.main([]) == 0
    assert "name: mine" in capsys.readouterr().out


def test_differences_of_fields_and_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, pod = tmp_path / "old.yaml", tmp_path / "new.yaml", tmp_path / "pod.yaml"
    old.write_text(HEAD + "extends: none\nspec: {capabilities: {allow: [CAP_KILL]}}\n")
    new.write_text(
        HEAD + "extends: none\nmode: warn\nspec:\n  capabilities: {allow: [CAP_CHOWN]}\n"
        "  podSecurity: {require: [baseline]}\n"
    )
    pod.write_text("apiVersion: v1\nkind: Pod\nspec: {hostPID: true, containers: []}\n")
    assert diff.main([str(old), str(old)]) == 0
    assert diff.main([str(old), str(new), str(pod)]) == 1
    out = capsys.readouterr().out
    assert "mode: enforce -> warn" in out
    assert "capabilities.allow: + CAP_CHOWN - CAP_KILL" in out
    assert "podSecurity.require: (not set) -> baseline@1.37" in out
    assert f"{pod}: Pod : pass -> warn" in out
    assert diff.main([str(old), str(tmp_path / "absent")]) == 2


def test_names_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["ports.minimumHostPort"]) == 0
    assert "rule: ports.privileged" in capsys.readouterr().out
    assert explain.main(["pss.hostPorts"]) == 0
    assert explain.main([]) == 0
    assert "cis-docker.5.4\n" in capsys.readouterr().out
    assert explain.main(["nothing"]) == 2


def test_exceptions_in_a_report(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    pod, by = tmp_path / "pod.yaml", tmp_path / "p.yaml"
    pod.write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: old}\n"
        "spec: {hostPID: true, containers: [{name: a, image: nginx}]}\n"
    )
    text = (
        HEAD + "extends: builtin:pss-baseline\nexceptions:\n"
        "  - {id: pids, rules: [pss.hostNamespaces], match: {names: [old]}, reason: r,"
        " approvedBy: a, expires: DAY}\n"
        "  - {id: idle, rules: [pss.privileged], reason: r, approvedBy: a, expires: DAY}\n"
    )
    by.write_text(text.replace("DAY", str(date.today() + timedelta(days=9))))
    assert check([str(by), str(pod)]) == 0
    out = capfdbinary.readouterr().out.decode()
    assert "[excepted: pids]" in out
    assert "the exception idle forgave nothing" in out
    assert check([str(by), str(pod), "--format", "sarif"]) == 0
    assert '"suppressions"' in capfdbinary.readouterr().out.decode()
    by.write_text(text.replace("DAY", str(date.today() - timedelta(days=9))))
    assert check([str(by), str(pod)]) == 1
    assert "ran out on" in capfdbinary.readouterr().out.decode()


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a: {b", "A", "-x", "", "a" * 80):
        with pytest.raises(SystemExit) as caught:
            init.main([f"--name={name}"])
        assert caught.value.code == 2
    assert init.main(["--name", "ok-1"]) == 0
    assert "name: ok-1" in capsys.readouterr().out
