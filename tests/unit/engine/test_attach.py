"""Detach keys and what an attached client sees."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.engine.attach import Attached, DetachScanner, parse_detach_keys
from rootless.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-a,b", b"\x01b"),
        ("ctrl-@", b"\x00"),
        ("x", b"x"),
        ("DEL,a", b"\x7fa"),
    ],
)
def test_detach_keys(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "ab", "é", "ctrl-p,,"])
def test_bad_detach_keys(text: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid detach keys"):
        parse_detach_keys(text)


@given(st.lists(st.binary(max_size=5).map(lambda b: b.replace(b"\x11", b"")), max_size=8))
def test_what_is_no_sequence_passes_whole(chunks: list[bytes]) -> None:
    scanner = DetachScanner(b"\x10\x11")
    passed = b""
    for chunk in [*chunks, b"."]:
        out, detached = scanner.feed(chunk)
        passed += out
        assert not detached
    assert passed == b"".join(chunks) + b"."


def test_a_split_sequence_detaches_and_is_not_passed_on() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"abc\x10") == (b"abc", False)
    assert scanner.feed(b"\x11rest") == (b"", True)


async def test_iteration_ends_when_the_container_never_starts() -> None:
    attached = Attached(tty=False, stdin=False, stdout=True, stderr=True)

    async def read() -> list[tuple[int, bytes]]:
        return [item async for item in attached]

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    attached.fail()
    assert await reading == []


async def test_closing_before_the_start_ends_iteration_and_tells() -> None:
    attached = Attached(tty=False, stdin=True, stdout=True, stderr=True)
    told = []
    attached.on_close = lambda: told.append("closed")
    await attached.close()
    assert [item async for item in attached] == []
    await attached.write(b"ignored")
    assert told == ["closed"]
