"""``check-policy --running``: real containers, the real kernel."""

from __future__ import annotations

import json
from dataclasses import replace

from rootless.policy.inputs.body import container_spec
from rootless.policy.kernel import drifts, look
from tests.support.engine import Engine


def report(engine: Engine, *argv: str, status: int) -> list[dict[str, object]]:
    done = engine.run("check-policy", *argv, "--running", "--format", "json")
    assert done.returncode == status, done.stdout + done.stderr
    results: list[dict[str, object]] = json.loads(done.stdout)["results"]
    return results


def test_containers_are_judged_by_what_the_kernel_shows(engine: Engine) -> None:
    plain = engine.ok("run", "-d", "--name", "plain", "rootless/busybox", "sleep", "600").strip()
    locked = engine.ok(
        "run", "-d", "--name", "locked", "--read-only", "--user", "1000", "--cap-drop", "ALL",
        "rootless/busybox", "sleep", "600",
    ).strip()  # fmt: skip
    try:
        [result] = report(engine, "--policy", "builtin:default", "plain", status=0)
        assert (result["kind"], result["verdict"], result["findings"]) == ("Running", "pass", [])
        strict = report(engine, "--policy", "builtin:pss-restricted", "plain", "locked", status=1)
        assert [r["verdict"] for r in strict] == ["fail", "pass"]
        everything = report(engine, "--policy", "builtin:cis-docker", status=1)
        assert {r["name"] for r in everything} == {"plain", "locked"}

        # The record says more than the kernel shows: each difference is told.
        [record] = json.loads(engine.ok("inspect", "plain"))
        recorded = container_spec(record)
        seen = look(record["State"]["Pid"])
        assert not list(drifts(recorded, seen, 1))
        stricter = replace(
            recorded,
            rootfs=replace(recorded.rootfs, read_only=True),
            privileges=replace(recorded.privileges, capabilities=()),
            process=replace(recorded.process, user="1000"),
        )
        found = {drift.field for drift in drifts(stricter, seen, 1)}
        assert found == {"HostConfig.ReadonlyRootfs", "HostConfig.CapAdd", "Config.User"}
    finally:
        engine.ok("rm", "-f", plain, locked)
    assert engine.run("check-policy", "--running", "plain").returncode == 2
    assert "no container is running" in engine.run("check-policy", "--running").stderr


def test_the_engine_and_its_images_are_judged(fresh_engine: Engine) -> None:
    engine = fresh_engine
    done = engine.run("check-policy", "--daemon", "--format", "json")
    [result] = json.loads(done.stdout)["results"]
    assert (done.returncode, result["kind"], result["verdict"]) == (0, "Daemon", "warn")
    assert {e["rule"] for e in result["findings"]} == {"cis-docker.2.8", "cis-docker.2.13"}
    engine.ok("run", "--name", "made", "rootless/busybox", "true")
    engine.ok(
        "commit", "--change", "USER 1000", "--change", "ENV API_TOKEN=abcdefgh", "made", "mine:1"
    )
    engine.ok("rm", "made")
    policy = ("--policy", "builtin:restricted", "--format", "json")
    done = engine.run("check-policy", *policy, "--image", "mine:1", "--image", "rootless/busybox")
    assert done.returncode == 1, done.stderr
    mine, plain = json.loads(done.stdout)["results"]
    assert [e["rule"] for e in mine["findings"]] == ["env.secret"]
    assert {e["rule"] for e in plain["findings"]} == {"user.root", "images.tag"}
    assert engine.run("check-policy", "--image", "absent:1").returncode == 2
