"""The command line of slirp4netns and what its log means."""

from __future__ import annotations

import pytest

from rootless.errors import HostUnsupported, Unavailable
from rootless.network import slirp


def test_every_protection_is_on_the_command_line() -> None:
    argv = slirp.command(
        "/usr/bin/nsenter",
        "/usr/bin/slirp4netns",
        netns_fd=5,
        userns_fd=6,
        exit_fd=7,
        ready_fd=8,
        directory_fd=9,
        mac="02:00:00:00:00:01",
        ipv6=True,
        mtu=65520,
    )
    for option in (
        "--user=/proc/self/fd/6",
        "--setuid=0",
        "--setgid=0",
        "--disable-host-loopback",
        "--enable-sandbox",
        "--enable-seccomp",
        "--enable-ipv6",
        "--exit-fd=7",
        "--ready-fd=8",
    ):
        assert option in argv
    assert argv[-3:] == ["--netns-type=path", "/proc/self/fd/5", "tap0"]


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("", ""),
        ("WARNING: Support for IPv6 is experimental\nsent tapfd=5 for tap0\n", ""),
        ('received tapfd=5\napifd event\napi_handler: got request: {"execute": "x"}\n', ""),
        ("received tapfd=8\nsetegid(0)\nparent failed\n", "setegid(0)"),
        ("child failed(1)\n", "child failed(1)"),
        ("cannot unshare new mount namespace\ncreate_sandbox failed\ndo_slirp is exiting\n",
         "cannot unshare new mount namespace"),
    ],
)  # fmt: skip
def test_last_message(log: str, message: str) -> None:
    assert slirp.last_message(log) == message


def test_a_missing_tun_device_is_the_hosts_lack() -> None:
    error = slirp.explain('open("/dev/net/tun"): No such file or directory\nchild failed(1)\n')
    assert isinstance(error, HostUnsupported)
    assert "modprobe tun" in str(error)
    assert isinstance(slirp.explain("something else"), Unavailable)
