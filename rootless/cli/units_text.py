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


def containers_unit() -> str:
    """The cgroup that containers live in, delegated to the engine (systemd.resource-control(5)).

    Not the daemon's own: a cgroup that hands controllers on can hold no process itself, so
    that systemd could not start the daemon there a second time beside running containers
    (only since 254 it can be told of a leaf for that). Its one process keeps systemd from
    removing the cgroup while it is empty; the engine moves it to a leaf of its own.
    ``KillMode=process`` keeps containers when the unit is stopped.
    """
    return """[Unit]
Description=rootless containers

[Service]
ExecStart=sleep infinity
Delegate=yes
KillMode=process
TasksMax=infinity
"""


def service_unit(command: tuple[str, ...]) -> str:
    """The daemon, started by the words of ``command``.

    A user service runs in the home directory: the command must not import from there.
    ``KillMode=mixed`` would end the shims: ``process`` leaves containers running when the
    daemon restarts (live restore). Their cgroups are in :func:`containers_unit`, which is
    found beside the service's own. ``systemctl --user reload rootless`` reads daemon.json again.
    """
    start = " ".join(map(quoted, command))
    return f"""[Unit]
Description=rootless container engine
Requires=rootless.socket
Wants=rootless-containers.service
After=rootless.socket rootless-containers.service
StartLimitIntervalSec=60s
StartLimitBurst=3

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
ExecReload=kill -HUP $MAINPID
Restart=on-failure
RestartSec=1s
KillMode=process
TasksMax=infinity
LimitNOFILE=infinity
OOMScoreAdjust=0

[Install]
WantedBy=default.target
Also=rootless.socket
"""
