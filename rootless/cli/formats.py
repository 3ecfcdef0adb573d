"""``--format`` for lists and single objects: tables, JSON, templates.

A list command names its columns once: field name, heading, and the function
that makes the cell. Templates see the same fields (and their labels).
"""

from __future__ import annotations

import sys

from rootless.client import jsonlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from rootless.templates.template import Template


def table_text(rows: Iterable[Iterable[str]], *, minimum: int = 10) -> str:
    """Go's tabwriter as Docker sets it up: cells at least 10 wide, 3 between, last cell free."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths: list[int] = []
    for row in cells:
        for index, cell in enumerate(row[:-1]):
            if index == len(widths):
                widths.append(minimum - 3)
            widths[index] = max(widths[index], len(cell))
    lines = []
    for row in cells:
        head = "".join(
            f"{cell:<{width + 3}}" for cell, width in zip(row[:-1], widths, strict=False)
        )
        lines.append(head + (row[-1] if row else ""))
    return "\n".join(lines) + "\n" if lines else ""


def unescape(form: str) -> str:
    r"""A typed ``\t`` and ``\n`` as the characters, as Docker's lists have them.

    What is inside of an action stays: in ``{{"\n"}}`` the template reads it itself.
    """
    out = []
    rest = form
    while rest:
        text, mark, rest = rest.partition("{{")
        out.append(text.replace("\\t", "\t").replace("\\n", "\n") + mark)
        action, mark, rest = rest.partition("}}")
        out.append(action + mark)
    return "".join(out)


class Listing:
    """How one command lists: all fields with headings, and which make the default table."""

    __slots__ = ("default", "fields", "headings", "labels")

    def __init__(
        self,
        headings: dict[str, str],
        fields: dict[str, Callable[[Any], Any]],
        default: tuple[str, ...],
        *,
        labels: Callable[[Any], dict[str, str]] | None = None,
    ) -> None:
        self.headings = headings
        self.fields = fields
        self.default = default
        self.labels = labels

    def print(self, items: list[Any], form: str, *, quiet: str | None = None) -> None:
        """Write ``items``; ``quiet`` names the one field to print instead."""
        sys.stdout.write(self.text(items, form, quiet=quiet))

    def text(
        self, items: list[Any], form: str, *, quiet: str | None = None, heading: bool = True
    ) -> str:
        """The list as text."""
        if quiet is not None and form in ("", "table"):
            return "".join(f"{self.fields[quiet](item)}\n" for item in items)
        if form in ("", "table"):
            head = [[self.headings[name] for name in self.default]] if heading else []
            return table_text(
                head + [[str(self.fields[name](item)) for name in self.default] for item in items]
            )
        rows = (_Fields(self, item) for item in items)
        if form == "json":
            return "".join(f"{row.json()}\n" for row in rows)
        from rootless.templates.template import Template

        table = form.startswith("table ")
        template = Template(unescape(form[6:] if table else form))
        if not items:
            self._check_fields(template)
        lines = [template.render(row) for row in rows]
        if not table:
            return "".join(f"{line}\n" for line in lines)
        top = template.render(_Headings(self.headings)) if heading else None
        return table_text(line.split("\t") for line in ([] if top is None else [top]) + lines)

    def _check_fields(self, template: Template) -> None:
        """Without a row to show, still refuse fields that no row has."""
        from rootless.templates.template import MissingField, TemplateError

        try:
            template.render(_NoRow(self))
        except MissingField:
            raise
        except TemplateError:
            return  # it wants more than an empty text of a field that is there


class _Fields(dict):  # type: ignore[type-arg]  # values of any type
    """One item's fields, made when a template asks for them."""

    def __init__(self, listing: Listing, item: Any) -> None:
        super().__init__()
        self._listing = listing
        self._item = item
        for name in listing.fields:
            super().__setitem__(name, None)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (name == "Label" and self._listing.labels is not None)

    def __getitem__(self, name: str) -> Any:
        if name == "Label" and self._listing.labels is not None:
            labels = self._listing.labels(self._item)
            return lambda key: labels.get(key, "")
        return self._listing.fields[name](self._item)

    def all(self) -> dict[str, Any]:
        """Every field (for ``json``)."""
        return {name: self[name] for name in sorted(self._listing.fields)}

    def json(self) -> str:
        """As Go's json.Marshal writes it, which escapes HTML's characters."""
        text = jsonlite.pretty_line(self.all())
        for char in "<>&":
            text = text.replace(char, f"\\u{ord(char):04x}")
        return text


class _NoRow(_Fields):
    """The fields of a row that is not there, each an empty text."""

    def __init__(self, listing: Listing) -> None:
        super().__init__(listing, {})

    def __getitem__(self, name: str) -> Any:
        return (lambda _: "") if name == "Label" else ""


class _Headings(dict):  # type: ignore[type-arg]  # text by text; bare costs no typing import
    """Headings by field; what has none heads its column with its own name in capitals."""

    def __init__(self, headings: dict[str, str]) -> None:
        super().__init__(headings)

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return _label_heading if name == "Label" else name.upper()


def _label_heading(key: str) -> str:
    """Docker heads a label's column with the last part of its name."""
    return key.rpartition(".")[2].replace("-", " ").replace("_", " ")


def print_one(form: str, value: object) -> None:
    """One object by a template or as JSON (version, info, inspect of one)."""
    sys.stdout.write(one_text(form, value) + "\n")


def one_text(form: str, value: object) -> str:
    """The text for ``--format`` on one object; unlike in lists ``\\t`` stays as it is."""
    if form == "json":
        return jsonlite.pretty_line(value)
    from rootless.templates.template import Template

    return Template(form, typed=True).render(value)
