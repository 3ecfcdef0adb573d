"""Landlock rules of the policy: what the kernel denies in a container, and allows without them."""

from __future__ import annotations

import json

import pytest

from tests.support.engine import Engine

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\nextends: none\n"
FILES = (
    "spec:\n  landlock:\n    readOnly: [/bin, /lib, /lib64, /usr, /etc, /proc, /absent]\n"
    "    readWrite: [/dev, /tmp]\n"
)
QUIET = ("--network", "none")


def attempt(engine: Engine, *argv: str, flags: tuple[str, ...] = ()) -> int:
    return engine.run("run", "--rm", *QUIET, *flags, "rootless/busybox", *argv).returncode


@pytest.mark.parametrize("flags", [(), ("--security-opt", "no-new-privileges=false")])
def test_files_are_what_the_policy_says(engine: Engine, flags: tuple[str, ...]) -> None:
    path = engine.root / "c/rootless/policy.yaml"
    outside = ("sh", "-c", "echo x > /root/file")
    inside = ("sh", "-c", "mkdir /tmp/a && echo x > /tmp/a/file && cat /tmp/a/file /etc/passwd")
    change = ("sh", "-c", "echo x >> /etc/passwd")
    look = ("ls", "/root")
    path.write_text(HEAD)
    try:
        for argv in (outside, inside, change, look):
            assert attempt(engine, *argv, flags=flags) == 0, argv
        path.write_text(HEAD + FILES)
        assert attempt(engine, *inside, flags=flags) == 0
        for argv in (outside, change, look):
            assert attempt(engine, *argv, flags=flags) != 0, argv
    finally:
        path.unlink()


def test_an_exec_is_restricted_as_well(engine: Engine) -> None:
    path = engine.root / "c/rootless/policy.yaml"
    path.write_text(HEAD + FILES)
    try:
        name = engine.ok("run", "-d", *QUIET, "rootless/busybox", "sleep", "600").strip()
        assert engine.run("exec", name, "cat", "/etc/passwd").returncode == 0
        assert engine.run("exec", name, "ls", "/root").returncode != 0
        assert engine.run("exec", name, "sh", "-c", "echo x >> /etc/passwd").returncode != 0
        engine.ok("rm", "-f", name)
    finally:
        path.unlink()


def test_ports_are_what_the_policy_says(engine: Engine) -> None:
    path = engine.root / "c/rootless/policy.yaml"
    serve = "nc -l -p %d & sleep 1; kill -0 $! 2>/dev/null"
    path.write_text(HEAD + "spec: {landlock: {bindTcp: [8080]}}\n")
    try:
        assert attempt(engine, "sh", "-c", serve % 8080) == 0
        assert attempt(engine, "sh", "-c", serve % 8081) != 0
    finally:
        path.unlink()
    assert attempt(engine, "sh", "-c", serve % 8081) == 0


def test_a_plan_shows_the_rules(engine: Engine) -> None:
    path = engine.root / "c/rootless/policy.yaml"
    path.write_text(HEAD + FILES)
    try:
        shown = engine.ok("run", "--dry-run", *QUIET, "rootless/busybox", "true")
        assert "restrict files and TCP ports" in shown
        merged = json.loads(engine.ok("policy", "show", "--format", "json"))["constraints"]
        assert "/tmp" in merged["landlock.read"]["value"]
        assert merged["landlock.write"]["value"] == ["/dev", "/tmp"]
    finally:
        path.unlink()


def test_the_rules_outlive_the_daemon(fresh_engine: Engine) -> None:
    engine = fresh_engine
    path = engine.root / "c/rootless/policy.yaml"
    path.write_text(HEAD + FILES)
    name = engine.ok("run", "-d", *QUIET, "rootless/busybox", "sleep", "600").strip()
    engine.kill()
    engine.start()
    assert engine.run("exec", name, "cat", "/etc/passwd").returncode == 0
    assert engine.run("exec", name, "ls", "/root").returncode != 0
    # Started anew it is what the policy then says.
    path.write_text(HEAD)
    engine.ok("restart", "-t", "0", name)
    assert engine.run("exec", name, "ls", "/root").returncode == 0
    engine.ok("rm", "-f", name)
