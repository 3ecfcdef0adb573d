"""The user's keys: whoever possesses a keyring may read what is in it, whatever its ids are."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import sys

import pytest

from rootless.linux import libc
from rootless.runtime.launcher_client import Launcher

pytestmark = pytest.mark.integration

_JOIN, _SEARCH, _SESSION = 1, 10, -3
_ADD_KEY = {"x86_64": 248, "aarch64": 217, "riscv64": 217, "ppc64le": 269, "s390x": 278}

_LOOK = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall(int(sys.argv[1]), 10, -3, b"user", b"rootless-test", 0)
sys.exit(0 if found > 0 else ctypes.get_errno())
"""


async def _look(launcher: Launcher) -> int:
    """What a child of the launcher, as containers are, gets for looking the key up."""
    call = str(libc.number("keyctl"))
    spawned = await launcher.spawn([sys.executable, "-I", "-S", "-c", _LOOK, call], fds={})
    return await spawned.wait()


async def test_containers_do_not_possess_the_users_session_keyring() -> None:
    raw = libc.libc.syscall
    keyctl, machine = libc.number("keyctl"), os.uname().machine
    # The session of this process, not of whoever runs the tests; it ends with the process.
    if raw(keyctl, _JOIN, None) < 0:
        assert ctypes.get_errno() == errno.ENOSYS
        pytest.skip("host lacks key management in the kernel")
    assert raw(_ADD_KEY[machine], b"user", b"rootless-test", b"secret", 6, _SESSION) > 0
    assert raw(keyctl, _SEARCH, _SESSION, b"user", b"rootless-test", 0) > 0
    launcher = await Launcher.start()
    try:
        assert await asyncio.wait_for(_look(launcher), 30) == errno.EKEYREVOKED
    finally:
        await launcher.close()
