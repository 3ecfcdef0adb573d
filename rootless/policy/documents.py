"""YAML documents with the position of every value.

PyYAML reads YAML 1.1, where ``no`` is false, ``22:22`` is 1342 and ``010`` is
eight. In a policy such a surprise is a hole, so a plain scalar that YAML 1.1
takes for something else than it looks like is an error, as are duplicate keys,
merge keys, tags, and documents that grow when their
aliases are followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rootless.errors import RootlessError

if TYPE_CHECKING:
    from yaml import Node, ScalarNode

Path = tuple[str | int, ...]
Value = str | int | bool | list["Value"] | dict[str, "Value"]

MAX_SIZE = 1 << 20
_MAX_DEPTH = 24
_MAX_NODES = 20_000
_MAX_DOCUMENTS = 256

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INT = re.compile(r"-?(0|[1-9][0-9]*)")
_OTHER_BOOL = re.compile(r"yes|no|on|off|y|n|true|false", re.IGNORECASE)
_NULL = re.compile(r"|~|null", re.IGNORECASE)
_TAG = "tag:yaml.org,2002:"


class InvalidPolicy(RootlessError):
    """A policy file is wrong; requests are refused until it is mended.

    ``context['complaints']`` lists every ``file:line:column: problem``.
    """

    code: ClassVar[str] = "policy"
    http_status: ClassVar[int] = 500

    def __init__(self, complaints: Iterable[str]) -> None:
        found = list(complaints)
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        super().__init__(
            f"invalid policy: {shown}",
            hint="every request is refused until the policy is corrected",
            context={"complaints": found},
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A document's plain value, and line and column (from 1) of each value in it by its path."""

    name: str
    value: Value
    positions: Mapping[Path, tuple[int, int]]

    def position(self, path: Path) -> tuple[int, int]:
        """Line and column of the value at ``path`` or of the nearest thing around it."""
        while path not in self.positions:
            path = path[:-1]
        return self.positions[path]

    def where(self, path: Path) -> str:
        """``file:line:column`` of :meth:`position`."""
        line, column = self.position(path)
        return f"{self.name}:{line}:{column}"


@dataclass(slots=True)
class _Builder:
    name: str
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)
    nodes: int = 0

    def complain(self, node: Node, problem: str) -> None:
        mark = node.start_mark
        self.complaints.append(f"{self.name}:{mark.line + 1}:{mark.column + 1}: {problem}")

    def build(self, node: Node, path: Path) -> Value:
        from yaml import MappingNode, ScalarNode, SequenceNode

        self.nodes += 1
        if self.nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            self.complain(node, "the document is too large or nested too deeply")
            raise InvalidPolicy(self.complaints)
        self.positions[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            if node.tag != f"{_TAG}seq":
                self.complain(node, f"tags are not allowed: {node.tag}")
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: Node, path: Path) -> Value:
        if node.tag != f"{_TAG}map":
            self.complain(node, f"tags are not allowed: {node.tag}")
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str) or key_node.tag != f"{_TAG}str":
                self.complain(key_node, "a key must be a plain string")
                continue
            if key in result:
                line = self.positions[(*path, key)][0]
                self.complain(key_node, f"duplicate key {key!r}, first on line {line}")
                continue
            result[key] = self.build(value_node, (*path, key))
        return result

    def _scalar(self, node: ScalarNode) -> Value:
        text = str(node.value)
        if node.style:  # quoted or a block; plain is '' or None
            if node.tag != f"{_TAG}str":
                self.complain(node, f"tags are not allowed: {node.tag}")
            return text
        kind = node.tag.removeprefix(_TAG)
        if text in {"true", "false"} and kind == "bool":
            return text == "true"
        if kind == "int" and _INT.fullmatch(text) and len(text) < 20:
            return int(text)
        if kind == "null" or _NULL.fullmatch(text):
            self.complain(node, "a value is missing")
        elif kind == "bool" or _OTHER_BOOL.fullmatch(text):
            self.complain(node, f"{text} is ambiguous: write true or false, or quote it")
        elif kind == "timestamp" and _DATE.fullmatch(text):
            return text  # a day looks like what it is
        elif kind in {"int", "float", "timestamp"}:
            self.complain(node, f"YAML reads {text} as another {kind} than it looks like: quote it")
        elif kind != "str":
            self.complain(node, f"tags are not allowed: {node.tag}")
        return text


def load_document(text: str, name: str) -> Document:
    """Parse one YAML document; ``name`` is its file for messages. Raises InvalidPolicy."""
    found = load_documents(text, name)
    if len(found) != 1:
        raise InvalidPolicy([f"{name}:1:1: exactly one document is wanted"])
    return found[0]


def load_documents(text: str, name: str) -> list[Document]:
    """Parse every document of a file, one at least. Raises InvalidPolicy."""
    import yaml

    if len(text) > MAX_SIZE:
        raise InvalidPolicy([f"{name}:1:1: {len(text)} bytes, more than {MAX_SIZE}"])
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        nodes = list(yaml.compose_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        problem = ", ".join(filter(None, (error.context, error.problem)))
        raise InvalidPolicy([f"{name}:{at}: {problem}"]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InvalidPolicy([f"{name}:1:1: {' '.join(str(error).split())}"]) from error
    if not nodes or any(node is None for node in nodes):
        raise InvalidPolicy([f"{name}:1:1: exactly one document is wanted"])
    if len(nodes) > _MAX_DOCUMENTS:
        raise InvalidPolicy([f"{name}:1:1: more than {_MAX_DOCUMENTS} documents"])
    documents: list[Document] = []
    complaints: list[str] = []
    for node in nodes:
        builder = _Builder(name)
        value = builder.build(node, ())
        complaints += builder.complaints
        documents.append(Document(name, value, builder.positions))
    if complaints:
        raise InvalidPolicy(complaints)
    return documents
