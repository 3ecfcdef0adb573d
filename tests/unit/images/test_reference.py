"""References by the distribution grammar."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import InvalidInput
from rootless.images.reference import Reference, parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("Registry/app", "Registry/app", "Registry/app"),
        ("reg.example/app__x.y-z--w", "reg.example/app__x.y-z--w", "reg.example/app__x.y-z--w"),
        (f"app:t@sha256:{HEX}", f"docker.io/library/app:t@sha256:{HEX}", f"app:t@sha256:{HEX}"),
    ],
)
def test_accepted(text: str, full: str, familiar: str) -> None:
    found = parse(text)
    assert str(found) == full
    assert found.familiar == familiar
    assert parse(full) == found
    assert parse(familiar) == found


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "@", "a:", "a@", "/a", "a/", "a//b", "-a", "a-", "_a", "a..b", "a___b", "a:-x",
        "a:b:c", "a b", "a\n", "a:x\n", "host:port/a", "[::1/a", "ho_st.x/a", "a@sha256:abc",
        "a:" + "x" * 129, "ünïcode", "a/ünï", "http://host/a", "host:5000/", "x" * 5000,
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^invalid reference format"):
        parse(text)


def test_dockers_words() -> None:
    with pytest.raises(InvalidInput, match=r"repository name \(library/Foo\) must be lowercase"):
        parse("Foo")
    with pytest.raises(InvalidInput, match="cannot specify 64-byte hexadecimal strings"):
        parse(HEX)
    with pytest.raises(InvalidInput, match="must not be more than 255 characters"):
        parse("x/" + "a" * 300)
    with pytest.raises(InvalidInput, match="only sha256 digests"):
        parse(f"a@sha512:{HEX}{HEX}")
    with pytest.raises(InvalidInput, match="invalid tag format"):
        parse("a").with_tag("-x")


def test_default_tag_and_selector() -> None:
    assert parse("a").with_default_tag().tag == "latest"
    assert parse("a").selector == "latest"
    assert parse(f"a:t@sha256:{HEX}").selector == f"sha256:{HEX}"
    assert parse(f"a@sha256:{HEX}").with_default_tag().tag == ""
    assert parse("a:x").with_digest(f"sha256:{HEX}") == Reference(
        "docker.io", "library/a", digest=f"sha256:{HEX}"
    )


component = st.from_regex(r"[a-z0-9]+((\.|_|__|-{1,3})[a-z0-9]+){0,2}", fullmatch=True)
paths = st.lists(component.filter(lambda c: len(c) < 40), min_size=1, max_size=4).map("/".join)
domains = st.from_regex(r"[a-z0-9]{1,9}\.[a-zA-Z0-9]{1,9}(:[0-9]{1,5})?", fullmatch=True).filter(
    lambda d: d not in ("docker.io", "index.docker.io")
)
tags = st.one_of(st.just(""), st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))
digests = st.one_of(st.just(""), st.binary(min_size=32, max_size=32).map(bytes.hex))


@given(domains, paths, tags, digests)
def test_every_reference_round_trips(domain: str, path: str, tag: str, digest: str) -> None:
    reference = Reference(domain, path, tag, f"sha256:{digest}" if digest else "")
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@given(st.text(string.ascii_letters + string.digits + "/:@._-[]%~ \n\0é", max_size=60))
def test_any_text_is_a_stable_reference_or_invalid_input(text: str) -> None:
    try:
        found = parse(text)
    except InvalidInput:
        return
    assert parse(str(found)) == found
    assert parse(found.familiar) == found
    assert set(str(found)) <= set(string.ascii_letters + string.digits + "/:@._-[]")
