"""Labels taken apart, and written to trees by descriptors; the kernel's part is in tests/vm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Denied, HostUnsupported
from rootless.linux import selinux
from rootless.runtime.steps.relabel import refuse_system

OWN = "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"


def test_labels_are_taken_apart() -> None:
    assert selinux.level_of(OWN) == "s0-s0:c0.c1023"
    assert selinux.type_of(OWN) == "unconfined_t"
    assert selinux.level_of("user_u:user_r:user_t") == ""
    assert selinux.type_of("") == ""


def test_a_process_without_a_label_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "current"
    monkeypatch.setattr(selinux, "_CURRENT", str(file))
    with pytest.raises(HostUnsupported, match="gives processes no SELinux labels"):
        selinux.own_label()
    file.write_text("unconfined\n")  # AppArmor's
    with pytest.raises(HostUnsupported, match="gives processes no SELinux labels"):
        selinux.own_label()
    file.write_text(f"{OWN}\0")
    assert selinux.own_label() == OWN


def test_a_tree_is_labelled_and_nothing_outside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an attribute that any user may write, as this host may not know labels."""
    monkeypatch.setattr(selinux, "ATTRIBUTE", "user.label")
    outside = tmp_path / "outside"
    outside.write_text("")
    inner = tmp_path / "tree/a/b"
    inner.mkdir(parents=True)
    (inner / "file").write_text("")
    (tmp_path / "tree/z").write_text("")
    fd = os.open(tmp_path / "tree", os.O_PATH)
    opened = len(os.listdir("/proc/self/fd"))
    try:
        selinux.label_tree(fd, "u:r:t:s0", "tree")
        assert selinux.file_label(fd) == "u:r:t:s0"
    finally:
        os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == opened - 1
    for path in (tmp_path / "tree").rglob("*"):
        assert os.getxattr(path, "user.label") == b"u:r:t:s0\0", path
    assert os.listxattr(outside) == []


def test_where_no_label_can_be_kept_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selinux, "ATTRIBUTE", "user.label")
    fd = os.open("/proc/self/comm", os.O_PATH)
    try:
        with pytest.raises(HostUnsupported, match="its file system keeps no labels"):
            selinux.label_file(fd, "u:r:t:s0", "/proc/self/comm")
    finally:
        os.close(fd)


@pytest.mark.parametrize("place", ["/", "/usr", "/usr/bin", "/etc/ssl", "/home", "/tmp", "~"])
def test_system_directories_and_homes_are_refused(place: str) -> None:
    path = os.path.expanduser(place)
    fd = os.open(path, os.O_PATH)
    try:
        with pytest.raises(Denied, match="relabeling of"):
            refuse_system(fd, path)
    finally:
        os.close(fd)


def test_a_symlink_to_one_is_refused_and_a_directory_of_ones_own_is_not(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    for path, denied in ((tmp_path / "link", True), (tmp_path, False)):
        fd = os.open(path, os.O_PATH)
        try:
            if denied:
                with pytest.raises(Denied):
                    refuse_system(fd, str(path))
            else:
                refuse_system(fd, str(path))
        finally:
            os.close(fd)
