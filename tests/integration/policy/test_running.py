"""``check-policy --running``: real containers, the real kernel."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

from rootless.policy.inputs.body import container_spec
from rootless.policy.kernel import drifts, look
from rootless.policy.paths import MountTable
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
        table = MountTable.read()
        assert not list(drifts(recorded, seen, 1, table))
        stricter = replace(
            recorded,
            rootfs=replace(recorded.rootfs, read_only=True),
            privileges=replace(recorded.privileges, capabilities=()),
            process=replace(recorded.process, user="1000"),
        )
        found = {drift.field for drift in drifts(stricter, seen, 1, table)}
        assert found == {"HostConfig.ReadonlyRootfs", "HostConfig.CapAdd", "Config.User"}
    finally:
        engine.ok("rm", "-f", plain, locked)
    assert engine.run("check-policy", "--running", "plain").returncode == 2
    assert "no container is running" in engine.run("check-policy", "--running").stderr


def inside(pid: int, *command: str) -> list[str]:
    """A command line of root of a container's namespaces, behind the engine's back."""
    return ["nsenter", "-t", str(pid), "-U", "-S", "0", "-G", "0", *command]


def drifted(engine: Engine, name: str) -> list[str]:
    done = engine.run(
        "check-policy", "--policy", "builtin:default", "--running", name, "--format", "json"
    )
    [result] = json.loads(done.stdout)["results"]
    found = [e["message"] for e in result["findings"] if e["rule"] == "running.drift"]
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    return found


def test_what_is_changed_behind_the_engines_back_is_drift(engine: Engine, tmp_path: Path) -> None:
    engine.ok(
        "run", "-d", "--name", "drift", "--read-only",
        "-v", f"{tmp_path}:/ro:ro", "-v", "kept:/data",
        "--sysctl", "net.core.somaxconn=77", "rootless/busybox", "sleep", "600",
    )  # fmt: skip
    try:
        pid = json.loads(engine.ok("inspect", "drift"))[0]["State"]["Pid"]
        assert drifted(engine, "drift") == []
        for number, (command, told) in enumerate(
            (
                (["-m", "-p", "mount", "-o", "remount,rw,bind", "/"], "the root is writable"),
                (["-m", "-p", "umount", "/proc/keys"], "/proc/keys, the kernel shows it is bare"),
                (
                    ["-m", "-p", "mount", "-o", "remount,rw,bind", "/proc/sys"],
                    "/proc/sys, the kernel shows it is writable",
                ),
                (["-m", "-p", "mount", "-o", "remount,rw,bind", "/ro"], "/ro read-only"),
                (["-m", "-p", "mount", "-o", "bind", "/proc", "/data"], "/data shows"),
                (["-m", "-p", "mount", "-t", "tmpfs", "x", "/usr"], "/usr shows tmpfs"),
                (["-n", "-i", "sysctl", "-q", "-w", "net.core.somaxconn=78"], "shows 78"),
            ),
            1,
        ):
            subprocess.run(inside(pid, *command), check=True, timeout=60)
            found = drifted(engine, "drift")
            assert len(found) == number, found
            assert any(told in message for message in found), (told, found)
        backdoor = inside(pid, "-m", "-p", "-n", "-i", "-u", "sleep", "600")
        with subprocess.Popen(backdoor) as process:
            try:
                while not any("no system call filter" in text for text in drifted(engine, "drift")):
                    assert process.poll() is None
            finally:
                process.terminate()
    finally:
        engine.ok("rm", "-f", "drift")
        engine.ok("volume", "rm", "kept")


def test_an_exec_is_no_drift_and_ports_are_seen(engine: Engine, tmp_path: Path) -> None:
    engine.ok(
        "run", "-d", "--name", "web", "rootless/busybox", "sh", "-c",
        "echo x > /index.html; httpd -f -p 8081 -h /",
    )  # fmt: skip
    policy = tmp_path / "p.yaml"
    policy.write_text(
        "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: p}\n"
        "extends: none\nspec: {landlock: {bindTcp: [80]}}\n"
    )
    try:
        execs = [engine.popen("exec", "web", "sleep", "0.2") for _ in range(4)]
        assert drifted(engine, "web") == []
        for process in execs:
            assert process.wait(60) == 0
        engine.ok("exec", "web", "sh", "-c", "until wget -qO- 127.0.0.1:8081; do sleep 0.1; done")
        [result] = report(engine, "--policy", str(policy), "web", status=1)
        assert [e["rule"] for e in result["findings"]] == ["landlock.listening"]  # type: ignore[attr-defined]  # the report's JSON
    finally:
        engine.ok("rm", "-f", "web")


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


def test_a_port_is_judged_by_where_it_is_bound(engine: Engine) -> None:
    """Without an address this engine takes its own default, and Docker all there are."""
    engine.ok("run", "-d", "--name", "published", "-p", "80", "rootless/busybox", "sleep", "600")
    try:
        [result] = report(engine, "--policy", "builtin:default", "published", status=0)
        assert result["findings"] == []
    finally:
        engine.ok("rm", "--force", "published")
