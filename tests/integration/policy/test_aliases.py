"""Bind mounts give a directory another name; the engine's are recognised under it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.linux import process
from rootless.model.mounts import MountSpec
from rootless.policy.admission import preview
from tests.unit.policy.cases import FACTS, IDENTITY, PATHS, policy, spec

pytestmark = pytest.mark.integration


def _denied(source: Path, root: Path) -> bool:
    paths = replace(
        PATHS, data_root=root / "data", exec_root=root / "run", config_dir=root / "up/config"
    )
    case = spec(mounts=(MountSpec("bind", "/x", source=str(source)),))
    found = preview(IDENTITY, case, policy(), FACTS, paths).findings
    return any(finding.rule == "mounts.engine" for finding in found)


def _judge(root: Path, mounts: list[tuple[str, str]], sources: list[str]) -> list[bool]:
    """The verdicts in a mount namespace with these bind mounts below ``root``."""
    reader, writer = os.pipe()
    uid, gid = os.getuid(), os.getgid()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            process.unshare(process.CLONE_NEWUSER | process.CLONE_NEWNS)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
            for source, target in mounts:
                subprocess.run(
                    ["mount", "--bind", str(root / source), str(root / target)], check=True
                )
            found = [_denied(root / source, root) for source in sources]
            os.write(writer, json.dumps(found).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as file:
        data = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    verdicts = json.loads(data)
    assert isinstance(verdicts, list)
    return verdicts


def test_another_name_of_the_engines_directory_is_recognised(tmp_path: Path) -> None:
    for name in ("data/volumes/v", "run", "up/config/tls", "alias", "around", "inner",
                 "mine/with space/x", "other/y"):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    sources = [
        "alias", "alias/volumes/v", "alias/volumes/new", "around", "around/config",
        "inner", "mine", "mine/with space", "mine/with space/x",
    ]  # fmt: skip
    mounts = [
        ("data", "alias"),
        ("up", "around"),
        ("up/config/tls", "inner"),
        ("run", "mine/with space/x"),
    ]
    assert _judge(tmp_path, mounts, sources) == [True] * len(sources)
    assert _judge(tmp_path, [], sources) == [False] * len(sources)
    harmless = [("other", "inner")]
    assert _judge(tmp_path, harmless, ["inner", "other", "other/y"]) == [False] * 3
