"""What the network's small processes give up before they read the first byte of a stranger's."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Sequence

from rootless.linux import isolated, landlock, process, seccomp


def settle(
    userns_fd: int,
    name: str,
    calls: bytes,
    *,
    descriptors: int,
    tcp_ports: Sequence[int] | None = None,
) -> int:
    """Be a process that reads what strangers send: nothing of the host's, and no more code.

    ``calls`` is the filter of its system calls, ``tcp_ports`` as in :func:`give_up_files`.
    How many of the ``descriptors`` it may have is returned.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, descriptors)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    become_nobody(userns_fd, name)
    give_up_files(tcp_ports)
    isolated.forbid_imports()
    give_up_calls(calls)
    return limit


def become_nobody(userns_fd: int, name: str) -> None:
    """Root of a user namespace without a single capability there, called ``name``."""
    enter(userns_fd)
    give_up_privileges(name)


def enter(userns_fd: int) -> None:
    """Become root of a user namespace, with its capabilities; the descriptor is closed."""
    process.setns(userns_fd, process.CLONE_NEWUSER, "the network's user namespace")
    os.close(userns_fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def give_up_privileges(name: str) -> None:
    """No capability, no way to another one, traced and read by nobody, called ``name``."""
    process.drop_bounding(0, process.last_capability())
    process.set_capabilities(0, 0, 0)
    process.prctl(process.PR_SET_NO_NEW_PRIVS, 1, what="PR_SET_NO_NEW_PRIVS")
    process.prctl(process.PR_SET_DUMPABLE, 0, what="PR_SET_DUMPABLE")
    process.set_name(name)


def give_up_calls(bpf: bytes) -> None:
    """Every system call but those of ``profiles/seccomp/network.json``, compiled."""
    seccomp.load_filter(bpf)


def give_up_files(tcp_ports: Sequence[int] | None = None) -> None:
    """Where the kernel has Landlock: no file, nobody's signals, no abstract socket.

    With ``tcp_ports`` no TCP port is bound and none but those is connected to.
    """
    version = landlock.abi()
    if not version:
        return
    net = landlock.BIND_TCP | landlock.CONNECT_TCP if version >= 4 else 0
    if tcp_ports is None:
        net &= landlock.BIND_TCP
    scopes = landlock.SCOPE_SIGNAL | landlock.SCOPE_ABSTRACT_UNIX if version >= 6 else 0
    ruleset = landlock.create_ruleset(
        handled_fs=landlock.file_rights(version), handled_net=net, scoped=scopes, version=version
    )
    if net and tcp_ports:
        landlock.allow_ports(ruleset, list(tcp_ports), landlock.CONNECT_TCP)
    landlock.restrict_self(ruleset)
