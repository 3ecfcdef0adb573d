"""``admission.py SOURCE``: seconds that one admission takes, its line in the log included."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from rootless.engine.decisions import DecisionLog
from rootless.engine.gate import Gate
from rootless.model.identity import Identity
from rootless.model.spec import SeccompSpec
from rootless.policy.inputs.body import container_spec
from rootless.policy.load import PolicyFiles, PolicyStore
from rootless.policy.paths import EnginePaths
from rootless.policy.rules.base import ANY_HOST
from rootless.resources import resource_path

TIMES = 500
BODY = {
    "Image": "registry.example/web:1",
    "Env": ["PATH=/bin", "MODE=fast"],
    "HostConfig": {
        "Binds": ["/srv/web:/srv:ro", "data:/data"],
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
        "Memory": 1 << 28,
    },
}


def main() -> None:
    """Print the mean of many."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # The named volume's source, which the engine would have set, is the working directory.
        (place / "volume").mkdir()
        os.chdir(place / "volume")
        paths = EnginePaths(place / "data", place / "run", place / "config")
        store = PolicyStore(PolicyFiles(place / "none", admin=place / "none"), home=name)
        gate = Gate(store, ANY_HOST, paths, DecisionLog(place / "audit"))
        profile = resource_path("profiles", "seccomp/default.json").read_text(encoding="utf-8")
        spec = replace(container_spec(BODY), seccomp=SeccompSpec("default", profile))
        who = Identity("unix", "bench", uid=1000)
        gate.admit(who, spec)
        begin = time.perf_counter()
        for number in range(TIMES):
            gate.admit(who, replace(spec, name=f"web-{number}"))
        print((time.perf_counter() - begin) / TIMES)


main()
