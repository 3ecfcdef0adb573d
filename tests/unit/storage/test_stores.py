"""The layer store and the volume store on plain directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import Conflict, HostUnsupported, InvalidInput, NotFound, RootlessError
from rootless.model.mounts import IdMap
from rootless.storage import localdriver
from rootless.storage.layers import LayerMeta, LayerStore
from rootless.storage.volumes import ANONYMOUS_LABEL, VolumeStore

DIFF = "sha256:" + "ab" * 32
META = LayerMeta(DIFF, 12, 3, 34)


def _make(path: str) -> None:
    Path(path).mkdir()


def _unpacked(store: LayerStore) -> Path:
    made = store.begin(DIFF)
    (made / "fs").mkdir()
    return made


def test_layer_appears_when_committed(tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers")
    made = _unpacked(store)
    assert store.lookup(DIFF) is None
    assert list(store.all()) == []
    assert store.leftovers() == [made]
    layer = store.commit(made, META)
    assert layer.meta == META
    assert Path(layer.fs).is_dir()
    assert store.leftovers() == []
    assert store.size() == 12
    assert [found.meta for found in LayerStore(tmp_path / "layers").all()] == [META]


def test_second_unpack_of_a_layer_is_dropped(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    one, two = _unpacked(store), _unpacked(store)
    (two / "fs" / "x").touch()
    assert store.commit(one, META) == store.commit(two, META)
    assert store.leftovers() == [two]
    assert not Path(store.get(DIFF).fs, "x").exists()


def test_layer_removal_is_one_rename(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    store.commit(_unpacked(store), META)
    away = store.remove(DIFF)
    assert away is not None
    assert store.lookup(DIFF) is None
    assert store.leftovers() == [away]
    assert store.remove(DIFF) is None
    with pytest.raises(NotFound, match="pull"):
        store.get(DIFF)


def test_layer_names_are_digests_only(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    for bad in ("", "sha256:", "../x", "sha256:../../x", "sha512:" + "a" * 64):
        with pytest.raises(InvalidInput):
            store.lookup(bad)


def test_damaged_layer_is_said_so(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    layer = store.commit(_unpacked(store), META)
    (Path(layer.fs).parent / "meta.json").write_text("{")
    with pytest.raises(RootlessError, match="damaged"):
        store.lookup(DIFF)
    (Path(layer.fs).parent / "meta.json").unlink()
    assert store.leftovers() == [Path(layer.fs).parent]


def test_volume_life(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    made = store.create("db", _make, labels={"a": "b"})
    assert store.get("db") == made
    assert Path(store.data("db")).is_dir()
    assert store.create("db", _make) == made
    assert list(VolumeStore(tmp_path).all()) == [made]
    away = store.remove("db")
    assert store.leftovers() == [away]
    assert list(store.all()) == []
    with pytest.raises(NotFound, match="no such volume: db"):
        store.remove("db")


def test_interrupted_volume_is_a_leftover(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)

    def killed(path: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.create("db", killed)
    assert store.lookup("db") is None
    assert len(store.leftovers()) == 1
    assert store.create("db", _make).name == "db"


def test_no_volume_name_is_taken_for_a_leftover(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    for name in ("tmp-x", "tmp-removed-x", "t.mp"):
        store.create(name, _make)
    assert store.leftovers() == []
    with pytest.raises(InvalidInput):
        store.create(".tmp-x", _make)


def test_prune_takes_what_nobody_named_or_uses(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    named = store.create("named", _make)
    one, two = store.create("", _make), store.create("", _make)
    assert dict(one.labels) == {ANONYMOUS_LABEL: ""}
    assert store.prune_candidates({one.name}) == [two]
    assert set(store.prune_candidates({one.name}, every=True)) == {two, named}


def test_volume_options_must_agree(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    store.create("vol", _make, options=options)
    assert store.create("vol", _make, options=options).options == tuple(sorted(options.items()))
    with pytest.raises(Conflict, match="other options"):
        store.create("vol", _make, options={**options, "o": "size=2m"})
    with pytest.raises(NotFound, match="nfsplugin"):
        store.create("wol", _make, driver="nfsplugin")


def test_content_is_handed_from_range_to_range(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    store.create("vol", _make)
    one, two = (IdMap(0, 70000, 1024),), (IdMap(0, 80000, 1024),)
    calls: list[tuple[object, ...]] = []

    def shift(path: str, before: object, after: object) -> None:
        calls.append((path, before, after))

    def killed(path: str, before: object, after: object) -> None:
        raise KeyboardInterrupt

    path = store.data("vol")
    store.hand_over("vol", (), shift)
    assert calls == []
    store.hand_over("vol", one, shift)
    assert store.get("vol").id_maps == one
    with pytest.raises(KeyboardInterrupt):
        store.hand_over("vol", two, killed)
    # Files may be in either range now: first finish that, then go on.
    VolumeStore(tmp_path).hand_over("vol", (), shift)
    assert calls == [(path, (), one), (path, one, two), (path, (), two), (path, two, ())]
    assert store.get("vol").id_maps == ()
    assert store.get("vol").moving_to is None


def test_damaged_volume_is_said_so(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path)
    store.create("vol", _make)
    (tmp_path / "vol" / "meta.json").write_text(json.dumps({"name": "vol"}))
    with pytest.raises(RootlessError, match="damaged"):
        list(store.all())


def test_tmpfs_volume() -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=64m,mode=1777,noexec,nosuid"}
    mount = localdriver.to_mount(options, target="/t", name="v")
    assert mount is not None
    assert (mount.type, mount.size, mount.mode, mount.noexec) == ("tmpfs", 64 << 20, 0o1777, True)


def test_bind_volume() -> None:
    options = {"type": "none", "device": "/srv", "o": "bind,ro"}
    mount = localdriver.to_mount(options, target="/t", name="v")
    assert mount is not None
    assert (mount.type, mount.source, mount.read_only, mount.recursive) == (
        "bind", "/srv", True, False,
    )  # fmt: skip
    assert localdriver.to_mount({}, target="/t", name="v") is None


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": "1"}, InvalidInput),
        ({"type": "nfs", "device": ":/x", "o": "addr=1.2.3.4"}, HostUnsupported),
        ({"type": "ext4", "device": "/dev/sda"}, HostUnsupported),
        ({"device": "/x"}, InvalidInput),
        ({"type": "tmpfs"}, InvalidInput),
        ({"o": "size=1m"}, InvalidInput),
        ({"type": "none", "device": "/x"}, HostUnsupported),
        ({"type": "none", "o": "bind", "device": "relative"}, InvalidInput),
        ({"type": "none", "o": "bind,uid=0", "device": "/x"}, InvalidInput),
        ({"type": "tmpfs", "device": "tmpfs", "o": "mode=9"}, InvalidInput),
        ({"type": "tmpfs", "device": "tmpfs", "o": "evil=1"}, InvalidInput),
        ({"type": "tmpfs", "device": "tmpfs", "o": "size=x"}, InvalidInput),
        ({"type": "tmpfs", "device": "tmpfs", "o": "uid=-1"}, InvalidInput),
    ],
)
def test_options_that_cannot_be_served(options: dict[str, str], error: type[RootlessError]) -> None:
    with pytest.raises(error):
        localdriver.check(options)


@given(
    st.dictionaries(st.sampled_from(("type", "device", "o", "x")), st.text(max_size=20), max_size=4)
)
def test_any_options_are_served_or_refused_in_words(options: dict[str, str]) -> None:
    try:
        mount = localdriver.to_mount(options, target="/t", name="vol")
    except RootlessError:
        return
    assert (mount is None) == (not options)
    assert mount is None or mount.type in ("bind", "tmpfs")
