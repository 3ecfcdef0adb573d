"""Whatever a user or a client writes is taken or refused in words, never a surprise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless import units
from rootless.api.dto import binds, ports, times
from rootless.cli import createspec, filters, mountspec
from rootless.errors import RootlessError
from rootless.images import changes, platform, reference
from rootless.model.request import ContainerConfig

WORDS = (
    "",
    "/",
    "..",
    "/x",
    "x",
    ":",
    "::",
    "[",
    "]",
    "[::1]",
    "127.0.0.1",
    "fe80::1%lo",
    "=",
    ",",
    "-",
    "0",
    "1",
    "-1",
    "80",
    "80-90",
    "90-80",
    "65535",
    "65536",
    "99999999999999999999",
    "٣",
    "1_0",
    "1e3",
    "tcp",
    "udp",
    "sctp",
    "ro",
    "rw",
    "z",
    "rshared",
    "nocopy",
    "type",
    "bind",
    "volume",
    "tmpfs",
    "image",
    "source",
    "src",
    "target",
    "dst",
    "readonly",
    "true",
    "maybe",
    "tmpfs-size",
    "64m",
    "tmpfs-mode",
    "1777",
    "9999",
    "volume-opt",
    "bind-propagation",
    "published",
    "protocol",
    "nofile",
    "on-failure",
    "always",
    "linux",
    "amd64",
    "v8",
    "sha256",
    "a" * 64,
    "@",
    "é",
    "\u202e",
    "\0",
    "\n",
    " ",
    '"',
    "'",
    "\\",
    "{",
    '["',
    "ENV",
    "CMD",
    "EXPOSE",
    "HEALTHCHECK",
    "--interval",
    "1h",
    "1h30m",
    "2006-01-02",
    "T",
    "Z",
    "+01:00",
    "1.5",
    "kb",
    "gib",
)
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=10).map("".join)

PARSERS: tuple[Callable[[str], object], ...] = (
    createspec.parse_publish,
    createspec.parse_expose,
    createspec.parse_volume,
    createspec.parse_tmpfs,
    createspec.parse_device,
    createspec.parse_ulimit,
    createspec.parse_restart,
    lambda text: createspec.parse_rate(text, size=True),
    lambda text: filters.parse_filters([text]),
    mountspec.parse_mount,
    binds.parse_bind,
    lambda text: binds.parse_tmpfs("/x", text),
    lambda text: binds.parse_tmpfs(text, ""),
    ports.parse_exposed,
    lambda text: ports.to_bindings({"80/tcp": [ports.HostPort(host_port=text)]}),
    lambda text: times.parse_query_time("since", text),
    reference.parse,
    platform.parse,
    lambda text: changes.apply(ContainerConfig(), [text]),
    units.parse_size,
    units.parse_duration,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=texts)
def test_any_text(parse: Callable[[str], object], text: str) -> None:
    try:
        parse(text)
    except RootlessError as error:
        refusal = error
    else:
        return
    assert refusal.message
    assert refusal.code in ("usage", "invalid", "host")
