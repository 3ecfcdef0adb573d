"""Pull and unpack half a gigabyte in twenty thousand files from a registry on loopback."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import socket
import subprocess
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import processes
from benchmarks.measure import BenchFailed, Series, interleave, output, timed
from benchmarks.report import Goal, Line, lines
from benchmarks.world import World

FILES = 20_000
LAYERS = 4
BYTES = 500 << 20
REPOSITORY = "bench/big"
MIB = 1 << 20


def _layer(number: int) -> tuple[bytes, str]:
    """A gzip layer and its diff id: files of half random, half repeated bytes."""
    source = random.Random(number)  # noqa: S311 (content, not a secret)
    size = BYTES // FILES
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for index in range(FILES // LAYERS):
            entry = tarfile.TarInfo(f"data/{number}/{index % 100}/{index}")
            body = source.randbytes(size // 2) + bytes(size - size // 2)
            entry.size, entry.mode = len(body), 0o644
            tar.addfile(entry, io.BytesIO(body))
    text = raw.getvalue()
    return gzip.compress(text, 1, mtime=0), f"sha256:{hashlib.sha256(text).hexdigest()}"


def _layout(directory: Path) -> None:
    """An OCI image layout (image-spec, image-layout.md)."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    kind = "application/vnd.oci.image"
    layers, diff_ids = [], []
    for number in range(LAYERS):
        data, diff_id = _layer(number)
        layers.append(put(data, f"{kind}.layer.v1.tar+gzip"))
        diff_ids.append(diff_id)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    config = {
        "architecture": arch,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{kind}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), f"{kind}.config.v1+json"),
        "layers": layers,
    }
    index = {
        "schemaVersion": 2,
        "manifests": [put(json.dumps(manifest).encode(), f"{kind}.manifest.v1+json")],
    }
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@contextlib.contextmanager
def registry(world: World) -> Iterator[str]:
    """docker-registry on a free loopback port; gives ``127.0.0.1:PORT``."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = world.base / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {world.base}/registry}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://{address}/v2/", timeout=5):
                    break
            except OSError:
                time.sleep(0.05)
        else:
            raise BenchFailed("docker-registry does not answer")
        yield address
    finally:
        process.terminate()
        process.wait()


class Peak:
    """The highest PSS of a set of processes, sampled ten times a second."""

    def __init__(self, members: Callable[[], list[processes.Process]]) -> None:
        self._members = members
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.bytes = 0

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.bytes = max(self.bytes, processes.total(self._members()))

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def pull(world: World, rounds: int) -> list[Line]:
    """Seconds to pull and unpack, and the highest memory meanwhile."""
    layout = world.base / "layout"
    _layout(layout)
    peaks: dict[str, list[float]] = {"rootless": [], "podman": []}
    own = os.getpid()

    def sampled(name: str, root: Callable[[], int], argv: list[str], env: dict[str, str]) -> float:
        def members() -> list[processes.Process]:
            every = processes.snapshot()
            return [p for p in processes.tree(root(), every) if "docker-registry" not in p.command]

        with Peak(members) as peak:
            seconds = timed(argv, env)
        peaks[name].append(peak.bytes / MIB)
        return seconds

    with registry(world) as address:
        image = f"{address}/{REPOSITORY}:latest"
        copy = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false"]
        output([*copy, f"oci:{layout}", f"docker://{image}"], world.env)

        def rootless() -> float:
            subprocess.run(
                [world.rootless, "rmi", "-f", image],
                env=world.env,
                capture_output=True,
                check=False,
            )
            return sampled("rootless", world.daemon_pid, [world.rootless, "pull", image], world.env)

        def podman() -> float:
            subprocess.run(
                [*world.podman, "rmi", "-f", image],
                env=world.podman_env,
                capture_output=True,
                check=False,
            )
            argv = [*world.podman, "pull", "--tls-verify=false", "-q", image]
            return sampled("podman", lambda: own, argv, world.podman_env)

        found = interleave({"rootless": rootless, "podman": podman}, rounds or 3, warm=1)
        for argv, env in (
            ([world.rootless, "rmi", "-f", image], world.env),
            ([*world.podman, "rmi", "-f", image], world.podman_env),
        ):
            subprocess.run(argv, env=env, capture_output=True, check=False)
    made = lines("pull", "s", found, [Goal("rootless", "podman", 1)])
    for name, values in peaks.items():
        if found[name].failure:
            continue
        goals = [Goal("rootless peak", "", 200)] if name == "rootless" else []
        made += lines("pull", "MB", {f"{name} peak": Series(values)}, goals)
    return made
