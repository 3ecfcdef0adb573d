"""``~/.docker/config.json`` as every command reads it: cheaply, and never fatal.

A file that cannot be read is told once and taken as empty, as Docker does.
Who writes the file (``dockerconfig``) is stricter.
"""

from __future__ import annotations

import sys

from rootless.client import jsonlite, paths
from rootless.client import lightos as os
from rootless.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMIT = 16 << 20
"""Bytes; a larger file is no configuration."""
_OURS = frozenset(
    "host user-agent content-type content-length transfer-encoding connection upgrade "
    "x-registry-auth x-registry-config".split()
)
_state = {"directory": "", "told": ""}


def use_directory(path: str) -> None:
    """``--config DIR``."""
    if not path:
        raise InvalidInput("--config needs a directory")
    _state["directory"] = path


def directory() -> str:
    """``--config``, else ``$DOCKER_CONFIG``, else ``~/.docker``."""
    return _state["directory"] or os.environ.get("DOCKER_CONFIG") or f"{paths.home()}/.docker"


def path() -> str:
    """The configuration file."""
    return f"{directory()}/config.json"


def read_strictly() -> dict[str, Any]:
    """The configuration; empty without a file. InvalidInput names the file and what is wrong."""
    name = path()
    try:
        data = _content(name)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(f"cannot read {name}: {os.strerror(error.errno or 0)}") from None
    try:
        value = jsonlite.loads(data)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{name} is not valid JSON", hint="mend or remove the file") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} does not hold a JSON object", hint="mend or remove the file")
    return value


def _content(name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        size = 0
        while piece := os.read(fd, 1 << 16):
            parts.append(piece)
            size += len(piece)
            if size > _LIMIT:
                raise InvalidInput(f"{name} is larger than {_LIMIT} bytes")
    finally:
        os.close(fd)
    return b"".join(parts)


def read() -> dict[str, Any]:
    """The configuration; what is wrong with the file is said once, and it counts as empty."""
    try:
        return read_strictly()
    except InvalidInput as error:
        if _state["told"] != path():
            _state["told"] = path()
            sys.stderr.write(f"WARNING: Error loading config file: {error.message}\n")
        return {}


def text(key: str) -> str:
    """A setting that is a text; '' when it is absent or something else."""
    value = read().get(key)
    return value if isinstance(value, str) else ""


def headers(config: dict[str, Any]) -> str:
    """``HttpHeaders`` as lines of a request's head, but for those that the client sets itself."""
    found = config.get("HttpHeaders")
    if not isinstance(found, dict):
        return ""
    lines = []
    for name, value in found.items():
        if name.lower() in _OURS:
            continue
        if not _is_token(name) or not isinstance(value, str) or not value.isprintable():
            raise InvalidInput(f"{path()}: HttpHeaders: invalid header {name!r}")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines)


def _is_token(name: str) -> bool:
    """A field name as RFC 9110 has it, without the signs that nobody uses."""
    return name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()


def proxies(host: str) -> list[str]:
    """``proxies`` for containers of the daemon at ``host``, as environment variables."""
    found = read().get("proxies")
    if not isinstance(found, dict):
        return []
    chosen = found[host] if host in found else found.get("default")
    if not isinstance(chosen, dict):
        return []
    out = []
    for key, name in (
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ):
        if chosen.get(key):
            out += [f"{name}={chosen[key]}", f"{name.lower()}={chosen[key]}"]
    return out
