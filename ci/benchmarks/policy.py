"""The policy: the checker on files, and what a decision costs the daemon."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.measure import interleave, timed
from benchmarks.report import Goal, Line, lines
from benchmarks.world import World

MANIFESTS = 1000
_POLICY = """\
apiVersion: rootless.dev/v1alpha1
kind: Policy
metadata: {name: bench}
extends: builtin:restricted
"""
_POD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-NUMBER}
spec:
  template:
    spec:
      containers:
        - name: web
          image: registry.example/web:NUMBER
          ports: [{containerPort: 8080}]
          env: [{name: MODE, value: fast}]
          resources: {limits: {memory: 128Mi, cpu: 500m}}
          securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: data, mountPath: /data}]
      volumes: [{name: data, emptyDir: {}}]
"""


def policy(world: World, rounds: int) -> list[Line]:
    """One file against one input, a thousand manifests, and one admission with its log line."""
    place = Path(world.base) / "policy"
    place.mkdir()
    for name, text in (
        ("policy.yaml", _POLICY),
        ("one.yaml", _POD),
        ("many.yaml", "---\n".join(_POD.replace("NUMBER", str(n)) for n in range(MANIFESTS))),
    ):
        (place / name).write_text(text)

    def check(name: str) -> float:
        command = [world.rootless, "check-policy", str(place / "policy.yaml"), str(place / name)]
        return timed(command, world.env, expect=1)

    found = interleave(
        {
            "one file": lambda: check("one.yaml"),
            f"{MANIFESTS} manifests": lambda: check("many.yaml"),
        },
        rounds or 5,
    )
    goals = [Goal("one file", "", 300), Goal(f"{MANIFESTS} manifests", "", 10_000)]
    decided = interleave({"admission": lambda: _admission(world)}, rounds or 5)
    return [
        *lines("policy", "ms", found, goals, 1e3),
        *lines("policy", "ms", decided, [Goal("admission", "", 2)], 1e3),
    ]


def _admission(world: World) -> float:
    """Seconds for one, the mean of many, in a process of its own."""
    source = world.place / "src"
    done = subprocess.run(
        [world.python, "-B", str(source / "ci/benchmarks/admission.py"), str(source)],
        env={**world.env, "TMPDIR": str(world.base)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)
