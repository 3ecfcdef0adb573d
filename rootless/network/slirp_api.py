"""slirp4netns' control socket: port forwards are added, listed and removed here.

One request a connection, JSON both ways, the answer ends with the connection
(slirp4netns(1), "API SOCKET"). The program serves one connection at a time
from its packet loop with a listen backlog of 0, hence the lock; and a request
is sent at once, because the network stands still while it waits for one.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

from rootless.errors import Unavailable
from rootless.network.slirp import API_SOCKET

TIMEOUT = 10.0
"""Seconds for one request."""


@dataclass(frozen=True, slots=True)
class Forward:
    """One forwarded port as slirp4netns lists it."""

    id: int
    protocol: str
    host_ip: str
    host_port: int
    container_port: int


class ForwardRefused(Unavailable):
    """slirp4netns could not add a forward; nearly always the host port is taken."""


class SlirpApi:
    """The control socket in ``directory``; requests are made one after another."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = asyncio.Lock()

    async def add(self, protocol: str, host_ip: str, host_port: int, container_port: int) -> int:
        """Forward ``host_ip:host_port`` to the container and return the forward's id."""
        answer = await self._request(
            "add_hostfwd",
            {
                "proto": protocol,
                "host_addr": host_ip,
                "host_port": host_port,
                "guest_port": container_port,
            },
        )
        return int(answer["return"]["id"])

    async def remove(self, forward_id: int) -> None:
        """Stop a forward; connections that exist go on."""
        await self._request("remove_hostfwd", {"id": forward_id})

    async def list(self) -> tuple[Forward, ...]:
        """All forwards, oldest first."""
        answer = await self._request("list_hostfwd", None)
        return tuple(
            Forward(
                int(entry["id"]),
                str(entry["proto"]),
                str(entry["host_addr"]),
                int(entry["host_port"]),
                int(entry["guest_port"]),
            )
            for entry in answer["entries"]
        )

    async def _request(self, execute: str, arguments: dict[str, Any] | None) -> dict[str, Any]:
        body: dict[str, Any] = {"execute": execute}
        if arguments is not None:
            body["arguments"] = arguments
        async with self._lock:
            try:
                async with asyncio.timeout(TIMEOUT):
                    raw = await self._exchange(json.dumps(body).encode())
            except OSError as error:  # TimeoutError is one
                reason = error.strerror or "no answer in time"
                raise Unavailable(f"cannot reach slirp4netns for {execute}: {reason}") from error
        try:
            answer: dict[str, Any] = json.loads(raw)
        except ValueError as error:
            raise Unavailable(f"slirp4netns gave no answer to {execute}") from error
        if "error" in answer:
            raise ForwardRefused(f"slirp4netns refused {execute}: {answer['error'].get('desc')}")
        return answer

    async def _exchange(self, request: bytes) -> bytes:
        # Through a descriptor: the path itself may be longer than the 107 bytes
        # that fit into a socket address (unix(7)).
        directory_fd = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory_fd}/{API_SOCKET}", limit=1 << 24
            )
        finally:
            os.close(directory_fd)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()
            await writer.wait_closed()
