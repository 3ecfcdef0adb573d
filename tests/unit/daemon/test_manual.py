"""The manual and docs/daemon.md tell of every setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rootless.daemon.commandline import FLAGS
from rootless.daemon.main import main
from rootless.daemon.manual import manual
from rootless.daemon.options import OPTIONS
from rootless.daemon.refusals import REFUSALS

PAGE = (Path(__file__).parents[3] / "docs/daemon.md").read_text(encoding="utf-8")


def test_the_manual_has_every_flag() -> None:
    text = manual()
    for option in OPTIONS:
        assert re.search(rf"--{re.escape(option.name)}[ \n]", text), option.name
        if option.letter:
            assert f"-{option.letter}, --{option.name}" in text
    assert not [line for line in text.splitlines() if len(line) > 110]


def test_the_page_has_every_setting_with_its_text() -> None:
    for option in OPTIONS:
        key = f"`{option.inside}.{option.key}`" if option.inside else f"`{option.key}`"
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {key} "))
        assert option.text.replace("|", "\\|") in row
        assert row.endswith("; *reload* |") is option.reload
        if option.name != option.key:
            assert f"`--{option.name}`" in row


def test_the_page_has_every_refusal_with_its_reason() -> None:
    for refusal in REFUSALS:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{refusal.key}` "))
        assert refusal.reason in row
        if refusal.holds is not None:
            assert f"| `{str(refusal.holds).lower()}` |" in row


@pytest.mark.parametrize(("word", "begin"), [("--help", "Usage:  rootlessd"), ("-v", "rootlessd ")])
def test_help_and_version(word: str, begin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    assert capsys.readouterr().out.startswith(begin)


DOCKERD = """
add-runtime allow-direct-routing allow-nondistributable-artifacts api-cors-header
authorization-plugin bip bip6 bridge bridge-accept-fwmark cdi-spec-dir cgroup-parent config-file
containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime
cri-containerd data-root debug default-address-pool default-cgroupns-mode default-gateway
default-gateway-v6 default-ipc-mode default-network-opt default-runtime default-shm-size
default-stop-timeout default-ulimit dns dns-opt dns-search exec-opt exec-root experimental feature
firewall-backend fixed-cidr fixed-cidr-v6 group host host-gateway-ip http-proxy https-proxy icc init
init-path insecure-registry ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 label
live-restore log-driver log-format log-level log-opt max-concurrent-downloads
max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu
network-diagnostic-port no-new-privileges no-proxy node-generic-resource nri-opts oom-score-adjust
pidfile raw-logs registry-mirror restart rootless seccomp-profile selinux-enabled shutdown-timeout
storage-driver storage-opt swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify
userland-proxy userland-proxy-path userns-remap validate version cluster-store cluster-advertise
cluster-store-opt
""".split()
"""The flags of Docker's daemon, of versions 20.10 to 29."""
LETTERS = {"G": "group", "H": "host", "D": "debug", "b": "bridge", "l": "log-level",
           "p": "pidfile", "s": "storage-driver", "v": "version", "r": "restart"}  # fmt: skip
KEYS = """
hosts labels features builder runtimes default-ulimits default-address-pools registry-mirrors
insecure-registries log-opts dns-opts storage-opts exec-opts authorization-plugins
node-generic-resources cdi-spec-dirs host-gateway-ips min-api-version deprecated-key-path
containerd-plugin-namespace default-network-opts swarm-raft-heartbeat-tick
swarm-raft-election-tick cluster-store-opts
""".split()
"""Keys of its daemon.json whose flag has another name, or that have none."""


def test_no_flag_or_key_of_dockers_daemon_is_unknown() -> None:
    known = {flag[0]: flag[1] for flag in FLAGS}
    assert not [name for name in DOCKERD if name not in known]
    assert {letter: name for name, letter in known.items() if letter in LETTERS} == LETTERS
    keys = {entry.key for entry in (*OPTIONS, *REFUSALS)}
    assert not [key for key in KEYS if key not in keys]
