"""The decision log of a real daemon: what is in it, and that it stays whole."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.engine import Engine


def shown(engine: Engine, *argv: str) -> list[dict[str, object]]:
    out = engine.ok("audit", "show", "--format", "json", *argv)
    return [json.loads(line) for line in out.splitlines()]


def test_decisions_are_logged_and_the_log_survives_a_killed_daemon(fresh_engine: Engine) -> None:
    engine = fresh_engine
    engine.ok("run", "--rm", "--name", "one", "rootless/busybox", "true")
    assert engine.run("create", "--privileged", "rootless/busybox", "true").returncode != 0
    engine.ok("ps")
    created = [r for r in shown(engine) if r["verb"] == "container.create"]
    assert [record["allowed"] for record in created] == [True, False]
    assert created[0]["target"] == "one"
    assert str(created[0]["request"]).startswith("sha256:")
    peer = created[0]["peer"]
    assert isinstance(peer, dict)
    assert "python" in peer["executable"]
    [denied] = shown(engine, "--denied")
    findings = denied["findings"]
    assert isinstance(findings, list)
    assert [found["rule"] for found in findings] == ["privileges.privileged"]
    # Reading is not logged: it would drown the rest.
    assert not [r for r in shown(engine) if r["verb"] == "container.list"]

    engine.kill()
    assert "the chain is whole" in engine.ok("audit", "verify")
    engine.start()
    engine.ok("run", "--rm", "--name", "two", "rootless/busybox", "true")
    engine.stop()
    out = engine.ok("audit", "verify")
    assert "1 checkpoints: the chain is whole" in out

    log = next(engine.root.glob("**/audit/decisions.ndjson"))
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:1] + lines[2:]))
    broken = engine.run("audit", "verify")
    assert broken.returncode == 1
    assert "lines were removed or reordered" in broken.stdout
    log.write_bytes(b"".join(lines))
    engine.start()


def test_requests_of_the_past_under_another_policy(engine: Engine, tmp_path: Path) -> None:
    secret = "hunter22-of-this-test"
    wanted = ("--cap-add", "NET_RAW", "-e", f"DB_PASSWORD={secret}", "-v", "kept:/data")
    engine.ok("run", "--rm", "--name", "past", *wanted, "rootless/busybox", "true")
    engine.ok("volume", "rm", "kept")
    new = tmp_path / "new.yaml"
    new.write_text(
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: new}\n"
        "spec: {capabilities: {deny: [CAP_NET_RAW]}, env: {denySecrets: true}}\n"
    )
    done = engine.run("policy", "diff", "builtin:default", str(new), "--log", "own")
    assert done.returncode == 1, done.stderr
    denied = "container.create past: allowed -> denied by capabilities.add env.secret"
    assert denied in done.stdout
    assert "cannot be judged again" not in done.stderr
    same = engine.run("policy", "diff", "builtin:default", "builtin:default", "--log", "own")
    assert (same.returncode, same.stdout) == (0, "")
    log = next(engine.root.glob("**/audit/decisions.ndjson"))
    assert secret not in log.read_text()
