"""Parts of the language on a running engine: defaults, standards, exceptions, selectors."""

from __future__ import annotations

import json
from datetime import date, timedelta

from tests.support.engine import Engine

HEAD = "apiVersion: rootless.dev/v1alpha1\nkind: Policy\nmetadata: {name: mine}\nextends: none\n"


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
