"""Egress lists in the resolver: which names are asked for, and who is told when they may go there.

Whoever has lists gets no answer before the holder has opened the addresses in
it: a connection that follows the answer finds the way open. Where the holder
does not say so, the question fails.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rootless.network.dns import answers, message
from rootless.network.dns.message import Malformed, Question

Lists = Sequence[Sequence[str]]
"""Name patterns of each list of a way out; a name must be on all of them."""
Send = Callable[[dict[str, Any]], bool]
"""Says something to the holder; False when there is no room for it now."""
Reply = Callable[[bytes], None]

SECONDS = 4.0
"""For the holder to open addresses."""
MOST = 512
"""Answers that wait for that."""
DENIALS, BURST = 20.0, 100.0
"""Refused names that the holder hears of each second, and at once; others are only counted."""
OTHERS = ""
"""The name of those others."""


def allowed(ways: Sequence[Lists], name: str) -> bool:
    """Whether a name in lower case is on every list of one of the ways."""
    return any(
        all(any(_matches(name, pattern) for pattern in one) for one in lists) for lists in ways
    )


def _matches(name: str, pattern: str) -> bool:
    # As model.egress.name_matches, which brings more along than this process should have.
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and name != pattern[1:]
    return pattern in ("*", name)


@dataclass(slots=True, eq=False)
class _Waiting:
    client: str
    question: Question
    data: bytes
    reply: Reply
    deadline: float


class Permits:
    """Answers on their way, and names that were refused."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: dict[int, _Waiting] = {}
        self._numbers = itertools.count(1)
        self._untold: dict[str, int] = {}
        """Client → refusals the holder has not heard of."""
        self._left, self._since = BURST, time.monotonic()

    def refuse(self, client: str, question: Question, reply: Reply) -> None:
        """No such name for this one, and the holder hears of it."""
        reply(message.compose(question, message.NO_NAME))
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._since) * DENIALS)
        self._since = now
        if self._left >= 1 and self._send({"denied": client, "name": question.name, "count": 1}):
            self._left -= 1
        else:
            self._untold[client] = self._untold.get(client, 0) + 1

    def pass_on(self, client: str, question: Question, reply: Reply, data: bytes) -> None:
        """An answer from the world: first open what it leads to."""
        try:
            found = answers.leads_to(data, question)
            data = answers.shortened(data, question)
        except Malformed:
            reply(message.compose(question, message.FAILURE))
            return
        if not found:
            reply(data)
            return
        number = next(self._numbers)
        told = {"open": number, "client": client, "name": question.name, "addresses": found}
        if len(self._waiting) >= MOST or not self._send(told):
            reply(message.compose(question, message.FAILURE))
            return
        deadline = time.monotonic() + SECONDS
        self._waiting[number] = _Waiting(client, question, data, reply, deadline)

    def opened(self, number: int, *, done: bool) -> None:
        """The holder has opened what an answer leads to, or could not."""
        one = self._waiting.pop(number, None)
        if one is not None:
            one.reply(one.data if done else message.compose(one.question, message.FAILURE))

    def drop(self, client: str) -> None:
        """Nobody waits for a client's answers any more."""
        self._untold.pop(client, None)
        for number, one in tuple(self._waiting.items()):
            if one.client == client:
                del self._waiting[number]

    def timeout(self, now: float) -> float | None:
        """Seconds until :meth:`expire` has something to do; None for never."""
        deadlines = [one.deadline for one in self._waiting.values()]
        if self._untold:
            deadlines.append(self._since + 1)
        return max(0.0, min(deadlines) - now) if deadlines else None

    def expire(self, now: float) -> None:
        """Fail what took too long; tell of what was only counted."""
        for number, one in tuple(self._waiting.items()):
            if one.deadline <= now:
                self.opened(number, done=False)
        if self._untold and self._since + 1 <= now:
            self._since, self._left = now, min(BURST, self._left + DENIALS)
            for client, count in tuple(self._untold.items()):
                if not self._send({"denied": client, "name": OTHERS, "count": count}):
                    return
                del self._untold[client]
