"""Parts of the language on a running engine: defaults, standards, exceptions, selectors."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

from tests.integration.policy.forced import policy
from tests.support.api import Api
from tests.support.engine import Engine

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\nextends: none\n"

REMOTE = "udp://127.0.0.1:9"


def test_defaults_standards_and_exceptions(engine: Engine) -> None:
    path = engine.root / "c/rootless/policy.yaml"
    day = date.today() + timedelta(days=2)
    path.write_text(
        HEAD + "defaults: {pids: 33}\nspec: {podSecurity: {require: [baseline]}}\n"
        "exceptions:\n  - {id: old, rules: [pss.hostNamespaces], match: {names: [old-*]},"
        f" reason: r, approvedBy: a, expires: {day}}}\n"
    )
    try:
        created = engine.ok("create", "rootless/busybox", "true").strip()
        [shown] = json.loads(engine.ok("inspect", created))
        assert shown["HostConfig"]["PidsLimit"] == 33
        asked = engine.ok("create", "--pids-limit", "44", "rootless/busybox", "true").strip()
        assert json.loads(engine.ok("inspect", asked))[0]["HostConfig"]["PidsLimit"] == 44
        denied = engine.run("create", "--pid", "host", "rootless/busybox", "true")
        assert denied.returncode != 0
        assert "pss.hostNamespaces" in denied.stderr
        excused = engine.ok(
            "create", "--name", "old-one", "--pid", "host", "rootless/busybox", "true"
        )
        engine.ok("rm", created, asked, excused.strip())
    finally:
        path.unlink()


def test_a_policy_that_warns_lets_pass_and_tells(engine: Engine) -> None:
    path = engine.root / "c/rootless/policy.yaml"
    path.write_text(
        HEAD + "mode: warn\nrules: {labels.required: {mode: audit}}\n"
        "spec: {health: {require: true}, images: {denyTags: [latest]}, labels: {require: [x]}}\n"
    )
    try:
        done = engine.run("create", "rootless/busybox", "true")
        assert done.returncode == 0
        assert "policy: health.required: " in done.stderr
        assert "policy: images.tag: " in done.stderr
        # What is only audited is not told to the client.
        assert "labels.required" not in done.stderr
        engine.ok("rm", done.stdout.strip())
    finally:
        path.unlink()


def test_sources_networks_labels_and_logs(engine: Engine, tmp_path: Path) -> None:
    """Each denies on the engine what it denies in a file, and lets the rest pass."""
    for name in ("open", "shut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").write_text(name)
    (tmp_path / "open/link.txt").symlink_to(tmp_path / "shut/data.txt")
    engine.ok("network", "create", "front")
    engine.ok("network", "create", "back")
    spec = (
        f"{{mounts: {{allowGlobs: [{tmp_path}/open/*.txt]}}, network: {{allowNetworks: [front]}}, "
        "labels: {require: [team=a*], deny: [admin]}, "
        "logs: {allowDrivers: [json-file, syslog], denyOptions: [tag], allowRemote: false}}"
    )
    base = ("create", "--label", "team=ab")
    cases: list[tuple[tuple[str, ...], str]] = [
        (("-v", f"{tmp_path}/shut/data.txt:/x"), "mounts.pattern"),
        (("-v", f"{tmp_path}/open/link.txt:/x"), "mounts.pattern"),
        (("-v", f"{tmp_path}/open:/x"), "mounts.pattern"),
        (("--network", "back"), "network.name"),
        (("--label", "admin=1"), "labels.forbidden"),
        (("--label", "team=b"), "labels.required"),
        (("--log-driver", "local"), "logs.driver"),
        (("--log-opt", "tag=x"), "logs.option"),
        (
            ("--log-driver", "syslog", "--log-opt", "syslog-address=udp://127.0.0.1:9"),
            "logs.remote",
        ),
    ]
    try:
        with policy(engine, spec):
            for flags, rule in cases:
                done = engine.run(*base, *flags, "rootless/busybox", "true")
                assert done.returncode != 0, flags
                assert f"{rule}: " in done.stderr, (flags, done.stderr)
            good = ("--network", "front", "-v", f"{tmp_path}/open/data.txt:/x")
            engine.ok("rm", engine.ok(*base, *good, "rootless/busybox", "true"))
            # A container that was made before is judged when it is connected.
            made = engine.ok(*base, "--network", "front", "rootless/busybox", "true")
            done = engine.run("network", "connect", "back", made)
            assert "network.name: " in done.stderr
            engine.ok("rm", made)
    finally:
        engine.ok("network", "rm", "front", "back")


def test_an_exec_and_an_update_are_held_to_the_same(engine: Engine) -> None:
    made = engine.ok("run", "-d", "--network", "none", "rootless/busybox", "sleep", "600")
    try:
        spec = (
            "{env: {deny: [LD_*], denySecrets: true}, user: {minimumUid: 5}, "
            "restart: {allow: ['no']}}"
        )
        with policy(engine, spec):
            for flags, rule in (
                (("-u", "5", "-e", "LD_PRELOAD=/x"), "env.forbidden"),
                (("-u", "5", "-e", "DB_PASSWORD=hunter2"), "env.secret"),
                (("-u", "4"), "user.uid"),
            ):
                done = engine.run("exec", *flags, made, "true")
                assert done.returncode != 0, flags
                assert f"{rule}: " in done.stderr, (flags, done.stderr)
            engine.ok("exec", "-u", "5", "-e", "A=b", made, "true")
            done = engine.run("update", "--restart", "always", made)
            assert "restart.policy: " in done.stderr
    finally:
        engine.ok("rm", "-f", made)


def test_a_build_passes_the_policy_before_it_is_refused(engine: Engine, api: Api) -> None:
    def ask(**query: str) -> tuple[int, str]:
        return api.refused("POST", "/build", b"", t="team/app:1", **query)

    with policy(engine, "{build: {allowNetworks: [none], denySecretArgs: true}}"):
        for query, rule in (
            ({}, "build.network: Build.Network=default"),
            ({"networkmode": "host"}, "build.network: Build.Network=host"),
            ({"networkmode": "none", "buildargs": '{"TOKEN": "c0ffee12"}'}, "build.argument"),
        ):
            status, message = ask(**query)
            assert status == 403, message
            assert rule in message
        status, message = ask(networkmode="none", buildargs='{"V": "1", "W": null}')
        assert (status, "not supported yet" in message) == (400, True)
        status, message = ask(networkmode="none", buildargs="[1]")
        assert (status, "buildargs must be" in message) == (400, True)
    lines = engine.ok("audit", "show", "--format", "json").splitlines()
    mine = [line for line in map(json.loads, lines) if line.get("verb") == "image.build"]
    assert [line["allowed"] for line in mine] == [False, False, False, True]
    assert "c0ffee12" not in "".join(lines)
