"""What extraction makes, and every kind of archive it refuses by name.

Run as whoever runs the tests: ``owner`` is that user, so chown changes nothing.
Ids and whiteouts on disk are tested in tests/integration/images.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.archive.extract import Existing, Extracted, extract
from rootless.archive.limits import DEFAULT_LIMITS, NO_SHIFT, Limits
from rootless.archive.whiteout import WhiteoutWriter
from rootless.errors import InvalidInput, RootlessError
from tests.support import tarmaker as tar


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the destination with a file nobody may touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "secret").write_bytes(b"untouched")
    return place


@pytest.fixture
def dest(tmp_path: Path, outside: Path) -> Iterator[Path]:
    """The destination; afterwards nothing beside it may have changed."""
    place = tmp_path / "dest"
    place.mkdir()
    yield place
    assert sorted(os.listdir(tmp_path)) == ["dest", "outside"]
    assert tar.tree(outside) == ["secret"]
    assert (outside / "secret").read_bytes() == b"untouched"


def unpack(
    dest: Path,
    data: bytes,
    *,
    limits: Limits = DEFAULT_LIMITS,
    existing: Existing = "refuse",
    follow_parents: bool = False,
    whiteouts: WhiteoutWriter | None = None,
) -> Extracted:
    fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY)
    before = os.listdir("/proc/self/fd")
    try:
        return extract(
            io.BytesIO(data),
            fd,
            shift=NO_SHIFT,
            limits=limits,
            existing=existing,
            follow_parents=follow_parents,
            whiteouts=whiteouts,
            owner=(os.getuid(), os.getgid()),
        )
    finally:
        assert len(os.listdir("/proc/self/fd")) == len(before), "descriptors leaked"
        os.close(fd)


class Recorder:
    """Whiteouts as empty files with a prefix, so that a test can see them anywhere."""

    def __init__(self) -> None:
        self.opaques: list[str] = []

    def remove(self, parent: int, name: bytes) -> None:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0, dir_fd=parent))

    def opaque(self, directory: int) -> None:
        self.opaques.append(os.path.basename(os.readlink(f"/proc/self/fd/{directory}")))


def test_kinds_of_entries(dest: Path) -> None:
    done = unpack(
        dest,
        tar.archive(
            tar.directory(b"./", mode=0o751),
            tar.directory(b"d/", mode=0o750, mtime_ns=5 * 10**9),
            tar.file(b"./d/f", b"data", mode=0o4640, mtime_ns=1_500_000_000),
            tar.hard_link(b"d/g", b"./d/f"),
            tar.symlink(b"s", b"/etc/passwd", mtime_ns=7 * 10**9),
            tar.special(b"p", b"6", mode=0o620),
            tar.special(b"null", b"3", devmajor=1, devminor=3),
            tar.special(b"whiteout", b"3", devmajor=0, devminor=0),
            tar.special(b"disk", b"4", devmajor=8, devminor=0),
        ),
    )
    file = dest / "d" / "f"
    assert file.read_bytes() == b"data"
    assert stat.S_IMODE(file.stat().st_mode) == (0o640 if os.getuid() == 0 else 0o4640)
    assert file.stat().st_mtime_ns == 1_500_000_000
    assert (dest / "d" / "g").stat().st_ino == file.stat().st_ino
    assert os.readlink(dest / "s") == "/etc/passwd"
    assert (dest / "s").lstat().st_mtime_ns == 7 * 10**9
    assert stat.S_ISFIFO((dest / "p").lstat().st_mode)
    assert stat.S_IMODE((dest / "p").lstat().st_mode) == 0o620
    assert stat.S_IMODE((dest / "d").stat().st_mode) == 0o750
    assert (dest / "d").stat().st_mtime_ns == 5 * 10**9
    assert stat.S_IMODE(dest.stat().st_mode) == 0o751
    assert done.skipped_devices == ("null", "whiteout", "disk")
    assert (done.bytes, done.entries) == (4, 9)


def test_missing_parents_are_made(dest: Path) -> None:
    unpack(dest, tar.archive(tar.file(b"a/b/c/file", b"x")))
    assert tar.tree(dest) == ["a", "a/b", "a/b/c", "a/b/c/file"]
    assert stat.S_IMODE((dest / "a").stat().st_mode) == 0o755


def test_many_directories_do_not_exhaust_descriptors(dest: Path) -> None:
    parts = []
    for i in range(300):
        parts += [tar.directory(b"d%d" % i), tar.file(b"d%d/f" % i, b"%d" % i)]
    parts += [tar.hard_link(b"d%d/l" % i, b"d%d/f" % (299 - i)) for i in range(300)]
    unpack(dest, tar.archive(*parts))
    assert (dest / "d7" / "l").read_bytes() == b"292"


def test_names_that_are_not_utf8_and_long_names(dest: Path) -> None:
    odd = b"\xff\xfe-name"
    long = b"/".join([b"x" * 200] * 5) + b"/" + b"y" * 255
    unpack(dest, tar.archive(tar.file(odd, b"1"), tar.file(long, b"2")))
    assert odd in os.listdir(os.fsencode(dest))
    assert (dest / os.fsdecode(long)).read_bytes() == b"2"


def test_repeated_directories_and_files(dest: Path) -> None:
    unpack(
        dest,
        tar.archive(
            tar.directory(b"d", mode=0o700),
            tar.file(b"d/f", b"old"),
            tar.hard_link(b"d/g", b"d/f"),
            tar.directory(b"d", mode=0o755),
            tar.file(b"d/f", b"new"),
            tar.symlink(b"s", b"d"),
            tar.symlink(b"s", b"d"),
        ),
    )
    assert (dest / "d" / "f").read_bytes() == b"new"
    assert (dest / "d" / "g").read_bytes() == b"old", "a hard link must not be written through"
    assert stat.S_IMODE((dest / "d").stat().st_mode) == 0o755


def test_sparse_files_in_every_format(dest: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    # Made by GNU tar itself: the formats are what it writes.
    source = tmp_path_factory.mktemp("sparse")
    with (source / "holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"middle")
        file.seek(3 << 20)
        file.write(b"late" * 2000)
        file.truncate(5 << 20)
    expected = (source / "holes").read_bytes()
    for form in ("gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"):
        made = subprocess.run(
            ["tar", "-cS", *f"--format={form}".split(), "-C", str(source), "holes"],
            capture_output=True,
            check=True,
        ).stdout
        assert len(made) < 1 << 20
        unpack(dest, made)
        assert (dest / "holes").read_bytes() == expected, form
        assert (dest / "holes").stat().st_blocks * 512 < 1 << 20, form
        (dest / "holes").unlink()


def test_whiteouts(dest: Path) -> None:
    recorder = Recorder()
    unpack(
        dest,
        tar.archive(
            tar.directory(b"d"),
            tar.file(b"d/.wh.gone"),
            tar.file(b"d/.wh.gone"),
            tar.file(b"d/.wh..wh..opq"),
            tar.file(b".wh..wh.plnk/x", b"aufs"),
            tar.file(b"d/.wh..wh.aufs", b""),
            # This layer removes and makes anew: its own content stays, the lower's hides.
            tar.file(b".wh.again"),
            tar.file(b"again/file", b"1"),
            tar.file(b".wh.back"),
            tar.file(b"back", b"2"),
            tar.directory(b"own"),
            tar.file(b".wh.own"),
            tar.file(b".wh.tree"),
            tar.directory(b"tree"),
        ),
        whiteouts=recorder,
    )
    assert tar.tree(dest) == ["again", "again/file", "back", "d", "d/gone", "own", "tree"]
    assert recorder.opaques == ["d", "again", "own", "tree"]
    assert (dest / "back").read_bytes() == b"2"


def test_whiteout_names_are_plain_files_without_a_writer(dest: Path) -> None:
    unpack(dest, tar.archive(tar.file(b".wh.x", b"content")))
    assert (dest / ".wh.x").read_bytes() == b"content"


@pytest.mark.parametrize("name", [b".wh.", b".wh...", b"d/.wh..", b".wh.d/file"])
def test_whiteouts_that_name_nothing(dest: Path, name: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"archive entry '(d/)?\.wh\."):
        unpack(dest, tar.archive(tar.file(name)), whiteouts=Recorder())


LONG = b"n" * 256
plain = tar.file(b"evil", b"")

HOSTILE: dict[str, tuple[bytes, str]] = {
    "absolute": (tar.file(b"/etc/evil", b"x"), "its name is absolute"),
    "absolute double slash": (tar.file(b"//evil"), "its name is absolute"),
    "dot dot": (tar.file(b"../outside/secret", b"x"), r"its name contains '\.\.'"),
    "dot dot inside": (tar.file(b"a/../../outside/secret"), r"its name contains '\.\.'"),
    "dot dot last": (tar.directory(b"a/.."), r"its name contains '\.\.'"),
    "dot dot only": (tar.directory(b".."), r"its name contains '\.\.'"),
    "empty name": (tar.patch(plain, 0, bytes(100)), "its name is empty"),
    "long component": (tar.file(LONG), "longer than 255 bytes"),
    "long path": (tar.file(b"a/" * 200 + b"f"), "longer than 300 bytes"),
    "NUL in a PAX name": (
        tar.pax(tar.record(b"path", b"a\0b")) + plain,
        "its name contains a NUL byte",
    ),
    "file through symlink": (
        tar.symlink(b"l", b"../outside") + tar.file(b"l/secret", b"x"),
        "'l/secret' refused: one of its parent directories is a symbolic link",
    ),
    "file through inner symlink": (
        tar.directory(b"d") + tar.symlink(b"l", b"d") + tar.file(b"l/f", b"x"),
        "'l/f' refused: one of its parent directories is a symbolic link",
    ),
    "directory through symlink": (
        tar.symlink(b"l", b"../outside") + tar.directory(b"l/new"),
        "parent directories is a symbolic link",
    ),
    "missing parents through symlink": (
        tar.symlink(b"l", b"../outside") + tar.file(b"l/a/b/c"),
        "parent directories is a symbolic link",
    ),
    "symlink through symlink": (
        tar.symlink(b"l", b"../outside") + tar.symlink(b"l/x", b"y"),
        "parent directories is a symbolic link",
    ),
    "fifo through symlink": (
        tar.symlink(b"l", b"../outside") + tar.special(b"l/x", b"6"),
        "parent directories is a symbolic link",
    ),
    "hard link through symlink": (
        tar.symlink(b"l", b"../outside") + tar.hard_link(b"stolen", b"l/secret"),
        "'stolen' refused: its hard link target 'l/secret' is not in the archive",
    ),
    "file over symlink": (
        tar.symlink(b"l", b"../outside/secret") + tar.file(b"l", b"x"),
        "'l' refused: an earlier entry has the same name",
    ),
    "directory over symlink": (
        tar.symlink(b"l", b"../outside") + tar.directory(b"l", mode=0o777),
        "'l' refused: an earlier entry has the same name",
    ),
    "other symlink over symlink": (
        tar.symlink(b"l", b"a") + tar.symlink(b"l", b"../outside"),
        "an earlier entry has the same name",
    ),
    "symlink over directory": (
        tar.directory(b"d") + tar.symlink(b"d", b"../outside") + tar.file(b"d/secret", b"x"),
        "'d' refused: an earlier entry has the same name",
    ),
    "file over directory": (
        tar.directory(b"d") + tar.file(b"d", b"x"),
        "an earlier entry has the same name",
    ),
    "fifo over file": (
        tar.file(b"f") + tar.special(b"f", b"6"),
        "an earlier entry has the same name",
    ),
    "below a file": (
        tar.file(b"f") + tar.file(b"f/g"),
        "one of its parent directories is not a directory",
    ),
    "hard link outside": (tar.hard_link(b"h", b"../outside/secret"), r"contains '\.\.'"),
    "absolute hard link": (tar.hard_link(b"h", b"/etc/passwd"), "is not in the archive"),
    "hard link to nothing": (tar.hard_link(b"h", b"nothing"), "is not in the archive"),
    "hard link to itself": (tar.hard_link(b"h", b"h"), "hard link to itself"),
    "hard link to a directory": (
        tar.directory(b"d") + tar.hard_link(b"h", b"d"),
        "is not a file",
    ),
    "empty hard link": (tar.hard_link(b"h", b""), "its link target is empty"),
    "empty symlink": (tar.symlink(b"s", b""), "its link target is empty"),
    "NUL in a PAX link": (
        tar.pax(tar.record(b"linkpath", b"a\0b")) + tar.symlink(b"s", b"x"),
        "its link target is not a path",
    ),
    "root as a symlink": (tar.symlink(b".", b"../outside"), "must be a directory"),
    "root as a file": (
        tar.pax(tar.record(b"path", b".")) + plain,
        "must be a directory",
    ),
    "unknown type": (tar.special(b"x", b"Q"), "its type 'Q' is not supported"),
    "multi volume": (tar.special(b"x", b"M"), "its type 'M' is not supported"),
    "negative size": (tar.patch(plain, 124, b"\xff" * 12), "its size -1 is out of range"),
    "huge size": (tar.patch(plain, 124, b"\x80" + b"\x7f" * 11), "its size .* is out of range"),
    "size that is no number": (tar.patch(plain, 124, b"12z\0"), "its size is not a number"),
    "size with an eight": (tar.patch(plain, 124, b"00000000008\0"), "its size is not a number"),
    "size with a sign": (tar.patch(plain, 124, b"-0000000001\0"), "its size is not a number"),
    "strange binary number": (tar.patch(plain, 124, b"\xc0" + bytes(11)), "not a number this"),
    "negative owner": (tar.patch(plain, 108, b"\xff" * 8), "its owner -1:0 is out of range"),
    "owner too large": (
        tar.pax(tar.record(b"uid", b"4294967295")) + plain,
        "its owner 4294967295:0 is out of range",
    ),
    "too many bytes": (tar.file(b"f", bytes(1001)), "files are larger than 1000 bytes"),
    "too many bytes in several": (
        tar.file(b"f", bytes(600)) + tar.file(b"g", bytes(600)),
        "'g' refused: the archive's files are larger",
    ),
    "announced but absent bytes": (
        tar.patch(plain, 124, b"00000777777\0"),
        "files are larger than 1000 bytes",
    ),
    "too many entries": (b"".join(tar.file(b"f%d" % i) for i in range(6)), "more than 5 entries"),
    "large PAX header": (
        tar.pax(tar.record(b"comment", bytes(4000))) + plain,
        "has 40.. bytes, more than 2048",
    ),
    "PAX header size bomb": (
        tar.patch(tar.pax(b""), 124, b"77777777777\0") + plain,
        "bytes, more than 2048",
    ),
    "negative PAX header size": (
        tar.patch(tar.pax(b""), 124, b"\xff" * 12) + plain,
        "bytes, more than 2048",
    ),
    "long name bomb": (
        tar.patch(tar.special(b"x", b"L"), 124, b"77777777777\0") + plain,
        "bytes, more than 2048",
    ),
    "endless extension headers": (
        tar.pax(tar.record(b"comment", b"x")) * 20 + plain,
        "too many extension headers",
    ),
    "malformed PAX": (tar.pax(b"nonsense") + plain, "PAX header is malformed"),
    "PAX record length too long": (tar.pax(b"99 path=x\n") + plain, "PAX header is malformed"),
    "PAX record length zero": (tar.pax(b"0 path=x\n") + plain, "PAX header is malformed"),
    "PAX record without key": (tar.pax(b"5 =x\n") + plain, "PAX header is malformed"),
    "PAX size negative": (tar.pax(tar.record(b"size", b"-5")) + plain, "invalid size"),
    "PAX size with a space": (tar.pax(tar.record(b"size", b" 5")) + plain, "invalid size"),
    "PAX path to outside": (
        tar.pax(tar.record(b"path", b"../outside/secret")) + plain,
        r"contains '\.\.'",
    ),
    "PAX time that is none": (tar.pax(tar.record(b"mtime", b"1e9")) + plain, "invalid time"),
    "too many attributes": (
        tar.pax(b"".join(tar.record(b"SCHILY.xattr.user.%d" % i, b"") for i in range(70))) + plain,
        "more than 64 attributes",
    ),
    "sparse map overlaps": (
        tar.pax(
            tar.record(b"GNU.sparse.size", b"100") + tar.record(b"GNU.sparse.map", b"0,10,5,10")
        )
        + tar.file(b"s", bytes(20)),
        "sparse map overlaps",
    ),
    "sparse map beyond the end": (
        tar.pax(tar.record(b"GNU.sparse.size", b"10") + tar.record(b"GNU.sparse.map", b"0,20"))
        + tar.file(b"s", bytes(20)),
        "reaches beyond the end",
    ),
    "sparse map without data": (
        tar.pax(tar.record(b"GNU.sparse.size", b"100") + tar.record(b"GNU.sparse.map", b"0,50"))
        + tar.file(b"s", bytes(20)),
        "does not match its data",
    ),
    "sparse size bomb": (
        tar.pax(
            tar.record(b"GNU.sparse.size", b"9223372036854775807")
            + tar.record(b"GNU.sparse.map", b"0,5")
        )
        + tar.file(b"s", bytes(5)),
        "is above 1048576",
    ),
    "sparse name outside": (
        tar.pax(
            tar.record(b"GNU.sparse.size", b"5")
            + tar.record(b"GNU.sparse.map", b"0,5")
            + tar.record(b"GNU.sparse.name", b"../outside/secret")
        )
        + tar.file(b"s", bytes(5)),
        r"contains '\.\.'",
    ),
    "sparse map odd": (
        tar.pax(tar.record(b"GNU.sparse.size", b"5") + tar.record(b"GNU.sparse.map", b"0,5,1"))
        + tar.file(b"s", bytes(5)),
        "sparse map is malformed",
    ),
    "sparse 1.0 map endless": (
        tar.pax(tar.record(b"GNU.sparse.major", b"1") + tar.record(b"GNU.sparse.realsize", b"5"))
        + tar.file(b"s", b"99999999\n" + bytes(503)),
        "sparse segments",
    ),
    "sparse directory": (
        tar.pax(tar.record(b"GNU.sparse.size", b"5")) + tar.directory(b"s"),
        "only a regular file can be sparse",
    ),
    "wrong checksum": (plain[:148] + b"0000001\0" + plain[156:], "checksum does not match"),
    "no checksum": (plain[:148] + b"zzzzzzz\0" + plain[156:], "no checksum"),
    "garbage": (os.urandom(2048), "checksum"),
    "one zero block in the middle": (plain + bytes(512) + plain, "single zero block"),
}
LIMITS = Limits(
    max_bytes=1000, max_entries=5, max_header=2048, max_path=300, max_file=1 << 20, max_xattrs=64
)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused_by_name(dest: Path, kind: str) -> None:
    data, message = HOSTILE[kind]
    with pytest.raises(InvalidInput, match=message) as caught:
        unpack(dest, tar.archive(data), limits=LIMITS)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_follows_the_end_is_bounded(dest: Path) -> None:
    """It is read, for the digest, and may be endless."""
    data = tar.archive(tar.file(b"f", b"x")) + bytes(2 << 20)
    unpack(dest, data)
    (dest / "f").unlink()
    with pytest.raises(InvalidInput, match="the archive is larger than 1048576 bytes"):
        unpack(dest, data, limits=Limits(max_stream=1 << 20))


def test_segments_of_a_sparse_file_are_bounded(dest: Path) -> None:
    head = tar.record(b"GNU.sparse.size", b"1000")
    for number in range(100):
        head += tar.record(b"GNU.sparse.offset", b"%d" % (2 * number))
        head += tar.record(b"GNU.sparse.numbytes", b"1")
    data = tar.archive(tar.pax(head) + tar.file(b"f", bytes(100)))
    unpack(dest, data)
    (dest / "f").unlink()
    with pytest.raises(InvalidInput, match="more than 50 sparse segments"):
        unpack(dest, data, limits=Limits(max_sparse=50))


def test_a_short_text_is_called_no_archive(dest: Path) -> None:
    with pytest.raises(InvalidInput, match="ends within its first header") as caught:
        unpack(dest, b'{"not": "a tar archive"}')
    assert caught.value.hint == "it is not a tar archive"


def test_every_truncation_is_refused_or_a_whole_prefix(dest: Path) -> None:
    whole = tar.archive(
        tar.file(b"one", b"1" * 700), tar.pax(tar.record(b"path", b"two")) + tar.file(b"x", b"2")
    )
    refused = 0
    for cut in range(0, len(whole) - 1024, 100):
        try:
            unpack(dest, whole[:cut], existing="replace")
        except InvalidInput:
            refused += 1
        else:
            assert cut % 512 == 0, "only at a block boundary can an end be honest"
    assert refused > 20


def test_into_a_container_symlinked_parents_stay_inside(dest: Path) -> None:
    (dest / "real").mkdir()
    (dest / "inside").symlink_to("/real")
    (dest / "escape").symlink_to("../../outside")
    data = tar.archive(tar.file(b"inside/f", b"1"))
    unpack(dest, data, existing="replace", follow_parents=True)
    assert (dest / "real" / "f").read_bytes() == b"1"
    with pytest.raises(RootlessError):
        unpack(
            dest,
            tar.archive(tar.file(b"escape/secret", b"x")),
            existing="replace",
            follow_parents=True,
        )


def test_into_a_container_absolute_names_are_relative_to_the_destination(dest: Path) -> None:
    data = tar.archive(tar.directory(b"/"), tar.file(b"/run/secrets/s", b"1"), tar.file(b"//t"))
    unpack(dest, data, existing="replace", follow_parents=True)
    assert (dest / "run/secrets/s").read_bytes() == b"1"
    assert (dest / "t").exists()
    climbing = tar.archive(tar.file(b"/../outside/secret", b"x"))
    with pytest.raises(InvalidInput, match=r"contains '\.\.'"):
        unpack(dest, climbing, existing="replace", follow_parents=True)


def test_into_a_container_replacing_never_follows(dest: Path, outside: Path) -> None:
    (dest / "l").symlink_to(outside / "secret")
    (dest / "d").symlink_to(outside)
    (dest / "tree" / "deep").mkdir(parents=True)
    (dest / "tree" / "deep" / "link").symlink_to(outside)
    data = tar.archive(
        tar.file(b"l", b"file"), tar.directory(b"d"), tar.file(b"d/f", b"2"), tar.file(b"tree")
    )
    unpack(dest, data, existing="replace")
    assert (dest / "l").read_bytes() == b"file"
    assert not (dest / "l").is_symlink()
    assert (dest / "d" / "f").read_bytes() == b"2"
    assert (dest / "tree").is_file()


def test_keep_type_refuses_directory_over_file_and_back(dest: Path) -> None:
    (dest / "d").mkdir()
    (dest / "f").write_bytes(b"")
    with pytest.raises(InvalidInput, match="cannot overwrite directory with non-directory"):
        unpack(dest, tar.archive(tar.file(b"d")), existing="keep-type")
    with pytest.raises(InvalidInput, match="cannot overwrite non-directory with directory"):
        unpack(dest, tar.archive(tar.directory(b"f")), existing="keep-type")


def test_a_fifo_in_the_way_does_not_block(dest: Path) -> None:
    os.mkfifo(dest / "f")
    unpack(dest, tar.archive(tar.file(b"f", b"x")), existing="replace")
    assert (dest / "f").read_bytes() == b"x"


def test_attributes_pass_an_allow_list(dest: Path) -> None:
    records = b"".join(
        tar.record(b"SCHILY.xattr." + key, b"v")
        for key in (
            b"user.kept",
            b"user.overlay.opaque",
            b"user.overlay.redirect",
            b"user.overlay.whiteout",
            b"user.fuseoverlayfs.opaque",
            b"user.containers.override_stat",
            b"trusted.overlay.opaque",
            b"security.selinux",
            b"security.capability",
            b"system.posix_acl_access",
        )
    )
    done = unpack(dest, tar.archive(tar.pax(records) + tar.file(b"f", b"")))
    assert os.listxattr(dest / "f") == ["user.kept"]
    assert len(done.dropped_xattrs) == 9
    assert "f: user.overlay.opaque" in done.dropped_xattrs


def _made(name: str, data: bytes, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as made:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        info.uid = 0o10000000
        made.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_long_name_cut_at_a_slash_is_still_a_file(dest: Path) -> None:
    name = b"x" * 99 + b"/file"  # the ustar field holds 100 bytes and ends with the slash
    unpack(dest, tar.archive(tar.file(name, b"content"), tar.file(b"after", b"2")))
    assert (dest / os.fsdecode(name)).read_bytes() == b"content"
    assert (dest / "after").read_bytes() == b"2"


def test_directories_of_version_7(dest: Path) -> None:
    unpack(dest, tar.archive(tar.special(b"d/", b"\0", mode=0o755), tar.special(b"f", b"\0")))
    assert (dest / "d").is_dir()
    assert (dest / "f").is_file()


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_ids_of_other_writers(dest: Path, form: int) -> None:
    name = "d" * 150 + "/" + "f" * 150
    done = unpack(dest, _made(name, b"content", form))
    assert (dest / name).read_bytes() == b"content"
    assert done.max_id == max(os.getuid(), os.getgid())
