"""``seccomp-log``: which system calls the filter denied, learnt by user notification.

The kernel's log is not readable for an unprivileged user, so the filter asks
the shim (seccomp_unotify(2)), which counts the call and answers with the errno
that the filter would have given.
"""

from __future__ import annotations

from rootless.linux import seccomp


class DeniedCalls:
    """Counts by system call number."""

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._counts: dict[int, int] = {}

    def handle(self) -> None:
        """Answer one notification; the caller polled the listener."""
        request = seccomp.notif_receive(self._listener)
        if request is None:
            return
        self._counts[request.number] = self._counts.get(request.number, 0) + 1
        seccomp.notif_respond(self._listener, request.id, errno=1)

    def counts(self) -> dict[str, int]:
        """Calls by number, as text for JSON."""
        return {str(number): count for number, count in sorted(self._counts.items())}
