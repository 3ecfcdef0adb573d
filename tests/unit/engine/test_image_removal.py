"""Names of images: what each removal looks at."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rootless.engine.image_index import ImageIndex
from rootless.engine.image_removal import ImageRemoval
from rootless.engine.registry import Registry
from rootless.engine.state import State
from rootless.engine.transfers import Transfers
from rootless.images import reference as references
from rootless.images.content import ContentStore
from rootless.storage.layers import LayerStore
from tests.support.imagebuild import make_image
from tests.support.tarmaker import archive, file

MANY = 500


def _index(root: Path) -> ImageIndex:
    store = ContentStore(root / "content")
    index = ImageIndex(State(root / "state.db"), store, LayerStore(root / "layers"))
    image = make_image(store, [archive(file(b"f", b"x"))])
    index.put(image, [references.parse(f"many:t{number}") for number in range(MANY)])
    return index


def _removal(index: ImageIndex) -> ImageRemoval:
    events = SimpleNamespace(event=lambda *_: None)
    nothing = cast(Registry, [])
    return ImageRemoval(index, nothing, cast(Transfers, events))


def test_a_name_among_many_costs_what_one_alone_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _index(tmp_path)
    parsed: list[str] = []

    def counted(text: str, *, real: Any = references.parse) -> Any:
        parsed.append(text)
        return real(text)

    monkeypatch.setattr(references, "parse", counted)
    removal = _removal(index)
    removal.remove("many:t7", force=False, prune_parents=True)
    assert len(parsed) < 10
    (entry,) = index
    assert len(entry.names) == MANY - 1


def test_all_names_go_in_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = _index(tmp_path)
    (entry,) = index
    written: list[object] = []

    def counted(self: State, *statements: Any, real: Any = State._write) -> None:
        written.append(statements)
        real(self, *statements)

    monkeypatch.setattr(State, "_write", counted)
    lines = _removal(index).remove(entry.image.id, force=True, prune_parents=True)
    assert [line.untagged for line in lines[:-1]] == sorted(f"many:t{n}" for n in range(MANY))
    assert lines[-1].deleted == entry.image.id
    assert len(written) == 2
    assert list(index) == []
