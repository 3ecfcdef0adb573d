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
