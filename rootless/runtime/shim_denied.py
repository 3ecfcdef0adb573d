"""``seccomp-log``: which system calls the filter denied, learnt by user notification.

The kernel's log is not readable for an unprivileged user, so the filter asks
the shim (seccomp_unotify(2)), which counts the call and answers with the errno
that the filter would have given.
"""

from __future__ import annotations

from rootless.linux import seccomp
from rootless.seccomp.bpf import decode, evaluate


class DeniedCalls:
    """Counts by audit architecture and number; ``original`` is the filter that knows the errno."""

    def __init__(self, listener: int, original: bytes) -> None:
        self._listener = listener
        self._program = tuple(decode(original))
        self._counts: dict[str, int] = {}

    def handle(self) -> None:
        """Answer one notification; the caller polled the listener."""
        request = seccomp.notif_receive(self._listener)
        if request is None:
            return
        key = f"{request.arch}:{request.number}"
        self._counts[key] = self._counts.get(key, 0) + 1
        answer = evaluate(self._program, request.number, request.arch, request.args)
        seccomp.notif_respond(self._listener, request.id, errno=answer & seccomp.RET_DATA_MASK)

    def counts(self) -> dict[str, int]:
        """How often each call was denied; keys are ``ARCH:NUMBER``."""
        return dict(sorted(self._counts.items()))
