"""``rootless context``: the files are Docker's, and so are the words."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from rootless.cli.main import run


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``~/.docker`` of this test; nothing in the environment names a daemon."""
    for name in ("ROOTLESS_HOST", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("ROOTLESS_ALLOW_ROOT", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "docker"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def test_the_life_of_a_context(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(["context", "create", "box", "--description", "it", "--docker", "host=ssh://me@box"])
    assert made == 0
    meta = configuration / "contexts/meta" / _digest("box") / "meta.json"
    assert json.loads(meta.read_text()) == {
        "Name": "box",
        "Metadata": {"Description": "it"},
        "Endpoints": {"docker": {"Host": "ssh://me@box", "SkipTLSVerify": False}},
    }
    assert run(["context", "use", "box"]) == 0
    assert json.loads((configuration / "config.json").read_text()) == {"currentContext": "box"}
    capsys.readouterr()
    assert run(["context", "ls"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "DESCRIPTION", "DOCKER", "ENDPOINT", "ERROR"]
    assert lines[1] == ["box", "*", "it", "ssh://me@box"]
    assert lines[2][:4] == ["default", "Current", "DOCKER_HOST", "based"]
    assert run(["context", "rm", "box"]) == 1
    assert 'context "box" is in use' in capsys.readouterr().err
    assert run(["context", "rm", "-f", "box"]) == 0
    assert json.loads((configuration / "config.json").read_text()) == {}
    assert not meta.parent.exists()
    assert run(["context", "show"]) == 0
    assert capsys.readouterr().out == "box\ndefault\n"


def test_export_and_import_carry_the_keys(
    configuration: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = configuration / "contexts"
    meta = store / "meta" / _digest("far")
    tls = store / "tls" / _digest("far") / "docker"
    meta.mkdir(parents=True)
    tls.mkdir(parents=True)
    document = {
        "Name": "far",
        "Metadata": {"Other": 1},
        "Endpoints": {"docker": {"Host": "tcp://h"}},
    }
    (meta / "meta.json").write_text(json.dumps(document))
    (tls / "key.pem").write_bytes(b"secret")
    assert run(["context", "export", "far"]) == 0
    file = tmp_path / "far.dockercontext"
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(["context", "export", "far"]) == 1  # never over a file
    assert run(["context", "import", "near", str(file)]) == 0
    copied = store / "tls" / _digest("near") / "docker/key.pem"
    assert (copied.read_bytes(), copied.stat().st_mode & 0o777) == (b"secret", 0o600)
    assert run(["context", "import", "near", str(file)]) == 1
    assert run(["context", "create", "third", "--from", "near"]) == 0
    capsys.readouterr()
    assert run(["context", "inspect", "third"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["Metadata"] == {"Other": 1}
    assert found["TLSMaterial"] == {"docker": ["key.pem"]}
    assert found["Storage"]["TLSPath"] == str(store / "tls" / _digest("third"))
    assert run(["context", "update", "third", "--description", "new"]) == 0
    assert (store / "tls" / _digest("third") / "docker/key.pem").read_bytes() == b"secret"


def _archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"nothing", "no tar archive"),
        (_archive(**{"tls/docker/key.pem": b"x"}), "no metadata found"),
        (_archive(**{"meta.json": b"{"}), "not valid JSON"),
        (_archive(**{"meta.json": b"{}", "../../x": b"x"}), "unexpected context file"),
        (_archive(**{"meta.json": b"{}", "tls/docker/../x": b"x"}), "unexpected context file"),
    ],
)
def test_archives_that_are_no_contexts(
    data: bytes, said: str, tmp_path: Path, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(data)
    assert run(["context", "import", "bad", "file"]) == 1
    assert said in capsys.readouterr().err
    assert not (configuration / "contexts").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "x", "--docker", "host=unix:///s"], 'context name "x" is invalid'),
        (["create", "default", "--docker", "host=unix:///s"], "reserved"),
        (["create", "box", "--docker", "hosts=unix:///s"], "unrecognized config key: hosts"),
        (["create", "box", "--docker", "host=tcp://box"], "without TLS"),
        (["create", "box", "--docker", "host=npipe://x"], "only unix://"),
        (["create", "box", "--docker", "host=tcp://box,ca=/nonexistent"], "No such file"),
        (["create", "box", "--from", "gone"], "context not found"),
        (["use", "gone"], 'context "gone": context not found'),
        (["rm", "default"], 'context "default" cannot be removed'),
        (["rm", "gone"], 'context "gone" does not exist'),
        (["inspect", "gone"], "context not found"),
    ],
)
def test_what_cannot_be(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["context", *words]) == 1
    assert said in capsys.readouterr().err


def test_a_context_in_use_that_is_gone_is_shown(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration.mkdir()
    (configuration / "config.json").write_text('{"currentContext": "gone", "auths": {}}')
    assert run(["context", "ls", "--format", "{{.Name}} {{.Current}} {{.Error}}"]) == 0
    assert 'gone true context "gone": context not found: ' in capsys.readouterr().out
    assert run(["ps"]) == 1
    assert run(["context", "use", "default"]) == 0
    assert json.loads((configuration / "config.json").read_text()) == {"auths": {}}
