"""Docker's settings that this engine cannot give, and why.

Some have one value that says what is so here anyway; that value is accepted. A
value that asks for nothing (an empty text or list) is accepted as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from rootless.daemon.values import LIST, MAP, NUMBER, OBJECT, SWITCH, TEXT, Kind
from rootless.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Refusal:
    """A setting of Docker's. ``holds`` is the value that is so here, None when there is none."""

    key: str
    kind: Kind
    reason: str
    hint: str = ""
    flag: str = ""
    """Its flag, where that has another name; ``-`` when it has none."""
    letter: str = ""
    holds: object = None

    @property
    def name(self) -> str:
        """The flag without dashes, '' when there is none."""
        return {"": self.key, "-": ""}.get(self.flag, self.flag)


_NETWORKS = "each network is made with its own options"
_FIREWALL = "the host's firewall is root's: this engine has no rules in it"
_SWARM = "this engine has no Swarm"
_CONTAINERD = "this engine uses no containerd"
_POLICY = "policies decide here, on each request's final form"

REFUSALS: tuple[Refusal, ...] = (
    Refusal("iptables", SWITCH, _FIREWALL, holds=False),
    Refusal("ip6tables", SWITCH, _FIREWALL, holds=False),
    Refusal("firewall-backend", TEXT, _FIREWALL),
    Refusal("bridge-accept-fwmark", TEXT, _FIREWALL),
    Refusal("ip-forward", SWITCH, "the host's forwarding is root's; nothing here needs it",
            holds=False),
    Refusal("ip-forward-no-drop", SWITCH, _FIREWALL, holds=True),
    Refusal("ip-masq", SWITCH, "slirp4netns sends with the host's address, always", holds=True),
    Refusal("allow-direct-routing", SWITCH, "containers have no address that the host knows",
            holds=False),
    Refusal("userland-proxy", SWITCH, "ports are published by a process of the user's, always",
            holds=True),
    Refusal("userland-proxy-path", TEXT, "ports are published by slirp4netns and this engine"),
    Refusal("default-network-opts", OBJECT, _NETWORKS, flag="default-network-opt"),
    Refusal("network-control-plane-mtu", NUMBER, _SWARM),
    Refusal("network-diagnostic-port", NUMBER, _SWARM),
    Refusal(
        "storage-opts", LIST, "the drivers have no options: overlay and fuse-overlayfs need none, "
        "and quotas of a file system are root's to set", flag="storage-opt",
    ),
    Refusal("runtimes", OBJECT, "containers are started by this engine itself",
            "leave it out; its one runtime is called rootless", flag="add-runtime"),
    Refusal("cpu-rt-period", NUMBER, "cgroup version 2 has no real-time limits"),
    Refusal("cpu-rt-runtime", NUMBER, "cgroup version 2 has no real-time limits"),
    Refusal("cdi-spec-dirs", LIST, "devices by CDI are not supported", flag="cdi-spec-dir"),
    Refusal("nri-opts", OBJECT, "there are no NRI plugins here"),
    Refusal("authorization-plugins", LIST, _POLICY, "write a policy: docs/policy.md",
            flag="authorization-plugin"),
    Refusal("containerd", TEXT, _CONTAINERD),
    Refusal("containerd-namespace", TEXT, _CONTAINERD),
    Refusal("containerd-plugin-namespace", TEXT, _CONTAINERD, flag="containerd-plugins-namespace"),
    Refusal("cri-containerd", SWITCH, _CONTAINERD, holds=False),
    Refusal("builder", OBJECT, "this engine does not build images yet", flag="-"),
    Refusal("metrics-addr", TEXT, "this engine serves no metrics",
            "rootless stats, or GET /containers/NAME/stats"),
    Refusal("raw-logs", SWITCH, "lines always have whole timestamps and no colours", holds=True),
    Refusal("rootless", SWITCH, "this engine is nothing else", holds=True),
    Refusal("restart", SWITCH, "containers restart by their own policy: run --restart",
            letter="r", flag="restart"),
    Refusal("swarm-default-advertise-addr", TEXT, _SWARM),
    Refusal("swarm-raft-heartbeat-tick", NUMBER, _SWARM, flag="-"),
    Refusal("swarm-raft-election-tick", NUMBER, _SWARM, flag="-"),
    Refusal("node-generic-resources", LIST, _SWARM, flag="node-generic-resource"),
    Refusal("cluster-store", TEXT, _SWARM),
    Refusal("cluster-advertise", TEXT, _SWARM),
    Refusal("cluster-store-opts", MAP, _SWARM, flag="cluster-store-opt"),
    Refusal("api-cors-header", TEXT, "web pages are not let in: they would run containers as you"),
    Refusal("oom-score-adjust", NUMBER, "Docker removed it, and only root can lower the score",
            "set OOMScoreAdjust= in the daemon's systemd unit"),
    Refusal("graph", TEXT, "Docker removed it", "data-root", letter="g"),
)  # fmt: skip


def check_refusal(refusal: Refusal, value: object) -> None:
    """Raise InvalidInput with the reason, unless ``value`` asks for nothing or for what is so."""
    if value == refusal.holds and refusal.holds is not None:
        return
    if not isinstance(value, bool) and not value:
        return
    raise InvalidInput(
        f"{refusal.key} cannot be {_said(value)} here: {refusal.reason}",
        hint=refusal.hint or None,
    )


def _said(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else "set"
