"""Go's text/template, as far as ``--format`` and log tags use it: the parser and the evaluator.

Fields, methods of none, variables, pipelines with parentheses, ``if`` / ``else
if`` / ``range`` / ``with`` / ``break`` / ``continue`` / ``define`` /
``template`` / ``block``, trim markers and comments. Error texts follow Go's, as
scripts match on them. Functions are in ``functions``.
"""

from __future__ import annotations

import re
from typing import Any

from rootless.errors import RootlessError
from rootless.templates import functions

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<raw>`[^`]*`)
    | (?P<char>'(?:[^'\\]|\\.)+')
    | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|\d+\.\d+|\d+))
    | (?P<variable>\$\w*(?:\.\w+)*)
    | (?P<field>(?:\.\w+)+)
    | (?P<dot>\.)
    | (?P<word>\w+)
    | (?P<define>:=)
    | (?P<op>[=|(),])
    )""",
    re.VERBOSE,
)
_OPEN = re.compile(r"\{\{(-\s)?")

Node = tuple[Any, ...]
Token = tuple[str, str]


class TemplateError(RootlessError):
    """The template cannot be parsed or does not fit the data."""

    code = "template"


class MissingField(TemplateError):
    """The data has no such field."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template.

    ``strict`` refuses fields that the data does not have; ``typed`` knows the
    fields that Docker's own types have although the JSON leaves them out.
    """

    def __init__(
        self, text: str, *, strict: bool = True, typed: bool = False, name: str = ""
    ) -> None:
        self.name = name
        self.strict = strict
        self.typed = typed
        self._defined: dict[str, list[Node]] = {}
        parser = _Parser(_split(text), self._defined)
        try:
            self._nodes, _ = parser.block(())
        except functions.CallError as error:
            raise _parse_error(str(error)) from None

    def render(self, data: object) -> str:
        """The text for ``data``."""
        out: list[str] = []
        scope = _Scope(self, data)
        try:
            scope.run(self._nodes, data, out)
        except functions.CallError as error:
            raise TemplateError(f"template parsing error: template: {error}") from None
        return "".join(out)

    def is_simple(self) -> bool:
        """Whether it takes no more time and memory than its text and the data are long.

        Without loops, variables, definitions and what multiplies (join): for templates of others.
        """
        return _are_simple(self._nodes)

    def defined(self, name: str) -> list[Node]:
        """The body of ``{{define "name"}}``."""
        if name not in self._defined:
            raise TemplateError(f'template parsing error: template: no template "{name}"')
        return self._defined[name]


def _are_simple(nodes: list[Node]) -> bool:
    for node in nodes:
        if node[0] == "if":
            if _multiplies(node[1]) or not (_are_simple(node[2]) and _are_simple(node[3])):
                return False
        elif node[0] != "text" and (node[0] != "print" or _multiplies(node)):
            return False
    return True


def _multiplies(node: object) -> bool:
    """Whether a pipeline in there sets a variable or joins."""
    if not isinstance(node, (list, tuple)) or not node:
        return False
    if node[0] == "pipe" and node[1]:
        return True
    return tuple(node[:2]) == ("function", "join") or any(map(_multiplies, node))


def _parse_error(reason: str) -> TemplateError:
    return TemplateError(
        f"template parsing error: template: :1: {reason}",
        hint="the syntax is Go's: {{.Field}}, {{range .List}}…{{end}}, {{json .}}",
    )


def _split(text: str) -> list[tuple[str, str]]:
    """Text and actions in turn: ("text", …), ("action", …); trim markers applied."""
    parts: list[tuple[str, str]] = []
    pos = 0
    trim = False
    while True:
        match = _OPEN.search(text, pos)
        literal = text[pos : match.start()] if match else text[pos:]
        if trim:
            literal = literal.lstrip(" \t\r\n")
        if match and match[1]:
            literal = literal.rstrip(" \t\r\n")
        if literal:
            parts.append(("text", literal))
        if not match:
            return parts
        start = match.end()
        end = _action_end(text, start)
        body = text[start:end]
        pos = end + 2
        trim = body.endswith("-") and body[-2:-1].isspace()
        if trim:
            body = body[:-1]
        body = body.strip()
        if body.startswith("/*"):
            if not body.endswith("*/"):
                raise _parse_error("unclosed comment")
            continue
        parts.append(("action", body))


def _action_end(text: str, pos: int) -> int:
    """Where ``}}`` is, strings aside."""
    quote = ""
    while pos < len(text):
        char = text[pos]
        if quote:
            if char == "\\" and quote != "`":
                pos += 1
            elif char == quote:
                quote = ""
        elif char in "\"'`":
            quote = char
        elif text.startswith("}}", pos):
            return pos
        elif text.startswith("/*", pos):
            close = text.find("*/", pos)
            pos = close + 1 if close >= 0 else len(text)
        pos += 1
    raise _parse_error("unclosed action")


def _tokens(action: str) -> list[Token]:
    out: list[Token] = []
    pos = 0
    while pos < len(action):
        match = _TOKEN.match(action, pos)
        if match is None:
            rest = action[pos:].strip()
            if not rest:
                break
            raise _parse_error(f"unexpected {rest[:1]!r} in command")
        kind = str(match.lastgroup)
        # "a.b" after a parenthesis is a chain on its result; ".b" otherwise an argument.
        if kind == "field" and out and out[-1] == ("op", ")") and match.start(kind) == pos:
            out.append(("chain", match["field"]))
        else:
            out.append((kind, match[kind]))
        pos = match.end()
    return out


class _Parser:
    def __init__(self, parts: list[tuple[str, str]], defined: dict[str, list[Node]]) -> None:
        self.parts = parts
        self.defined = defined
        self.index = 0

    def block(self, until: tuple[str, ...]) -> tuple[list[Node], str]:
        """Nodes up to one of the words in ``until``; also the action that ended it."""
        nodes: list[Node] = []
        while self.index < len(self.parts):
            kind, text = self.parts[self.index]
            self.index += 1
            if kind == "text":
                nodes.append(("text", text))
                continue
            word = text.split(None, 1)[0] if text else ""
            if word in ("end", "else"):
                if word not in until:
                    raise _parse_error(f"unexpected {{{{{word}}}}}")
                return nodes, text
            nodes.append(self._action(word, text))
        if until:
            raise _parse_error("unexpected EOF")
        return nodes, ""

    def _action(self, word: str, text: str) -> Node:
        rest = text[len(word) :].strip()
        if word in ("if", "with", "range"):
            return self._branch(word, rest)
        if word in ("break", "continue"):
            return (word,)
        if word in ("define", "block"):
            tokens = _tokens(rest)
            if not tokens or tokens[0][0] not in ("string", "raw"):
                raise _parse_error(f"missing name in {word}")
            name = functions.unquote(tokens[0][1])
            self.defined[name] = self.block(("end",))[0]
            if word == "define":
                return ("text", "")
            return ("template", name, _pipeline(tokens[1:]) if tokens[1:] else None)
        if word == "template":
            tokens = _tokens(rest)
            if not tokens:
                raise _parse_error("missing name in template")
            name = functions.unquote(tokens[0][1])
            return ("template", name, _pipeline(tokens[1:]) if tokens[1:] else None)
        if not text:
            raise _parse_error("missing value for command")
        return ("print", _pipeline(_tokens(text)))

    def _branch(self, word: str, rest: str) -> Node:
        if not rest:
            raise _parse_error(f"missing value for {word}")
        pipe = _pipeline(_tokens(rest))
        body, end = self.block(("end", "else"))
        other: list[Node] = []
        if end.startswith("else"):
            tail = end[4:].strip()
            if tail:
                nested = tail.split(None, 1)[0]
                if nested not in ("if", "with"):
                    raise _parse_error(f"unexpected <{tail}> in else")
                other = [self._branch(nested, tail[len(nested) :].strip())]
            else:
                other, _ = self.block(("end",))
        return (word, pipe, body, other)


def _pipeline(tokens: list[Token]) -> Node:
    """("pipe", variables, declares, commands)."""
    variables: list[str] = []
    declares = False
    marks = [i for i, token in enumerate(tokens) if token in (("define", ":="), ("op", "="))]
    if marks and all(t[0] == "variable" or t == ("op", ",") for t in tokens[: marks[0]]):
        variables = [t[1] for t in tokens[: marks[0]] if t[0] == "variable"]
        declares = tokens[marks[0]][1] == ":="
        tokens = tokens[marks[0] + 1 :]
    commands: list[list[Node]] = [[]]
    pos = 0
    while pos < len(tokens):
        if tokens[pos] == ("op", "|"):
            commands.append([])
            pos += 1
            continue
        node, pos = _operand(tokens, pos)
        commands[-1].append(node)
    if not all(commands):
        raise _parse_error("missing value for command")
    return ("pipe", variables, declares, commands)


def _operand(tokens: list[Token], pos: int) -> tuple[Node, int]:
    kind, text = tokens[pos]
    if (kind, text) == ("op", "("):
        depth, end = 1, pos + 1
        while end < len(tokens) and depth:
            depth += (tokens[end] == ("op", "(")) - (tokens[end] == ("op", ")"))
            end += 1
        if depth:
            raise _parse_error("unclosed left paren")
        node: Node = ("paren", _pipeline(tokens[pos + 1 : end - 1]))
        while end < len(tokens) and tokens[end][0] == "chain":
            node = ("chain", node, tokens[end][1][1:].split("."))
            end += 1
        return node, end
    if kind in ("string", "raw"):
        return ("value", functions.unquote(text)), pos + 1
    if kind == "char":
        return ("value", ord(functions.unquote(f'"{text[1:-1]}"'))), pos + 1
    if kind == "number":
        return ("value", float(text) if "." in text else int(text, 0)), pos + 1
    if kind == "dot":
        return ("dot",), pos + 1
    if kind == "field":
        return ("field", text[1:].split(".")), pos + 1
    if kind == "variable":
        name, *fields = text.split(".")
        return ("variable", name, fields), pos + 1
    if kind == "word":
        if text in ("true", "false", "nil"):
            return ("value", {"true": True, "false": False, "nil": None}[text]), pos + 1
        if text not in functions.FUNCTIONS and text not in ("and", "or"):
            raise _parse_error(f'function "{text}" not defined')
        return ("function", text), pos + 1
    raise _parse_error(f'unexpected "{text}" in operand')


class _Scope:
    """One execution: variables by name, innermost last."""

    def __init__(self, template: Template, root: object) -> None:
        self.template = template
        self.variables: list[tuple[str, object]] = [("$", root)]

    def run(self, nodes: list[Node], dot: object, out: list[str]) -> None:
        for node in nodes:
            kind = node[0]
            if kind == "text":
                out.append(node[1])
            elif kind == "print":
                value = self.pipe(node[1], dot)
                if not node[1][1]:
                    out.append(functions.display(value))
            elif kind == "template":
                inner = _Scope(self.template, None)
                data = self.pipe(node[2], dot) if node[2] else None
                inner.variables = [("$", data)]
                inner.run(self.template.defined(node[1]), data, out)
            elif kind == "break":
                raise _Break
            elif kind == "continue":
                raise _Continue
            else:
                self._branch(node, dot, out)

    def _branch(self, node: Node, dot: object, out: list[str]) -> None:
        kind, pipe, body, other = node
        mark = len(self.variables)
        try:
            if kind == "range":
                self._range(pipe, body, other, dot, out)
                return
            value = self.pipe(pipe, dot)
            if functions.truth(value):
                self.run(body, value if kind == "with" else dot, out)
            else:
                self.run(other, dot, out)
        finally:
            del self.variables[mark:]

    def _range(
        self, pipe: Node, body: list[Node], other: list[Node], dot: object, out: list[str]
    ) -> None:
        value = self.pipe(("pipe", [], False, pipe[3]), dot)
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value, key=str)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(i, i) for i in range(value)]
        elif value is None:
            pairs = []
        else:
            raise TemplateError(
                f"template parsing error: template: range can't iterate over {value}"
            )
        if not pairs:
            self.run(other, dot, out)
            return
        names = pipe[1]
        mark = len(self.variables)
        for key, item in pairs:
            del self.variables[mark:]
            if len(names) == 1:
                self.variables.append((names[0], item))
            elif len(names) == 2:
                self.variables += [(names[0], key), (names[1], item)]
            try:
                self.run(body, item, out)
            except _Break:
                break
            except _Continue:
                continue

    def pipe(self, node: Node, dot: object) -> object:
        _, variables, declares, commands = node
        value: object = None
        for index, command in enumerate(commands):
            value = self._command(command, dot, [value] if index else [])
        if variables:
            self._assign(variables[0], value, declares=declares)
        return value

    def _assign(self, name: str, value: object, *, declares: bool) -> None:
        if not declares:
            for index in range(len(self.variables) - 1, -1, -1):
                if self.variables[index][0] == name:
                    self.variables[index] = (name, value)
                    return
            raise _parse_error(f'undefined variable "{name}"')
        self.variables.append((name, value))

    def _command(self, command: list[Node], dot: object, last: list[object]) -> object:
        head = command[0]
        if head[0] != "function":
            value: object = self._value(head, dot)
            if callable(value):
                words = [self._value(node, dot) for node in command[1:]] + last
                return functions.invoke(".".join(head[-1]), value, words)
            if len(command) > 1 or last:
                raise TemplateError(
                    "template parsing error: template: can't give argument to non-function"
                )
            return value
        name = head[1]
        if name in ("and", "or"):  # these stop at the first operand that decides
            value = None
            for node in command[1:]:
                value = self._value(node, dot)
                if functions.truth(value) == (name == "or"):
                    return value
            return last[0] if last else value
        return functions.call(name, [self._value(node, dot) for node in command[1:]] + last)

    def _value(self, node: Node, dot: object) -> object:
        kind = node[0]
        if kind == "value":
            return node[1]
        if kind == "dot":
            return dot
        if kind == "field":
            return self._fields(dot, node[1])
        if kind == "paren":
            return self.pipe(node[1], dot)
        if kind == "chain":
            return self._fields(self._value(node[1], dot), node[2])
        if kind == "function":
            return self._command([node], dot, [])
        for name, value in reversed(self.variables):
            if name == node[1]:
                return self._fields(value, node[2])
        raise _parse_error(f'undefined variable "{node[1]}"')

    def _fields(self, value: object, names: list[str]) -> object:
        within = ""
        for name in names:
            within, parent = name, within
            if isinstance(value, dict):
                found = functions.lookup(value, name)
                if self.template.typed and (found is functions.MISSING or found is None):
                    # A map of Docker's may have any key; an object has its fields only.
                    free = isinstance(value, functions.NilMap) or parent in functions.MAPS
                    found = functions.NO_VALUE if free else functions.absent(name, found)
                if found is functions.MISSING:
                    if self.template.strict:
                        raise self._missing(names, f'map has no entry for key "{name}"')
                    return functions.NO_VALUE
                value = found
            elif value is None or value is functions.NO_VALUE or value is functions.NIL:
                if self.template.strict:
                    raise self._missing(names, f"nil data; no entry for key {name!r}")
                return functions.NO_VALUE
            else:
                kind = functions.type_name(value)
                raise self._missing(names, f"can't evaluate field {name} in type {kind}")
        return value

    def _missing(self, names: list[str], reason: str) -> MissingField:
        path = "." + ".".join(names)
        return MissingField(
            f'template parsing error: template: {self.template.name}:1:2: executing "'
            f'{self.template.name}" at <{path}>: {reason}',
            hint="see what there is with --format '{{json .}}'",
        )
