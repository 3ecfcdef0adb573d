"""What a Dockerfile says that policies look at: base images, and networks of its steps.

Read is what decides: stages, their images, the options of COPY, ADD and RUN. Commands are
not looked into, nor which secrets a step asks for: it gets those that the build is given.
https://docs.docker.com/reference/dockerfile/ is the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rootless.policy.inputs.read import NotUnderstood

MAX_DOCKERFILE = 1 << 20
"""Bytes."""
_DIRECTIVE = re.compile(r"#\s*(?P<name>[a-zA-Z]+)\s*=\s*(?P<value>\S+)\s*")
_HEREDOC = re.compile(r"<<(?P<dash>-?)(?P<quote>[\"']?)(?P<word>[A-Za-z_][A-Za-z0-9_]*)(?P=quote)")
_OPTION = re.compile(r"\s*--(?P<name>[a-z]+)(=(?P<value>\S+))?")
_ARGUMENT = re.compile(
    r"(?P<name>[A-Za-z_]\w*)"
    r"(=(\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<plain>\S*)))?"
)
_VARIABLE = re.compile(
    r"\$(\{(?P<braced>[A-Za-z_]\w*)((?P<operator>:?[-+])(?P<word>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))"
)  # fmt: skip


@dataclass(slots=True)
class Dockerfile:
    """What was found; ``bases`` as they are written, '' for one that is not known."""

    bases: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    insecure: bool = False


def read_dockerfile(text: str, args: Mapping[str, str], contexts: Mapping[str, str]) -> Dockerfile:
    """``args`` are the build's arguments, ``contexts`` its further contexts by name.

    Raises NotUnderstood where there is no stage in it.
    """
    reader = _Reader(args, {name.lower(): value for name, value in contexts.items()})
    for keyword, rest in _instructions(text):
        reader.instruction(keyword, rest)
    if not reader.stages:
        raise NotUnderstood("there is no FROM in the Dockerfile")
    return reader.found


class _Reader:
    def __init__(self, args: Mapping[str, str], contexts: Mapping[str, str]) -> None:
        self.args = args
        self.contexts = contexts
        self.known: dict[str, str] = {}
        """Arguments that stand before the first FROM, which alone FROM can use."""
        self.stages: list[str] = []
        self.found = Dockerfile()

    def instruction(self, keyword: str, rest: str) -> None:
        options, rest = _options(rest)
        match keyword:
            case "ARG" if not self.stages:
                for match in _ARGUMENT.finditer(rest):
                    self._argument(match)
            case "FROM":
                self._from(rest)
            case "COPY" | "ADD":
                for value in options.get("from", ()):
                    self._image(value)
            case "RUN":
                self._run(options)

    def _argument(self, match: re.Match[str]) -> None:
        written = match["double"] or match["single"] or match["plain"] or ""
        default, known = self._expanded(written)
        if match["name"] in self.args:
            self.known[match["name"]] = self.args[match["name"]]
        elif known and written:
            self.known[match["name"]] = default

    def _from(self, rest: str) -> None:
        words = rest.split()
        name, known = self._expanded(words[0].strip("\"'")) if words else ("", False)
        if known and name:
            self._image(name)
        else:
            self.found.bases.append("")
        named = len(words) > 2 and words[1].lower() == "as"
        self.stages.append(words[2].lower() if named else "")

    def _image(self, name: str) -> None:
        """An image that something is taken from, unless the name is a stage's or a context's."""
        lower = name.lower()
        context = self.contexts.get(lower)
        if context is not None:
            image = context.partition("docker-image://")[2]
            if image:
                self.found.bases.append(image)
        elif lower in self.stages or (name.isdecimal() and int(name) < len(self.stages)):
            return
        elif lower != "scratch":
            self.found.bases.append("" if "$" in name else name)

    def _run(self, options: Mapping[str, list[str]]) -> None:
        self.found.networks += options.get("network", ())
        self.found.insecure |= "insecure" in options.get("security", ())
        for mount in options.get("mount", ()):
            pairs = dict(part.partition("=")[::2] for part in mount.split(","))
            if pairs.get("from"):
                self._image(pairs["from"])

    def _expanded(self, text: str) -> tuple[str, bool]:
        """The text with its variables replaced, and whether all of them are known."""
        known = True

        def value(match: re.Match[str]) -> str:
            nonlocal known
            found = self.known.get(match["braced"] or match["plain"])
            operator = match["operator"] or ""
            given = found is not None and (found or not operator.startswith(":"))
            if operator.endswith("+"):
                return match["word"] if given else ""
            if operator.endswith("-") and not given:
                return match["word"]
            known = known and found is not None
            return found or ""

        return _VARIABLE.sub(value, text), known


def _options(rest: str) -> tuple[dict[str, list[str]], str]:
    """The ``--name=value`` before an instruction's own words."""
    options: dict[str, list[str]] = {}
    while (match := _OPTION.match(rest)) is not None:
        options.setdefault(match["name"], []).append(match["value"] or "")
        rest = rest[match.end() :]
    return options, rest.strip()


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Keyword and rest of each instruction, its lines joined."""
    lines = iter(text.splitlines())
    escape = _escape(text)
    pending = ""
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pending += line
        if pending.rstrip().endswith(escape):
            pending = pending.rstrip()[:-1]
            continue
        keyword, _, rest = pending.strip().partition(" ")
        pending = ""
        if keyword.upper() in {"RUN", "COPY", "ADD"}:
            _skip_documents(rest, lines)
        yield keyword.upper(), rest
    if pending.strip():
        keyword, _, rest = pending.strip().partition(" ")
        yield keyword.upper(), rest


def _escape(text: str) -> str:
    for line in text.splitlines():
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            break
        if match["name"].lower() == "escape":
            return match["value"]
    return "\\"


def _skip_documents(rest: str, lines: Iterator[str]) -> None:
    """Pass over the here-documents that an instruction begins."""
    for match in _HEREDOC.finditer(rest):
        for line in lines:
            if (line.lstrip("\t") if match["dash"] else line) == match["word"]:
                break
