"""What a command is made of: usage, flags, text of its manual, and the function.

Plain classes and tuples: dataclasses cost 8 ms to import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.client.api import Client
    from rootless.client.endpoint import Where

BOOL = "bool"
STRING = "string"
INT = "int"
LIST = "list"
MAP = "map"
BYTES = "bytes"
DECIMAL = "decimal"
DURATION = "duration"
OPTIONAL = "optional"
"""A string that may stand without a value (``--opt`` or ``--opt=value``)."""

Flag = tuple[str, str, str, object, str]
"""name, one-letter form or '', kind, default, help"""

FORMAT_HELP = (
    "Format output using a custom template: 'table' (default), 'table TEMPLATE', 'json', "
    "or a Go TEMPLATE"
)
INSPECT_FORMAT_HELP = "Format output using a custom template: 'json' or a Go TEMPLATE"


class Command:
    """One command. ``max_args`` None means any number."""

    __slots__ = (
        "aliases",
        "description",
        "examples",
        "exit_codes",
        "flags",
        "interspersed",
        "max_args",
        "min_args",
        "path",
        "run",
        "summary",
        "usage",
    )

    def __init__(
        self,
        run: Callable[[Invocation], int],
        *,
        usage: str,
        summary: str,
        flags: tuple[Flag, ...] = (),
        min_args: int = 0,
        max_args: int | None = 0,
        interspersed: bool = True,
        description: str = "",
        examples: str = "",
        exit_codes: str = "",
        aliases: str = "",
    ) -> None:
        self.run = run
        self.usage = usage
        self.summary = summary
        self.flags = flags
        self.min_args = min_args
        self.max_args = max_args
        self.interspersed = interspersed
        self.description = description
        self.examples = examples
        self.exit_codes = exit_codes
        self.aliases = aliases
        self.path = ""


class Invocation:
    """One call of a command: its flags, arguments and the client."""

    __slots__ = ("_client", "args", "command", "set_flags", "values", "where")

    def __init__(
        self,
        command: Command,
        values: dict[str, Any],
        set_flags: set[str],
        args: list[str],
        where: Where | None,
        *,
        client: Client | None = None,
    ) -> None:
        self.command = command
        self.values = values
        self.set_flags = set_flags
        self.args = args
        self.where = where
        self._client = client

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def given(self, name: str) -> bool:
        """True when the user wrote the flag."""
        return name in self.set_flags

    @property
    def client(self) -> Client:
        """The daemon's client, made at first use."""
        if self._client is None:
            from rootless.client.api import Client
            from rootless.client.endpoint import choose

            self._client = Client(choose(self.where))
        return self._client

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()
