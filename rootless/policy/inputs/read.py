"""Documents of an input with the place of every value, read within bounds.

YAML is built from libyaml's events and not by its composer: the depth is ours
to bound, aliases are followed within a budget, and plain scalars mean what
Go's YAML reads in them (``22:22`` is a string), for Go programs are what these
files are written for. JSON is read by Python's decoder; places in it are
looked up only when somebody asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rootless.policy.inputs.jsonplaces import place_in_json

MAX_BYTES = 32 << 20
MAX_DOCUMENTS = 10_000
MAX_CONTAINERS = 5_000
"""Of one pod or compose file."""
_MAX_DEPTH = 100
_MAX_NODES = 1_000_000
"""Values of one input, those behind aliases counted each time."""

_SHOWN = 200

Path = tuple[str | int, ...]
Place = tuple[int, int]

_TAG = "tag:yaml.org,2002:"
_CORE = {
    f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "binary")
}
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*")
_OCTAL = re.compile(r"[-+]?0o?[0-7][0-7_]*")
_BASED = re.compile(r"[-+]?0(x[0-9a-fA-F_]+|b[01_]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class NotUnderstood(Exception):
    """An input, or a part of it, cannot be judged: where (in it) and why."""

    def __init__(self, message: str, *, place: Place | None = None, path: Path | None = None):
        super().__init__(message)
        self.message = message
        self.place = place
        self.path = path


def shortened(text: str) -> str:
    """A text of the input for a message: its beginning, when it is long."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(frozen=True, slots=True)
class _Node:
    """``children``: of a mapping (key, place of key, node), of a sequence (index, place, node)."""

    place: Place
    value: Any
    children: tuple[tuple[str | int, Place, _Node], ...] = ()


@dataclass(frozen=True, slots=True)
class InputDocument:
    """One document: its plain value, and where things are in the file."""

    index: int
    value: Any
    node: _Node | None = None
    text: str = ""
    offset: int = 0
    """Of a JSON document in ``text``."""
    file: str = ""
    """The file it is from, where that is not the input itself (``include`` of compose)."""
    tagged: bool = False
    """Whether compose's ``!reset`` or ``!override`` is in it."""

    def place(self, path: Path) -> Place:
        """Line and column, from 1, of the key or item at ``path``, or of what is nearest."""
        if self.node is None:
            return place_in_json(self.text, self.offset, path)
        node, found = self.node, self.node.place
        for step in path:
            for key, place, child in node.children:
                if key == step:
                    node, found = child, place
                    break
            else:
                break
        return found


def scalar(text: str) -> Any:
    """What a plain scalar means to Go's YAML."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    first = text[0]
    if not (first.isdigit() or first in "-+."):
        return text
    if _OCTAL.fullmatch(text) and len(text) < 40:
        return int(text.replace("_", "").replace("o", ""), 8)
    if _NUMBER.fullmatch(text) and len(text) < 40:
        return int(text.replace("_", ""))
    if _BASED.fullmatch(text) and len(text) < 70:
        return int(text.replace("_", ""), 0)
    if _FLOAT.fullmatch(text) and len(text) < 400:
        return float(text)
    return text


class _Reader:
    def __init__(self, text: str) -> None:
        import yaml

        self.yaml = yaml
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=loader))
        self.anchors: dict[str, _Node] = {}
        self.nodes = 0
        self.tagged = False

    def documents(self) -> Iterator[_Node | None]:
        yaml = self.yaml
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
                yield self.node(next(self.events), 0)

    def node(self, event: Any, depth: int) -> _Node:
        yaml = self.yaml
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1)
        self.nodes += 1
        if self.nodes > _MAX_NODES or depth > _MAX_DEPTH:
            problem = "is nested too deeply" if depth > _MAX_DEPTH else "has too many values"
            raise NotUnderstood(f"the input {problem}", place=place)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event.anchor, place)
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(place, self._value(event, place))
        else:
            sequence = isinstance(event, yaml.SequenceStartEvent)
            node = self._sequence(place, depth) if sequence else self._mapping(place, depth)
            node = self._collection(event.tag, node)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _collection(self, tag: str | None, node: _Node) -> _Node:
        if tag in ("!reset", "!override"):
            self.tagged = True
            return _Node(node.place, None) if tag == "!reset" else node
        if tag not in (None, "!", f"{_TAG}map", f"{_TAG}seq"):
            raise NotUnderstood(f"tag {tag} is not understood", place=node.place)
        return node

    def _alias(self, anchor: str, place: Place) -> _Node:
        known = self.anchors.get(anchor)
        if known is None:
            raise NotUnderstood(f"alias *{anchor} has no anchor before it", place=place)
        self.nodes += _count(known, _MAX_NODES - self.nodes)
        if self.nodes > _MAX_NODES:
            raise NotUnderstood("the aliases expand to too many values", place=place)
        return known

    def _value(self, event: Any, place: Place) -> Any:
        tag = event.tag
        if tag in ("!reset", "!override"):
            self.tagged = True
            return None if tag == "!reset" else scalar(event.value)
        if tag in (None, "!"):
            return scalar(event.value) if event.implicit[0] else event.value
        if tag not in _CORE:
            raise NotUnderstood(f"tag {tag} is not understood", place=place)
        return event.value if tag.endswith(("str", "binary")) else scalar(event.value)

    def _sequence(self, place: Place, depth: int) -> _Node:
        items: list[tuple[str | int, Place, _Node]] = []
        for event in self.events:
            if isinstance(event, self.yaml.SequenceEndEvent):
                break
            mark = event.start_mark
            child = self.node(event, depth + 1)
            items.append((len(items), (mark.line + 1, mark.column + 1), child))
        return _Node(place, [item[2].value for item in items], tuple(items))

    def _mapping(self, place: Place, depth: int) -> _Node:
        entries: dict[str, tuple[str, Place, _Node]] = {}
        merges: list[_Node] = []
        for event in self.events:
            if isinstance(event, self.yaml.MappingEndEvent):
                break
            key_node = self.node(event, depth + 1)
            value = self.node(next(self.events), depth + 1)
            key = key_node.value
            if isinstance(key, list | dict):
                raise NotUnderstood("a key must be a scalar", place=key_node.place)
            if key == "<<":
                merges.append(value)
                continue
            name = _key_text(key)
            if name in entries:
                raise NotUnderstood(f"key {name!r} appears twice", place=key_node.place)
            entries[name] = (name, key_node.place, value)
        for merge in merges:
            for source in _merged(merge):
                for key, where, child in source.children:
                    entries.setdefault(str(key), (str(key), where, child))
        return _Node(
            place, {name: e[2].value for name, e in entries.items()}, tuple(entries.values())
        )


def _key_text(key: object) -> str:
    if key is None:
        return "null"
    return str(key).lower() if isinstance(key, bool) else str(key)


def _merged(node: _Node) -> list[_Node]:
    sources = [child for _, _, child in node.children] if isinstance(node.value, list) else [node]
    for source in sources:
        if not isinstance(source.value, dict):
            raise NotUnderstood("<< needs a mapping", place=source.place)
    return sources


def _count(node: _Node, budget: int) -> int:
    """Values below ``node``, counted up to ``budget``."""
    total, pending = 0, [node]
    while pending and total <= budget:
        total += 1
        pending += [child for _, _, child in pending.pop().children]
    return total


def read_yaml(text: str) -> list[InputDocument]:
    """Every document of a YAML text; empty ones are left out but counted."""
    import yaml

    documents = []
    try:
        reader = _Reader(text)
        for index, node in enumerate(reader.documents()):
            if index >= MAX_DOCUMENTS:
                raise NotUnderstood(f"more than {MAX_DOCUMENTS} documents", place=(1, 1))
            if node is not None and node.value is not None:
                documents.append(InputDocument(index, node.value, node, tagged=reader.tagged))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = text.splitlines() or [""]
        if place[0] > len(lines):  # the end of a file whose last line is not ended
            place = (len(lines), len(lines[-1]) + 1)
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise NotUnderstood(f"not YAML: {problem}", place=place) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise NotUnderstood(f"not YAML: {problem}", place=(1, 1)) from error
    return documents


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # None is the point
        raise ValueError(f"key {twice!r} appears twice in one object")
    return result


def read_json(text: str) -> list[InputDocument]:
    """Every JSON value of a text, one after the other."""
    decoder = json.JSONDecoder(object_pairs_hook=_unique)
    documents: list[InputDocument] = []
    offset = 0
    space = re.compile(r"[ \t\r\n]*")
    while (offset := space.match(text, offset).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing at all, too
        if len(documents) >= MAX_DOCUMENTS:
            raise NotUnderstood(f"more than {MAX_DOCUMENTS} documents", place=(1, 1))
        try:
            value, end = decoder.raw_decode(text, offset)
        except json.JSONDecodeError as error:
            raise NotUnderstood(
                f"not JSON: {error.msg}", place=(error.lineno, error.colno)
            ) from error
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, offset) + 1
            raise NotUnderstood(f"not JSON: {error}", place=(line, 1)) from error
        _bound(value)
        documents.append(InputDocument(len(documents), value, text=text, offset=offset))
        offset = end
    return documents


def _bound(value: Any) -> None:
    pending, count = [(value, 0)], 0
    while pending:
        found, depth = pending.pop()
        count += 1
        if depth > _MAX_DEPTH or count > _MAX_NODES:
            raise NotUnderstood(
                "the input is nested too deeply or has too many values", place=(1, 1)
            )
        if isinstance(found, dict):
            pending += [(child, depth + 1) for child in found.values()]
        elif isinstance(found, list):
            pending += [(child, depth + 1) for child in found]


def read_documents(data: bytes) -> list[InputDocument]:
    """The documents of an input, JSON or YAML; raises NotUnderstood, also when there is none."""
    if len(data) > MAX_BYTES:
        raise NotUnderstood(f"the input has more than {MAX_BYTES} bytes", place=(1, 1))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NotUnderstood(f"not UTF-8 at byte {error.start}", place=(line, 1)) from error
    if "\0" in text:
        raise NotUnderstood("a binary file", place=(1, 1))
    start = text.lstrip()
    documents = []
    if start[:1] in ("{", "["):
        try:
            documents = read_json(text)
        except NotUnderstood as problem:
            # Flow YAML begins like JSON; when it is neither, what JSON says counts.
            try:
                documents = read_yaml(text)
            except NotUnderstood:
                raise problem from None
    elif start:
        documents = read_yaml(text)
    if not documents:
        raise NotUnderstood("there is nothing in the input", place=(1, 1))
    return documents
