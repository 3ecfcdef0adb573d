"""A ``run`` or ``create`` command line, read by the parser of the command itself."""

from __future__ import annotations

import shlex
from typing import Any

from rootless.cli.command import Command, Invocation
from rootless.cli.createbody import create_body
from rootless.cli.createflags import RUN_FLAGS
from rootless.cli.flags import HelpWanted, parse
from rootless.errors import RootlessError
from rootless.policy.inputs.body import container_spec
from rootless.policy.inputs.read import InputDocument, NotUnderstood
from rootless.policy.inputs.unit import Container, Unit

_ENGINES = frozenset({"rootless", "docker", "podman"})
_VERBS = frozenset({"run", "create"})
_MAX_LINE = 1 << 17


class _NoEndpoint:
    host = ""


class _NoClient:
    """Stands where the command asks for its client: only its address is wanted, for proxies."""

    endpoint = _NoEndpoint()

    def close(self) -> None:
        """Nothing to close."""


def run_unit(data: bytes) -> Unit:
    """The container a command line asks for; raises NotUnderstood."""
    words = _words(data)
    command = Command(lambda _: 0, usage="run", summary="", flags=RUN_FLAGS, max_args=None)
    try:
        parsed = parse(RUN_FLAGS, words, interspersed=False)
        if not parsed.args:
            raise NotUnderstood("the command line names no image", place=(1, 1))
        call = Invocation(
            command,
            parsed.values,
            parsed.given,
            parsed.args,
            None,
            client=_NoClient(),  # type: ignore[arg-type]  # the parser of run calls nothing of it
        )
        body: dict[str, Any] = create_body(call)
        body["Name"] = parsed.values.get("name") or ""
        spec = container_spec(body)
    except HelpWanted as error:
        raise NotUnderstood("the command line asks for help", place=(1, 1)) from error
    except RootlessError as error:
        raise NotUnderstood(error.message, place=(1, 1)) from error
    except OSError as error:
        raise NotUnderstood(f"{error.filename}: {error.strerror}", place=(1, 1)) from error
    document = InputDocument(0, {}, text=data.decode(errors="replace"))
    return Unit(document, "Run", spec.name, (Container(spec.name, spec, ()),))


def _words(data: bytes) -> list[str]:
    if len(data) > _MAX_LINE:
        raise NotUnderstood(f"a command line has {_MAX_LINE} bytes at most", place=(1, 1))
    try:
        words = shlex.split(data.decode().replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise NotUnderstood(f"not a command line: {error}", place=(1, 1)) from error
    if words and words[0] in _ENGINES:
        words = words[1:]
        words = words[1:] if words[:1] == ["container"] else words
        if not words or words[0] not in _VERBS:
            raise NotUnderstood("only run and create make a container", place=(1, 1))
        return words[1:]
    return words[1:] if words and words[0] in _VERBS else words
