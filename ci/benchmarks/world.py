"""Both engines with the same image, and the two sandboxes below them, each ready to be run."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import BenchFailed, output

IMAGE = "localhost/bench"
DAEMON_STOP_MS = 20_000
APPLETS = ("sh", "true", "sleep", "cat", "nc", "dd", "mkfifo")


def busybox() -> Path:
    """The static busybox both images are made of."""
    found = shutil.which("busybox")
    if found is None:
        raise BenchFailed("busybox is missing: sudo apt-get install busybox-static")
    return Path(found)


def _end(pid: int) -> None:
    """SIGTERM, and wait until the process is gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(DAEMON_STOP_MS)
    os.close(pidfd)


class World:
    """Directories below ``place/w``; everything is the unprivileged user's own."""

    def __init__(self, place: Path, env: Mapping[str, str]) -> None:
        self.place = place
        self.base = place / "w"
        self.env = {
            **env,
            "XDG_DATA_HOME": str(self.base / "data"),
            "XDG_CONFIG_HOME": str(self.base / "config"),
            "XDG_STATE_HOME": str(self.base / "state"),
        }
        self.rootless = str(place / "venv/bin/rootless")
        self.python = str(place / "venv/bin/python")
        self.image = self._image()
        self.rootfs = self._rootfs()
        self.podman_env = {**env, "XDG_RUNTIME_DIR": str(self.base / "p")}
        self.podman = self._podman_command()
        self._bundles = 0

    def _image(self) -> Path:
        path = self.base / "image.tar"
        binary = busybox().read_bytes()
        with tarfile.open(path, "w") as tar:
            for name in ("bin", "tmp", "proc", "sys", "dev", "etc"):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            entry = tarfile.TarInfo("bin/busybox")
            entry.size, entry.mode = len(binary), 0o755
            tar.addfile(entry, io.BytesIO(binary))
            for applet in APPLETS:
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(entry)
        return path

    def _rootfs(self) -> Path:
        path = self.base / "rootfs"
        path.mkdir()
        output(["tar", "-C", str(path), "-xf", str(self.image)], self.env)
        return path

    def _podman_command(self) -> list[str]:
        for name in ("p", "podman"):
            (self.base / name).mkdir(mode=0o700)
        storage = self.base / "podman"
        return [
            "podman",
            *("--root", str(storage / "root"), "--runroot", str(storage / "run")),
            *("--tmpdir", str(storage / "tmp"), "--events-backend", "file"),
            *("--storage-driver", "overlay"),
            *("--storage-opt", "overlay.mount_program=/usr/bin/fuse-overlayfs"),
            *("--runtime", "crun", "--cgroup-manager", "cgroupfs"),
        ]

    def prepare_podman(self) -> str:
        """Import the image; '' or why it does not work."""
        try:
            output([*self.podman, "import", str(self.image), IMAGE], self.podman_env)
            output([*self.podman_run("none"), IMAGE, "true"], self.podman_env)
        except BenchFailed as error:
            return str(error)
        return ""

    def prepare_rootless(self) -> str:
        """Start the daemon, import the image, run it once; '' or why it does not work."""
        try:
            output([self.rootless, "import", str(self.image), IMAGE], self.env, seconds=60)
            output([*self.rootless_run("none"), IMAGE, "true"], self.env, seconds=60)
        except BenchFailed as error:
            return str(error)
        return ""

    def podman_run(self, network: str = "") -> list[str]:
        """``podman run --rm``; '' is its default network (slirp4netns)."""
        return [*self.podman, "run", "--rm", *([f"--network={network}"] if network else [])]

    def rootless_run(self, network: str = "") -> list[str]:
        """``rootless run --rm``."""
        return [self.rootless, "run", "--rm", *([f"--network={network}"] if network else [])]

    def crun(self) -> list[str]:
        """``crun run`` of a new container of one prepared bundle."""
        bundle = self.base / "bundle"
        if not bundle.exists():
            bundle.mkdir()
            output(["crun", "spec", "--rootless", f"--bundle={bundle}"], self.env)
            config = json.loads((bundle / "config.json").read_text())
            config["process"].update(terminal=False, args=["/bin/true"])
            config["root"] = {"path": str(self.rootfs), "readonly": True}
            kinds = {entry["type"] for entry in config["linux"]["namespaces"]}
            if "network" not in kinds:
                config["linux"]["namespaces"].append({"type": "network"})
            (bundle / "config.json").write_text(json.dumps(config))
        self._bundles += 1
        root = f"--root={self.base / 'crun'}"
        return [
            *("crun", root, "--cgroup-manager=disabled", "run", f"--bundle={bundle}"),
            f"bench{self._bundles}",
        ]

    def bwrap(self) -> list[str]:
        """``bwrap --unshare-all`` with the same tree."""
        return [
            *("bwrap", "--unshare-all", "--ro-bind", str(self.rootfs), "/"),
            *("--proc", "/proc", "--dev", "/dev", "/bin/true"),
        ]

    def close(self) -> None:
        """End what was started: Podman's pause process, containers, the daemon."""
        quiet = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }
        for argv, env in (
            ([*self.podman, "rm", "--all", "--force", "--time=0"], self.podman_env),
            ([*self.podman, "system", "migrate"], self.podman_env),
        ):
            subprocess.run(argv, env=env, check=False, timeout=120, **quiet)  # type: ignore[call-overload]  # three times the same
        if daemon := self.daemon_pid():
            _end(daemon)

    def daemon_pid(self) -> int:
        """The process id of rootlessd, 0 when there is none."""
        path = Path(self.env["XDG_RUNTIME_DIR"], "rootless/rootlessd.pid")
        try:
            pid = int(path.read_text().split()[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            return 0
        return pid
