"""Docker's contexts, on the files that Docker's client keeps them in.

``contexts/meta/<sha256 of the name>/meta.json`` below the configuration's directory, and
``contexts/tls/<the same>/docker/{ca,cert,key}.pem``.
"""

from __future__ import annotations

import os
import shutil
from hashlib import sha256

from rootless.client import clientconfig, files, jsonlite
from rootless.client.endpoint import DEFAULT, Endpoint, Tls, Where, default_endpoint
from rootless.errors import Conflict, InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILES = ("ca.pem", "cert.pem", "key.pem")
_DOCKER = "docker"
_SEPARATORS = "_.+-"


class Context:
    """One context: its document as it is kept, and its TLS files by name."""

    __slots__ = ("document", "name", "tls")

    def __init__(self, name: str, document: dict[str, Any], tls: dict[str, bytes]) -> None:
        self.name = name
        self.document = document
        self.tls = tls

    @property
    def endpoint(self) -> dict[str, Any]:
        """``Endpoints.docker``; NotFound without one."""
        endpoints = self.document.get("Endpoints")
        found = endpoints.get(_DOCKER) if isinstance(endpoints, dict) else None
        if not isinstance(found, dict):
            raise NotFound(f'context "{self.name}" has no docker endpoint')
        return found

    @property
    def host(self) -> str:
        """Its daemon's address."""
        return str(self.endpoint.get("Host") or "")

    @property
    def description(self) -> str:
        """What its owner says of it."""
        metadata = self.document.get("Metadata")
        return str(metadata.get("Description", "")) if isinstance(metadata, dict) else ""


def check_name(name: str) -> None:
    """Docker's rule for names: they also become no paths, but people read them."""
    if name == DEFAULT:
        raise InvalidInput('"default" is a reserved context name')
    plain = "".join("a" if char in _SEPARATORS else char for char in name[1:])
    if len(name) < 2 or not name.isascii() or not name[0].isalnum() or not plain.isalnum():
        raise InvalidInput(
            f'context name "{name}" is invalid, names are validated against regexp '
            '"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$"'
        )


def _root() -> str:
    return f"{clientconfig.directory()}/contexts"


def meta_path(name: str) -> str:
    """The directory of its document."""
    return f"{_root()}/meta/{sha256(name.encode()).hexdigest()}"


def tls_path(name: str) -> str:
    """The directory of its certificates."""
    return f"{_root()}/tls/{sha256(name.encode()).hexdigest()}"


def names() -> list[str]:
    """The contexts there are, without ``default``; a document that is none is passed over."""
    try:
        entries = os.listdir(f"{_root()}/meta")
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for entry in entries:
        document = _read(f"{_root()}/meta/{entry}/meta.json")
        if document is not None and meta_path(name := str(document.get("Name"))).endswith(entry):
            found.append(name)
    return sorted(found)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            value = jsonlite.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def load(name: str) -> Context:
    """One context. NotFound in Docker's words."""
    path = f"{meta_path(name)}/meta.json"
    if not os.path.exists(path):
        raise NotFound(
            f'context "{name}": context not found: open {path}: no such file or directory',
            hint="see `rootless context ls`",
        )
    document = _read(path)
    if document is None:
        raise InvalidInput(f'context "{name}": {path} holds no JSON object')
    tls = {}
    for file in FILES:
        try:
            with open(f"{tls_path(name)}/{_DOCKER}/{file}", "rb") as source:
                tls[file] = source.read()
        except FileNotFoundError:
            continue
    return Context(name, document, tls)


def create(context: Context) -> None:
    """Keep a new one."""
    check_name(context.name)
    if os.path.exists(meta_path(context.name)):
        raise Conflict(f'context "{context.name}" already exists')
    save(context)


def save(context: Context) -> None:
    """Keep it: its certificates first, so that it is never there without them."""
    directory = tls_path(context.name)
    shutil.rmtree(directory, ignore_errors=True)
    for file, data in context.tls.items():
        os.makedirs(f"{directory}/{_DOCKER}", mode=0o700, exist_ok=True)
        files.replace(f"{directory}/{_DOCKER}/{file}", data, mode=0o600)
    os.makedirs(meta_path(context.name), mode=0o755, exist_ok=True)
    document = {**context.document, "Name": context.name}
    text = jsonlite.pretty_line(document)
    files.replace(f"{meta_path(context.name)}/meta.json", text.encode(), mode=0o644)


def remove(name: str) -> None:
    """Forget it. NotFound when there is none."""
    if not os.path.isdir(meta_path(name)):
        raise NotFound(f'context "{name}" does not exist')
    shutil.rmtree(meta_path(name))
    shutil.rmtree(tls_path(name), ignore_errors=True)


def default() -> Context:
    """The context ``default`` as Docker shows it: nothing of it is kept."""
    host = default_endpoint(Where()).host
    document = {
        "Name": DEFAULT,
        "Metadata": {},
        "Endpoints": {_DOCKER: {"Host": host, "SkipTLSVerify": False}},
    }
    return Context(DEFAULT, document, {})


def find(name: str) -> Context:
    """By name, ``default`` too."""
    return default() if name == DEFAULT else load(name)


def endpoint_of(name: str, *, source: str = "") -> Endpoint:
    """The daemon that a context names."""
    context = load(name)
    if not context.host:
        raise InvalidInput(f'context "{name}" names no host')
    directory = f"{tls_path(name)}/{_DOCKER}"
    paths = [f"{directory}/{file}" if file in context.tls else "" for file in FILES]
    skip = context.endpoint.get("SkipTLSVerify") is True
    tls = Tls(*paths, verify=not skip) if any(paths) or skip else None
    return Endpoint(context.host, tls=tls, source=source)
