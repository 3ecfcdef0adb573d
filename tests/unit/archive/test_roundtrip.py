"""Properties: what is written is read back, by us and by the standard library."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import string
import tarfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rootless.archive.compress import CompressingWriter, Decompressed, detect
from rootless.archive.create import create
from rootless.archive.extract import extract
from rootless.archive.header import MAX_ID, REGULAR_KIND, Header
from rootless.archive.limits import DEFAULT_LIMITS, NO_SHIFT, Limits
from rootless.archive.reader import TarReader
from rootless.archive.writer import TarWriter
from rootless.errors import InvalidInput, RootlessError
from tests.support import tarmaker as tar

quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
names = st.lists(
    st.binary(min_size=1, max_size=60).filter(
        lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b"..")
    ),
    min_size=1,
    max_size=6,
).map(b"/".join)
times = st.integers(-(2**31), 2**34 - 1).flatmap(
    lambda s: st.integers(0, 10**9 - 1).map(lambda n: s * 10**9 + n)
)
headers = st.builds(
    Header,
    name=names,
    kind=st.just(REGULAR_KIND),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, MAX_ID),
    gid=st.integers(0, MAX_ID),
    size=st.just(0),
    mtime_ns=times,
    link=st.just(b""),
    devmajor=st.just(0),
    devminor=st.just(0),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"user.b", b"security.capability"]),
        st.binary(max_size=50),
        max_size=2,
    ),
)
entries = st.lists(st.tuples(headers, st.binary(max_size=1200)), max_size=8)


def _write(items: list[tuple[Header, bytes]]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    for header, data in items:
        writer.add(header, data)
    writer.finish()
    return out.getvalue()


@quick
@given(entries)
def test_our_reader_reads_what_our_writer_writes(items: list[tuple[Header, bytes]]) -> None:
    reader = TarReader(io.BytesIO(_write(items)), Limits())
    for header, data in items:
        found = reader.next()
        assert found == header
        assert b"".join(reader.data(found.size)) == data
    assert reader.next() is None


@quick
@given(entries)
def test_the_standard_library_reads_what_our_writer_writes(
    items: list[tuple[Header, bytes]],
) -> None:
    with tarfile.open(
        fileobj=io.BytesIO(_write(items)), encoding="utf-8", errors="surrogateescape"
    ) as archive:
        found = archive.getmembers()
        assert [os.fsencode(m.name) for m in found] == [h.name for h, _ in items]
        for member, (header, data) in zip(found, items, strict=True):
            assert (member.mode, member.uid, member.gid) == (header.mode, header.uid, header.gid)
            content = archive.extractfile(member)
            assert content is not None
            assert content.read() == data


@quick
@given(st.binary(max_size=3000))
def test_any_bytes_give_entries_or_one_clear_error(data: bytes) -> None:
    reader = TarReader(io.BytesIO(data), Limits(max_bytes=1 << 20))
    message = ""
    try:
        while reader.next() is not None:
            pass
    except InvalidInput as error:
        message = str(error)
    assert message == "" or message.isprintable()


@quick
@given(entries, st.data())
def test_damaged_archives_never_raise_anything_else(
    items: list[tuple[Header, bytes]], data: st.DataObject
) -> None:
    raw = bytearray(_write(items))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    # With right checksums again, so that the damage reaches the parser.
    for at in range(0, len(raw), 512):
        raw[at : at + 512] = tar.patch(bytes(raw[at : at + 512]), 0, b"")
    reader = TarReader(io.BytesIO(bytes(raw)), Limits(max_bytes=1 << 20))
    try:
        while reader.next() is not None:
            pass
    except InvalidInput:
        pass


@quick
@given(items=entries, twist=st.lists(st.sampled_from([b"..", b"", b".", b"/", b"l"]), max_size=3))
def test_extraction_stays_inside(
    tmp_path: Path, items: list[tuple[Header, bytes]], twist: list[bytes]
) -> None:
    dest = tmp_path / "dest"
    dest.mkdir(exist_ok=True)
    parts = [tar.symlink(b"l", b"..")]
    parts += [
        tar.file(b"/".join([*twist, header.name]), data, mode=0o600) for header, data in items
    ]
    fd = os.open(dest, os.O_RDONLY)
    try:
        extract(
            io.BytesIO(tar.archive(*parts)),
            fd,
            shift=NO_SHIFT,
            existing="replace",
            owner=(os.getuid(), os.getgid()),
        )
    except RootlessError:
        pass
    finally:
        os.close(fd)
    assert os.listdir(tmp_path) == ["dest"]


def test_trees_come_back_the_same(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    for place in (source, copy):
        place.mkdir()
    (source / "d").mkdir(mode=0o750)
    (source / "d" / "f").write_bytes(b"content" * 1000)
    os.link(source / "d" / "f", source / "hard")
    os.setxattr(source / "d" / "f", "user.note", b"\0\xff binary")
    (source / "link").symlink_to("d/f")
    os.mkfifo(source / "pipe", 0o640)
    (source / ("long" * 50)).write_bytes(b"x")
    (source / "\udcff\udcfe").write_bytes(b"not utf-8")
    with (source / "sparse").open("wb") as file:
        file.seek(20 << 20)
        file.write(b"end")
        file.truncate(50 << 20)
    out, again = io.BytesIO(), io.BytesIO()
    fd, target = os.open(source, os.O_RDONLY), os.open(copy, os.O_RDONLY)
    try:
        done = create(fd, out, shift=NO_SHIFT, include_root=True)
        out.seek(0)
        assert len(out.getvalue()) < 1 << 20
        owner = (os.getuid(), os.getgid())
        extract(out, target, shift=NO_SHIFT, owner=owner)
        create(target, again, shift=NO_SHIFT, include_root=True)
    finally:
        os.close(fd)
        os.close(target)
    assert again.getvalue() == out.getvalue()
    assert tar.tree(copy) == tar.tree(source)
    assert (copy / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (copy / "hard").stat().st_ino == (copy / "d" / "f").stat().st_ino
    assert os.getxattr(copy / "d" / "f", "user.note") == b"\0\xff binary"
    assert done.entries == len(tar.tree(source)) + 1


def test_one_object_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"x")
    out = io.BytesIO()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        create(fd, out, name=b"d", arcname=b"other", shift=NO_SHIFT)
    finally:
        os.close(fd)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert archive.getnames() == ["other", "other/f"]


def test_deep_trees_are_refused_not_crashed_on(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(InvalidInput, match="nested deeper than 512"):
            create(fd, io.BytesIO(), shift=NO_SHIFT)
    finally:
        os.close(fd)
        from rootless.archive.directories import remove

        root = os.open(tmp_path, os.O_RDONLY)
        remove(root, b"d")
        os.close(root)


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_compression_round_trip(kind: str) -> None:
    data = os.urandom(300_000) + bytes(2_000_000) + string.printable.encode() * 1000
    out = io.BytesIO()
    writer = CompressingWriter(out, kind)  # type: ignore[arg-type]  # one of the parametrised kinds
    for at in range(0, len(data), 65_537):
        writer.write(data[at : at + 65_537])
    writer.finish()
    assert detect(out.getvalue()[:6]) == kind
    assert _all(out.getvalue()) == data
    assert _all(out.getvalue() * 2) == data * 2


def _all(data: bytes, limits: Limits = DEFAULT_LIMITS) -> bytes:
    stream = Decompressed(io.BytesIO(data), limits)
    parts = []
    while part := stream.read(70_000):
        assert len(part) <= 70_000
        parts.append(part)
    return b"".join(parts)


def _packed(kind: str, data: bytes) -> bytes:
    import bz2
    import lzma

    from backports import zstd

    return {
        "gzip": gzip.compress,
        "zstd": zstd.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
    }[kind](data)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_damaged_compression_is_refused(kind: str) -> None:
    data = os.urandom(100_000)
    packed = _packed(kind, data)
    assert _all(packed) == data
    assert _all(packed + bytes(512)) == data
    assert _all(_packed(kind, b"")) == b""
    for cut in (1, 10, 1000, len(packed) - 8):
        with pytest.raises(InvalidInput, match="cut"):
            _all(packed[:-cut])
    with pytest.raises(InvalidInput, match="other data after its end"):
        _all(packed + b"something else")
    if kind != "zstd":  # zstd frames have a checksum only on request
        broken = bytearray(packed)
        broken[len(broken) // 2] ^= 0xFF
        with pytest.raises(InvalidInput, match="damaged"):
            _all(bytes(broken))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_decompression_bombs_are_refused(kind: str) -> None:
    bomb = _packed(kind, bytes(20 << 20))
    with pytest.raises(InvalidInput, match="a decompression bomb"):
        _all(bomb, Limits(max_ratio=50, ratio_floor=1 << 20))
    with pytest.raises(InvalidInput, match="larger than 1048576 bytes unpacked"):
        _all(bomb, Limits(max_stream=1 << 20))
    assert len(_all(bomb, Limits(max_ratio=10**6))) == 20 << 20


def test_zstd_skippable_frames_and_windows() -> None:
    from backports import zstd

    skippable = b"\x5e\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    packed = zstd.compress(b"content")
    assert _all(skippable + packed + skippable) == b"content"
    wide = zstd.ZstdCompressor(
        options={
            zstd.CompressionParameter.window_log: 29,
            zstd.CompressionParameter.checksum_flag: 1,
        }
    )
    data = wide.compress(os.urandom(1 << 20)) + wide.flush()
    with pytest.raises(InvalidInput, match="damaged"):
        _all(data)


def test_the_administrators_bounds_hold_for_content_and_stream() -> None:
    limits = Limits.of_layer(1 << 20, 50)
    assert (limits.max_bytes, limits.max_ratio) == (1 << 20, 50)
    assert limits.max_stream > limits.max_bytes, "headers and padding must fit as well"
    reader = TarReader(io.BytesIO(tar.file(b"big", bytes((1 << 20) + 1))), limits)
    with pytest.raises(InvalidInput, match="'big' refused") as caught:
        reader.next()
    assert caught.value.hint is not None
    assert "max-layer-size" in caught.value.hint


def test_xz_takes_no_gigabytes() -> None:
    """The dictionary's size is a byte in the header (xz file format, 5.3.1): here 4 GiB."""
    whole = bytearray(lzma.compress(b"x" * 1000))
    assert whole[14:16] == b"\x21\x01"
    whole[16] = 40
    size = (whole[12] + 1) * 4
    whole[12 + size - 4 : 12 + size] = zlib.crc32(whole[12 : 12 + size - 4]).to_bytes(4, "little")
    with pytest.raises(InvalidInput, match="xz data is damaged"):
        _all(bytes(whole), Limits())
