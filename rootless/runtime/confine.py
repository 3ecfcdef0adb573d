"""Landlock in init: the policy's rules on the container's own files, for good.

It comes after everything that mounts (which fails from here on) and before the
system call filter (which may not know these calls).
"""

from __future__ import annotations

import errno
import os

from rootless.errors import SyscallError
from rootless.linux import landlock_calls
from rootless.linux.openat2 import openat2
from rootless.model.plan import LandlockPlan

_DIRECTORY = 0o040000
_TYPE = 0o170000


def confine(plan: LandlockPlan) -> None:
    """Restrict this process and all it starts; what a rule names and is not there is skipped."""
    ruleset = landlock_calls.create(*plan.handled)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for path, on_directory, on_file in plan.paths:
        try:
            fd = openat2(root, path, os.O_PATH)
        except SyscallError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                continue
            raise
        directory = os.fstat(fd).st_mode & _TYPE == _DIRECTORY
        landlock_calls.allow_beneath(ruleset, fd, on_directory if directory else on_file)
        os.close(fd)
    os.close(root)
    for port, access in plan.ports:
        landlock_calls.allow_port(ruleset, port, access)
    landlock_calls.restrict_self(ruleset)
    os.close(ruleset)
