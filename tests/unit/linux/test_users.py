"""Users and groups as the image's files name them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import StartFailed
from rootless.linux.users import ResolvedUser, resolve

PASSWD = b"root:x:0:0::/root:/bin/sh\n# comment\nbad line\nalice:x:1000:100::/home/alice:/bin/sh\n"
GROUP = b"root:x:0:\nusers:x:100:\naudio:x:29:bob,alice\nvideo:x:44:alice\n"


@pytest.mark.parametrize(
    ("wanted", "extra", "expected"),
    [
        ("", (), ResolvedUser(0, 0, (), "/root")),
        ("0", (), ResolvedUser(0, 0, (), "/root")),
        ("alice", (), ResolvedUser(1000, 100, (29, 44), "/home/alice")),
        ("1000", (), ResolvedUser(1000, 100, (29, 44), "/home/alice")),
        ("alice:audio", (), ResolvedUser(1000, 29, (), "/home/alice")),
        ("alice:7", (), ResolvedUser(1000, 7, (), "/home/alice")),
        ("4242", (), ResolvedUser(4242, 0, (), "/")),
        ("4242:4243", (), ResolvedUser(4242, 4243, (), "/")),
        ("alice", ("users", "9"), ResolvedUser(1000, 100, (29, 44, 100, 9), "/home/alice")),
    ],
)
def test_resolution(wanted: str, extra: tuple[str, ...], expected: ResolvedUser) -> None:
    assert resolve(wanted, extra, PASSWD, GROUP) == expected


def test_without_files_only_numbers_are_known() -> None:
    assert resolve("5:6", (), None, None) == ResolvedUser(5, 6, (), "/")
    with pytest.raises(StartFailed, match="unable to find user alice"):
        resolve("alice", (), None, None)


@pytest.mark.parametrize("wanted", ["bob", "alice:nogroup", "-1", "99999999999", "١"])
def test_what_cannot_be_resolved(wanted: str) -> None:
    with pytest.raises(StartFailed, match="unable to find"):
        resolve(wanted, (), PASSWD, GROUP)


def test_an_entry_with_an_absurd_id_is_not_root() -> None:
    with pytest.raises(StartFailed):
        resolve("evil", (), b"evil:x:4294967295:0::/:/bin/sh\n", None)


@given(st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=20))
def test_hostile_files_never_crash(passwd: bytes, group: bytes, wanted: str) -> None:
    try:
        found = resolve(wanted, (), passwd, group)
    except StartFailed:
        return
    assert 0 <= found.uid < 2**32 - 1
    assert 0 <= found.gid < 2**32 - 1
