"""Every setting of the daemon that does something here, with its line of the manual.

What Docker has and this engine has not is in :mod:`rootless.daemon.refusals`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rootless.daemon.values import (
    LIST,
    MAP,
    NUMBER,
    PATH,
    POOLS,
    SIZE,
    SWITCH,
    SWITCHES,
    TEXT,
    ULIMITS,
    Kind,
)


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. ``key`` is the one of daemon.json, whose dashes are underscores in
    :class:`~rootless.daemon.config.DaemonConfig`."""

    key: str
    kind: Kind
    text: str
    flag: str = ""
    """Its flag, where that has another name: ``label`` for ``labels``."""
    letter: str = ""
    meta: str = ""
    inside: str = ""
    """The object of daemon.json that the key is in."""
    reload: bool = False
    """SIGHUP applies it."""

    @property
    def name(self) -> str:
        """The flag without dashes."""
        return self.flag or self.key

    @property
    def field(self) -> str:
        """The field of the configuration."""
        return self.key.replace("-", "_")


SECTIONS: dict[str, tuple[Option, ...]] = {
    "Where the API is served": (
        Option(
            "hosts", LIST, "socket to listen on, any number of them: unix://PATH; fd://, "
            "fd://NUMBER or fd://NAME for those of systemd; tcp://ADDRESS[:PORT] with mutual "
            "TLS only (port 2376) (default unix://EXEC-ROOT/rootless.sock)",
            flag="host", letter="H", meta="URL",
        ),
        Option(
            "group", TEXT, "group of yours whose members may use the Unix sockets (0660): they "
            "get all your rights (default: nobody but you, mode 0600)",
            letter="G", meta="GROUP",
        ),
        Option("tls", SWITCH, "serve tcp:// with TLS; means --tlsverify as well"),
        Option(
            "tlsverify", SWITCH, "serve tcp:// to clients with certificates of --tlscacert; TLS 1.3"
        ),
        Option(
            "tlscacert", PATH, "certificates of the authorities whose clients are let in "
            "(default ca.pem in the directory tls beside daemon.json)",
        ),
        Option("tlscert", PATH, "the daemon's certificate (default tls/cert.pem)"),
        Option(
            "tlskey", PATH, "its key, mode 0600 in a directory with mode 0700 (default tls/key.pem)"
        ),
        Option(
            "tlscrl", PATH, "the authorities' revocation lists: whose certificate is in them is "
            "out, at once (default crl.pem beside tlscacert)",
        ),
        Option(
            "pki-dir", PATH, "directory of `rootless pki`'s authority: its clients may renew their "
            "certificates over the API while they are in force, servers' are renewed in time; "
            "its key is opened with ROOTLESS_PKI_PASSPHRASE (default: nothing is renewed)",
        ),
        Option(
            "min-api-version", TEXT, "oldest API version that is served (default 1.24)",
            meta="VERSION",
        ),
        Option("experimental", SWITCH, "say in /_ping and info that experimental features are on; "
               "there are none yet"),
    ),
    "Files": (
        Option(
            "data-root", PATH, "images, containers, volumes and state "
            "(default $XDG_DATA_HOME/rootless)", meta="DIR",
        ),
        Option(
            "exec-root", PATH, "sockets, pid file (default $XDG_RUNTIME_DIR/rootless)", meta="DIR"
        ),
        Option("pidfile", PATH, "where the process id is written (default EXEC-ROOT/rootlessd.pid)",
               letter="p"),
        Option(
            "deprecated-key-path", PATH, "this engine's identity, made when it is absent (default "
            "key.json beside daemon.json)",
        ),
        Option("policy", LIST, "a policy beside the built-in one; any number", meta="FILE"),
    ),
    "Containers": (
        Option("userns", TEXT, "user namespace: shared, or auto for ids no other container has "
               "(default shared)", meta="MODE"),
        Option(
            "userns-remap", TEXT, "whose subordinate ids containers get: yours is the only answer "
            "(default, or your name)", meta="USER",
        ),
        Option("init", SWITCH, "run an init in every container, as run --init does"),
        Option("init-path", PATH, "that init, statically linked (default: tini or catatonit)"),
        Option("seccomp-profile", PATH, "default seccomp profile (default: the built-in one)"),
        Option("selinux-enabled", SWITCH, "every container gets SELinux labels of its own (default "
               "false); where SELinux does not run the daemon then refuses to start"),
        Option("no-new-privileges", SWITCH, "set-user-id programs give nothing (default true)"),
        Option("cgroup-parent", TEXT, "cgroup below the delegated one that holds all containers",
               meta="PATH"),
        Option("default-ulimits", ULIMITS, "limits of every container, -1 is unlimited",
               flag="default-ulimit"),
        Option("default-shm-size", SIZE, "size of /dev/shm (default 64m)", reload=True),
        Option("default-ipc-mode", TEXT, "private, or shareable so that other containers may join "
               "the IPC namespace (default private)", meta="MODE", reload=True),
        Option("default-cgroupns-mode", TEXT, "private or host (default private)", meta="MODE",
               reload=True),
        Option("default-runtime", TEXT, "rootless is the only one (runc is taken for it)",
               meta="NAME", reload=True),
        Option("exec-opts", LIST, "native.cgroupdriver=cgroupfs, which is so anyway",
               flag="exec-opt", meta="NAME=VALUE"),
        Option("default-stop-timeout", NUMBER, "seconds between the stop signal and SIGKILL "
               "(default 10)", meta="SECONDS", reload=True),
        Option("log-driver", TEXT, "json-file (the default), local, journald, syslog or none",
               meta="NAME"),
        Option("log-opts", MAP, "options of that driver; any number", flag="log-opt"),
        Option("shutdown-timeout", NUMBER, "seconds that requests, and containers without "
               "live-restore, have when the daemon ends; -1 for no limit (default 15)",
               meta="SECONDS", reload=True),
        Option("live-restore", SWITCH, "containers go on without the daemon (default true)",
               reload=True),
    ),
    "Networks": (
        Option("default-network", TEXT, "bridge, slirp4netns, none or host (default bridge; "
               "slirp4netns where libnftables is missing)", meta="NAME"),
        Option("bridge", TEXT, "none: containers have no network unless they ask for one",
               letter="b", meta="none"),
        Option("icc", SWITCH, "containers of the network bridge reach one another without --link "
               "(default false)"),
        Option("bip", TEXT, "address and range of the network bridge (default: the first free one "
               "of the pools)", meta="CIDR"),
        Option("bip6", TEXT, "the same for IPv6", meta="CIDR"),
        Option("fixed-cidr", TEXT, "part of that range that containers get addresses from",
               meta="CIDR"),
        Option("fixed-cidr-v6", TEXT, "the same for IPv6", meta="CIDR"),
        Option("default-gateway", TEXT, "gateway of its containers, the bridge's second address "
               "(default: that of bip)", meta="ADDRESS"),
        Option("default-gateway-v6", TEXT, "the same for IPv6", meta="ADDRESS"),
        Option("ip", TEXT, "address that published ports bind to (default 127.0.0.1)",
               meta="ADDRESS"),
        Option("ipv6", SWITCH, "IPv6 in containers (default true)"),
        Option("mtu", NUMBER, "bytes of the largest packet (default 65520: they touch no wire)",
               meta="BYTES"),
        Option("dns", LIST, "DNS server of containers; any number", meta="ADDRESS"),
        Option("dns-opts", LIST, "option of their resolv.conf; any number", flag="dns-opt"),
        Option("dns-search", LIST, "search domain; any number", meta="DOMAIN"),
        Option("host-gateway-ips", LIST, "address that --add-host NAME:host-gateway stands for: "
               "one of each family at most", flag="host-gateway-ip", meta="ADDRESS"),
        Option("default-address-pools", POOLS, "where networks that name no subnet get one "
               "(default 172.18 to 172.31 in parts of /16, then 192.168 of /20)",
               flag="default-address-pool"),
    ),
    "Images and registries": (
        Option("insecure-registries", LIST, "registry (HOST[:PORT] or CIDR) without TLS, or with a "
               "certificate nobody vouches for; any number", flag="insecure-registry",
               meta="HOST", reload=True),
        Option("registry-mirrors", LIST, "mirror of Docker Hub; any number",
               flag="registry-mirror", meta="URL", reload=True),
        Option("max-concurrent-downloads", NUMBER, "layers a pull fetches at once (default 3)",
               reload=True),
        Option("max-concurrent-uploads", NUMBER, "layers a push sends at once (default 5)",
               reload=True),
        Option("max-download-attempts", NUMBER, "tries for each layer (default 5)", reload=True),
        Option("allow-nondistributable-artifacts", LIST, "not needed: a push carries every layer",
               meta="HOST"),
        Option("max-layer-size", SIZE, "what a layer may unpack to (default 64g)"),
        Option("max-layer-ratio", NUMBER, "unpacked bytes per compressed one, above which a large "
               "layer is refused (default 300)"),
        Option("http-proxy", TEXT, "proxy for registries (default $HTTP_PROXY)", meta="URL",
               inside="proxies", reload=True),
        Option("https-proxy", TEXT, "the same for https (default $HTTPS_PROXY)", meta="URL",
               inside="proxies", reload=True),
        Option("no-proxy", TEXT, "hosts that are reached without, with commas (default $NO_PROXY)",
               meta="HOSTS", inside="proxies", reload=True),
    ),
    "Storage": (
        Option("storage-driver", TEXT, "overlay, fuse-overlayfs or vfs (default: the best of this "
               "host)", letter="s", meta="NAME"),
    ),
    "The daemon": (
        Option("debug", SWITCH, "log everything", letter="D", reload=True),
        Option("log-level", TEXT, "debug, info, warn, error or fatal (default info)", letter="l",
               meta="LEVEL"),
        Option("log-format", TEXT, "text or json (default text)", meta="FORMAT"),
        Option("labels", LIST, "NAME=VALUE of the daemon, shown by info; any number", flag="label",
               meta="NAME=VALUE", reload=True),
        Option("features", SWITCHES, "Docker's switches: each can only be off here (buildkit, "
               "containerd-snapshotter, cdi)", flag="feature", reload=True),
    ),
}  # fmt: skip
OPTIONS: tuple[Option, ...] = tuple(o for options in SECTIONS.values() for o in options)
