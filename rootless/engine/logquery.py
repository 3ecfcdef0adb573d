"""What of a log is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from rootless.model.records import LogEntry

_STEP_NS = 10**9
"""Records are in order of time but for this much, by which a clock is set back at once."""


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What of a log is wanted; ``tail`` ``None`` for everything."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    tail: int | None = None
    details: bool = False
    """Attributes are wanted as well."""

    def wants(self, entry: LogEntry) -> bool:
        """True when the entry's stream and time were asked for."""
        if not (self.stdout if entry.stream == "stdout" else self.stderr):
            return False
        if self.since_ns and entry.time_ns < self.since_ns:
            return False
        return not (self.until_ns and entry.time_ns > self.until_ns)

    def is_too_old(self, entry: LogEntry) -> bool:
        """True when nothing before the entry can be wanted."""
        return entry.time_ns < self.since_ns - _STEP_NS
