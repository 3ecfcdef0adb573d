"""The systemd user units of the daemon."""

from __future__ import annotations

NAME = "rootless"


def socket_unit() -> str:
    """The socket that starts the daemon at the first connection (systemd.socket(5))."""
    return """[Unit]
Description=rootless container engine (API socket)

[Socket]
ListenStream=%t/rootless/rootless.sock
SocketMode=0600
DirectoryMode=0700

[Install]
WantedBy=sockets.target
"""


def quoted(word: str) -> str:
    """One word of ``ExecStart=`` (systemd.service(5): ``%``, ``$`` and quotes are special)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    plain = escaped == word and not set(word) & set(" \t\n;'")
    return word if plain else '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'


def service_unit(command: tuple[str, ...]) -> str:
    """The daemon, started by the words of ``command``.

    A user service runs in the home directory: the command must not import from there.
    ``Delegate=yes`` hands the service's cgroup subtree to the engine, which is
    what makes limits work (systemd.resource-control(5)). ``KillMode=mixed`` would
    end the shims: ``process`` leaves containers running when the daemon restarts
    (live restore). They hold controllers then, so that nothing can be started in the
    service's cgroup itself: ``DelegateSubgroup`` (systemd 254) names the leaf where
    the daemon lives. An older systemd ignores it, and starts the daemon again only
    when no container runs. ``systemctl --user reload rootless`` reads daemon.json again.
    """
    start = " ".join(map(quoted, command))
    return f"""[Unit]
Description=rootless container engine
Requires=rootless.socket
After=rootless.socket
StartLimitIntervalSec=60s
StartLimitBurst=3

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
ExecReload=kill -HUP $MAINPID
Restart=on-failure
RestartSec=1s
Delegate=yes
DelegateSubgroup=rootless-engine
KillMode=process
TasksMax=infinity
LimitNOFILE=infinity
OOMScoreAdjust=0

[Install]
WantedBy=default.target
Also=rootless.socket
"""
