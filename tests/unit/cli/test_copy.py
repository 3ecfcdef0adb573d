"""cp's local side: nothing leaves the destination, and links are sent, not followed."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.cli.commands.cp import place, split_operand
from rootless.cli.totar import archive
from rootless.cli.untar import Placement, extract
from rootless.errors import InvalidInput, NotFound, RootlessError


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def packed(*entries: tuple[tarfile.TarInfo, bytes]) -> Iterator[bytes]:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    whole = out.getvalue()
    return iter([whole[i : i + 1000] for i in range(0, len(whole), 1000)])


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The destination; beside it is a file that must stay as it is."""
    (tmp_path / "secret").write_text("untouched")
    inside = tmp_path / "target"
    inside.mkdir()
    return inside


def test_a_tree(target: Path) -> None:
    chunks = packed(
        directory("d", 0o500),
        entry("d/f", b"x" * 5000, mode=0o4755, mtime=1000),
        link("d/l", "../../outside"),
        hard("d/h", "d/f"),
        entry("d/null", type=tarfile.CHRTYPE),
    )
    extract(chunks, Placement(str(target), ""), owners=False)
    file = target / "d" / "f"
    assert file.read_bytes() == b"x" * 5000
    assert stat.S_IMODE(file.stat().st_mode) == 0o755  # no set-user-id
    assert file.stat().st_mtime == 1000
    assert os.readlink(target / "d" / "l") == "../../outside"
    assert (target / "d" / "h").stat().st_ino == file.stat().st_ino
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o500
    assert not (target / "d" / "null").exists()
    (target / "d").chmod(0o700)


def test_the_top_is_renamed(target: Path) -> None:
    extract(packed(entry("f", b"1")), Placement(str(target), "new"), owners=False)
    chunks = packed(directory("d"), entry("d/f", b"2"))
    extract(chunks, Placement(str(target), "e"), owners=False)
    chunks = packed(directory("d"), entry("d/g", b"3"))
    extract(chunks, Placement(str(target), "", contents=True), owners=False)
    found = {str(p.relative_to(target)) for p in target.rglob("*")}
    assert found == {"new", "e", "e/f", "g"}


@pytest.mark.parametrize("name", ["", "new"])
def test_contents_of_a_directory_that_is_called_dot(target: Path, name: str) -> None:
    """The engine's archive of ``DIR/.``."""
    chunks = packed(directory("./"), directory("./d"), entry("./d/f", b"1"), hard("./h", "./d/f"))
    extract(chunks, Placement(str(target), name, contents=True), owners=False)
    found = {str(p.relative_to(target / name)) for p in (target / name).rglob("*")}
    assert found == {"d", "d/f", "h"}


def test_a_directory_does_not_become_a_file_that_is_there(target: Path) -> None:
    (target / "f").write_text("kept")
    with pytest.raises(InvalidInput, match="cannot copy a directory to the file f"):
        extract(packed(directory("d")), Placement(str(target), "f"), owners=False)
    assert (target / "f").read_text() == "kept"


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../secret", b"!")],
        [entry("/secret", b"!")],
        [entry("a/../../secret", b"!")],
        [link("up", ".."), entry("up/secret", b"!")],
        [link("up", "/"), directory("up")],
        [link("a", ".."), hard("b", "a/secret"), entry("b", b"!")],
        [hard("b", "../secret"), entry("b", b"!")],
        [entry("f", b"x"), entry("f/secret", b"!")],
        [directory("d"), entry("d", b"!")],
    ],
)
def test_ways_out_are_refused(target: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(RootlessError):
        extract(packed(*entries), Placement(str(target), ""), owners=False)
    assert (target.parent / "secret").read_text() == "untouched"
    assert sorted(p.name for p in target.parent.iterdir()) == ["secret", "target"]


def test_directories_have_no_special_bits(target: Path) -> None:
    extract(packed(directory("d", 0o7777)), Placement(str(target), ""), owners=False)
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o777


def test_what_was_not_asked_for_is_refused(target: Path) -> None:
    asked = Placement(str(target), "", asked="d")
    extract(packed(directory("d"), entry("d/f", b"1")), asked, owners=False)
    (target / "other").write_text("mine")
    for chunks in (
        packed(entry(".bashrc", b"evil")),
        packed(entry("./x/d", b"")),
        packed(hard("d/l", "other")),
    ):
        with pytest.raises(InvalidInput, match="was asked for"):
            extract(chunks, asked, owners=False)
    assert sorted(p.name for p in target.iterdir()) == ["d", "other"]


def test_a_link_in_the_way_is_replaced_not_followed(target: Path) -> None:
    (target / "f").symlink_to("../secret")
    extract(packed(entry("f", b"new")), Placement(str(target), ""), owners=False)
    assert (target.parent / "secret").read_text() == "untouched"
    assert not (target / "f").is_symlink()


def test_a_directory_that_is_a_link_is_not_entered(target: Path) -> None:
    """What a race would put there: the entry's directory is a link to elsewhere."""
    (target / "d").symlink_to("..")
    chunks = packed(directory("d"), entry("d/secret", b"!"))
    with pytest.raises(InvalidInput, match="refusing to write through 'd'"):
        extract(chunks, Placement(str(target), ""), owners=False)
    assert (target.parent / "secret").read_text() == "untouched"


def test_a_damaged_archive(target: Path) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        extract(iter([b"not a tar" * 200]), Placement(str(target), ""), owners=False)


def test_round_trip(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "f").write_bytes(os.urandom(700_001))
    os.link(source / "f", source / "sub" / "same")
    (source / "out").symlink_to("/etc/passwd")
    (source / "empty").touch()
    os.mkfifo(source / "fifo")
    extract(
        archive(str(source), "copy", follow=False, owners=False),
        Placement(str(target), ""),
        owners=False,
    )
    copy = target / "copy"
    assert (copy / "f").read_bytes() == (source / "f").read_bytes()
    assert (copy / "f").stat().st_ino == (copy / "sub" / "same").stat().st_ino
    assert os.readlink(copy / "out") == "/etc/passwd"
    assert (copy / "empty").stat().st_size == 0
    assert stat.S_ISFIFO((copy / "fifo").stat().st_mode)


def test_links_are_followed_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to(tmp_path / "f")
    (tmp_path / "f").write_text("x")

    def kinds(*, follow: bool) -> list[bytes]:
        data = b"".join(archive(str(tmp_path / "l"), "n", follow=follow, owners=False))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            return [member.type for member in tar]

    assert kinds(follow=False) == [tarfile.SYMTYPE]
    assert kinds(follow=True) == [tarfile.REGTYPE]


def test_a_file_that_shrinks_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * 1_000_000)
    chunks = archive(str(file), "f", follow=False, owners=False)
    next(chunks)
    next(chunks)
    os.truncate(file, 10)
    with pytest.raises(RootlessError, match="became shorter"):
        list(chunks)


def test_operands() -> None:
    assert split_operand("web:/a:b") == ("web", "/a:b")
    assert split_operand("./a:b") == ("", "./a:b")
    assert split_operand("/a:b") == ("", "/a:b")
    assert split_operand("-") == ("", "-")
    assert split_operand("web:") == ("web", "/")


def test_places(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert place(str(tmp_path / "d")) == (str(tmp_path / "d"), "")
    assert place(str(tmp_path / "new")) == (str(tmp_path), "new")
    for wrong in ("no/new", "new/"):
        with pytest.raises(NotFound):
            place(f"{tmp_path}/{wrong}")
