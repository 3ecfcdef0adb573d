"""A machine made of files in a directory, for doctor and setup."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rootless.host.facts import Host

HEALTHY = {
    "/proc/sys/kernel/osrelease": "6.1.0-37-amd64\n",
    "/proc/sys/user/max_user_namespaces": "15000\n",
    "/proc/sys/kernel/unprivileged_userns_clone": "1\n",
    "/proc/sys/kernel/seccomp/actions_avail": "kill_process trap errno user_notif log allow\n",
    "/proc/filesystems": "nodev\toverlay\n\text4\n",
    "/proc/self/status": "NoNewPrivs:\t0\n",
    "/proc/self/mountinfo": "",
    "/etc/passwd": "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
    "/etc/group": "root:x:0:\nalice:x:1000:\n",
    "/etc/subuid": "alice:100000:1048576\n",
    "/etc/subgid": "alice:100000:1048576\n",
    "/usr/bin/fuse-overlayfs": "",
    "/usr/bin/slirp4netns": "",
    "/usr/bin/busybox": "",
    "/usr/bin/catatonit": "",
    "/usr/bin/newuidmap": "",
    "/usr/bin/newgidmap": "",
    "/usr/lib/x86_64-linux-gnu/libseccomp.so.2": "",
    "/usr/lib/x86_64-linux-gnu/libnftables.so.1": "",
    "/dev/fuse": "",
    "/dev/net/tun": "",
}


class FakeHost:
    """Writes the tree and keeps the programs that were "run"."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[tuple[str, ...]] = []
        self.failing: set[str] = set()
        """Programs (first words) that fail."""
        for name, text in HEALTHY.items():
            self.write(name, text)
        for name in ("/usr/bin/newuidmap", "/usr/bin/newgidmap"):
            self.path(name).chmod(0o4755)
        for name in ("/dev/fuse", "/dev/net/tun"):
            self.path(name).chmod(0o666)
        user = self.path("/proc/self/ns/user")
        user.parent.mkdir()
        user.symlink_to("user:[4026531837]")
        self.path("/run/user").mkdir(parents=True)
        self.path(f"/run/user/{os.getuid()}").mkdir(mode=0o700)

    def path(self, absolute: str) -> Path:
        """A path of the fake machine."""
        return self.root / absolute.lstrip("/")

    def write(self, absolute: str, text: str) -> None:
        """Put a file there."""
        self.path(absolute).parent.mkdir(parents=True, exist_ok=True)
        self.path(absolute).write_text(text)

    def remove(self, absolute: str) -> None:
        """Take a file away."""
        self.path(absolute).unlink()

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Note the command; fail where told to."""
        self.commands.append(tuple(command))
        return (1, f"{command[0]}: no\n") if command[0] in self.failing else (0, "")

    @property
    def host(self) -> Host:
        """The machine as the checks see it; its user alice has our uid."""
        return Host(
            user="alice",
            uid=os.getuid(),
            gid=os.getgid(),
            home="/home/alice",
            root=self.root,
            run=self.run,
            live=False,
        )

    def tree(self) -> dict[str, str]:
        """Every file's text and every mode: what must come back after an undo."""
        found = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                path = Path(directory, name)
                if not path.is_symlink():
                    shown = path.read_text()
                    found[str(path)] = f"{path.stat().st_mode:o} {shown}"
        return found
