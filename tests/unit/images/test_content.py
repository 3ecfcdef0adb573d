"""The content store: whole blobs or none, resumable downloads, collection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import InvalidInput, NotFound
from rootless.images.content import ContentStore, digest_of

DATA = b"some content" * 100
DIGEST = digest_of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "content")


def _write(
    store: ContentStore, digest: str, size: int, data: bytes, *, commit: bool = False
) -> None:
    """Write ``data`` as an ingest of ``digest``; without ``commit`` the line is cut then."""
    with store.ingest(digest, size) as writer:
        writer.write(data)
        if not commit:
            raise ConnectionError("the line is cut")
        writer.commit()


def _tmp(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "content" / "tmp"))


def test_put_and_read(store: ContentStore, tmp_path: Path) -> None:
    assert store.put(DATA) == DIGEST
    assert store.put(DATA) == DIGEST
    assert store.read(DIGEST, 10_000) == DATA
    assert store.size(DIGEST) == len(DATA)
    assert list(store.digests()) == [DIGEST]
    assert store.disk_usage() == len(DATA)
    assert _tmp(tmp_path) == []
    with pytest.raises(InvalidInput, match="larger than 5 bytes"):
        store.read(DIGEST, 5)
    with store.open(DIGEST) as file:
        assert file.read(4) == b"some"


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:../../x", "sha512:" + "a" * 64, "x" * 64]
)
def test_what_is_no_digest_never_becomes_a_path(store: ContentStore, digest: str) -> None:
    for call in (store.path, store.has, store.size, store.open, store.remove):
        with pytest.raises(InvalidInput, match="unsupported digest"):
            call(digest)


def test_missing_blob(store: ContentStore) -> None:
    with pytest.raises(NotFound, match=DIGEST):
        store.size(DIGEST)
    with pytest.raises(NotFound, match=DIGEST):
        store.open(DIGEST)


def test_an_interrupted_download_goes_on(store: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        _write(store, DIGEST, len(DATA), DATA[:500])
    assert not store.has(DIGEST)
    assert len(_tmp(tmp_path)) == 1
    with store.ingest(DIGEST, len(DATA)) as writer:
        assert writer.offset == 500
        writer.write(DATA[500:])
        assert not store.has(DIGEST), "visible only when whole"
        writer.commit()
    assert store.read(DIGEST, 10_000) == DATA
    assert _tmp(tmp_path) == []


def test_wrong_digest_and_size_leave_nothing(store: ContentStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="its content has digest"):
        _write(store, DIGEST, 4, b"evil", commit=True)
    with pytest.raises(InvalidInput, match="larger than the announced 4 bytes"):
        _write(store, DIGEST, 4, b"evil!", commit=True)
    with pytest.raises(InvalidInput, match="3 bytes came, 4 were announced"):
        _write(store, "", 4, b"abc", commit=True)
    assert _tmp(tmp_path) == []
    assert list(store.digests()) == []


def test_two_writers_of_one_blob(store: ContentStore, tmp_path: Path) -> None:
    with store.ingest(DIGEST, len(DATA)) as one, store.ingest(DIGEST, len(DATA)) as two:
        one.write(DATA[:10])
        two.write(DATA)
        two.commit()
        one.write(DATA[10:])
        one.commit()
    assert store.read(DIGEST, 10_000) == DATA
    assert _tmp(tmp_path) == []


def test_collection_keeps_what_is_named(store: ContentStore, tmp_path: Path) -> None:
    kept, gone = store.put(b"kept"), store.put(b"gone!")
    with pytest.raises(ConnectionError):
        _write(store, DIGEST, len(DATA), DATA[:7])
    done = store.collect({kept})
    assert (done.digests, done.bytes) == ((gone,), 5)
    assert len(_tmp(tmp_path)) == 1
    with store.ingest(digest_of(b"busy"), 4) as busy, store.stage() as staging:
        busy.write(b"b")
        live = staging.add([b"staged"])
        abandoned = tmp_path / "content" / "tmp" / "stage-dead"
        abandoned.mkdir()
        (abandoned / "1").write_bytes(b"xy")
        assert store.collect({kept}, partial=True).bytes == 7 + 2
        assert live.path.exists(), "what somebody is writing stays"
        busy.write(b"usy")
        busy.commit()
    assert store.has(digest_of(b"busy"))
    assert _tmp(tmp_path) == []


def test_staging_publishes_only_what_is_asked(store: ContentStore, tmp_path: Path) -> None:
    with store.stage() as staging:
        one, two = staging.add([b"o", b"ne"]), staging.add([b"two"])
        staging.publish(one)
        assert not store.has(two.digest)
    assert list(store.digests()) == [one.digest]
    assert _tmp(tmp_path) == []
