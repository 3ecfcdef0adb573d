"""Connections to registries: aiohttp's, with one mend of its body parser."""

from __future__ import annotations

import functools

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connection(ResponseHandler):
    """A client connection whose chunked body goes on after any pause."""

    def resume_reading(self, *arguments: bool, **named: bool) -> None:
        """The parser goes on too.

        aiohttp 3.14.5's pure-Python one forgets that it was paused only when it stops
        for that. Paused by the last byte of a chunk it had stopped anyway, and would
        stop at the next one, which nobody resumes: reading is not paused then.
        """
        body = getattr(self._parser, "_payload_parser", None)
        if body is not None:
            body._paused = False
        super().resume_reading(*arguments, **named)


class Connector(aiohttp.TCPConnector):
    """Makes :class:`Connection` objects."""

    def __init__(self) -> None:
        super().__init__()
        self._factory = functools.partial(  # type: ignore[assignment]  # a factory of our own class
            Connection, loop=self._loop
        )
