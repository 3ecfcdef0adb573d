"""Log tags and the attributes that log options name: what drivers add to a container's records."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rootless import ids
from rootless.errors import InvalidInput, RootlessError
from rootless.model.spec import ContainerSpec

if TYPE_CHECKING:
    from rootless.templates.template import Template

DEFAULT_TAG = "{{.ID}}"
_MAX_WORK = 64 << 20
"""Bytes that rendering a tag may have to do with."""
_MAX_TEMPLATE, _MAX_TAG = 1 << 10, 64 << 10
"""Characters of a tag's template, and of what it becomes."""
_UNSAFE = re.compile(r"[^A-Za-z0-9]")


def tag(options: Mapping[str, str], spec: ContainerSpec, default: str) -> str:
    """The tag that ``options`` ask for; '' without one and without a default."""
    text = options.get("tag") or default
    if not text:
        return ""
    if text == DEFAULT_TAG:
        return ids.short_id(spec.id)
    template = parse_tag(text)
    data = _data(spec)
    size = sum(map(len, (*spec.process.args, *spec.process.env, *_flat(spec.labels))))
    if len(text) * size > _MAX_WORK:
        raise InvalidInput("the log tag is too long for a container with so many variables")
    try:
        rendered = _text(template.render(data))
    except RootlessError as error:
        raise InvalidInput(f"log tag: {error.message}", hint=_HINT) from None
    except RecursionError:
        raise InvalidInput("log tag: too many parentheses") from None
    if len(rendered) > _MAX_TAG:
        raise InvalidInput(f"log tag: it would have {len(rendered)} characters", hint=_HINT)
    return rendered


def parse_tag(text: str) -> Template:
    """The template of a tag; InvalidInput when it is none, or one that could run away."""
    from rootless.templates.template import Template

    if len(text) > _MAX_TEMPLATE:
        raise InvalidInput(f"log tag: more than {_MAX_TEMPLATE} characters", hint=_HINT)
    try:
        template = Template(text, name="log-tag")
        simple = template.is_simple()
    except RootlessError as error:
        raise InvalidInput(f"log tag: {error.message}", hint=_HINT) from None
    except RecursionError:
        raise InvalidInput("log tag: too many parentheses") from None
    if not simple:
        raise InvalidInput(
            "log tag: only text, fields, if, and functions but for join are allowed", hint=_HINT
        )
    return template


_HINT = "for example {{.ImageName}}/{{.Name}}/{{.ID}}"


def _flat(pairs: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for pair in pairs:
        yield from pair


def _data(spec: ContainerSpec) -> dict[str, Any]:
    arguments = list(spec.process.args)
    return {
        "ID": ids.short_id(spec.id),
        "FullID": spec.id,
        "Name": spec.name,
        "ImageID": ids.short_id(spec.image.id.partition(":")[2] or spec.image.id),
        "ImageFullID": spec.image.id,
        "ImageName": spec.image.reference,
        "Command": " ".join(arguments),
        "Hostname": socket.gethostname(),
        "DaemonName": "docker",
        "ContainerID": spec.id,
        "ContainerName": f"/{spec.name}",
        "ContainerEntrypoint": arguments[0] if arguments else "",
        "ContainerArgs": arguments[1:],
        "ContainerImageID": spec.image.id,
        "ContainerImageName": spec.image.reference,
        "ContainerEnv": list(spec.process.env),
        "ContainerLabels": dict(spec.labels),
    }


def attributes(
    options: Mapping[str, str],
    spec: ContainerSpec,
    rename: Callable[[str], str] = str,
) -> dict[str, str]:
    """Labels and variables that ``options`` name, those of variables over those of labels."""
    env = dict(entry.partition("=")[::2] for entry in spec.process.env if "=" in entry)
    found: dict[str, str] = {}

    def keep(key: str, value: str) -> None:
        found[rename(_text(key))] = _text(value)

    for option, values in (("labels", dict(spec.labels)), ("env", env)):
        for key in filter(None, options.get(option, "").split(",")):
            if key in values:
                keep(key, values[key])
        if expression := options.get(f"{option}-regex"):
            matches = matcher(_text(expression))
            for key, value in values.items():
                if matches(_text(key)):
                    keep(key, value)
    return found


def _text(value: str) -> str:
    """``value`` without halves of surrogate pairs, which no encoding takes."""
    return value.encode("utf-8", "replace").decode()


def matcher(expression: str) -> Callable[[str], bool]:
    """A search for Go's regular expressions, in time linear in the text whatever they are."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(expression, options=options)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidInput(f"error parsing regexp: {text}") from None
    return lambda text: compiled.search(text) is not None


def journal_name(name: str) -> str:
    """A name that systemd's journal takes: capitals, digits and, but for the first, underscores."""
    return _UNSAFE.sub("_", name).upper().lstrip("_")
