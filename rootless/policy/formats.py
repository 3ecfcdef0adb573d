"""What members of a policy's lists look like: paths, networks, images, verbs of the API …"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from rootless.errors import InvalidInput
from rootless.model.egress import parse_item
from rootless.model.verbs import VERBS
from rootless.policy import globs
from rootless.policy.podsecurity.checks import parse_standard
from rootless.policy.words import nearest
from rootless.units import parse_seconds, parse_size


def is_path(text: str) -> bool:
    """An absolute path without ``..``."""
    return text.startswith("/") and "\0" not in text and ".." not in text.split("/")


def _home_path(text: str) -> bool:
    return is_path(text) or text == "~" or (text.startswith("~/") and is_path(text[1:]))


def _egress(text: str) -> bool:
    try:
        parse_item(text)
    except InvalidInput:
        return False
    return True


def _network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _action(text: str) -> bool:
    """A verb that there is, the beginning of some with ``.*``, or all."""
    noun, _, rest = text.partition(".")
    return text in VERBS or (rest == "*" and noun in _NOUNS) or text == "*"


_NOUNS = frozenset(verb.partition(".")[0] for verb in VERBS)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
"""What policies and tests are called."""
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\*?|\*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*(=[^*]*\*?)?")
_LABELS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*\*?|\*")
_OPTION = re.compile(r"[a-z][a-z0-9-]*\*?|\*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*\*?|\*")
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\*?|\*")
_SELINUX = re.compile(r"[a-z][a-z0-9_]*")
_LEVEL = re.compile(r"s[0-9]+(-s[0-9]+)?(:c[0-9.,c]+)?")
_CALL = re.compile(r"[a-z_][a-z0-9_]{0,63}")
_SYSCTL = re.compile(r"[a-z0-9_][A-Za-z0-9_./-]*\*?|\*")
_CALLER = re.compile(r"[A-Za-z0-9][^\s*]*\*?|\*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._/:@-]*\*?|\*")
_REGISTRY = re.compile(r"([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]+)?")
_REPOSITORY = re.compile(
    r"\*|(?P<host>[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9a-f:]+\](:[0-9]+)?)(\*|/(?P<path>[a-z0-9._/-]*)\*?)"
)
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def _registry(text: str) -> bool:
    """A registry's host as it stands in full names: ``docker.io``, ``localhost:5000``."""
    return bool(_REGISTRY.fullmatch(text)) and _is_host(text)


def _is_host(text: str) -> bool:
    return "." in text or ":" in text or text == "localhost"


def _repository(text: str) -> bool:
    """A pattern of repositories' names in full: others would match nothing, in silence."""
    match = _REPOSITORY.fullmatch(text)
    if match is None:
        return False
    host, path = match["host"], match["path"]
    if path is None:  # * alone, or the beginning of a host
        return True
    whole = not text.endswith("*")
    if whole and (not path or path.endswith("/") or (host == "docker.io" and "/" not in path)):
        return False
    return _is_host(host)


_FORMATS: dict[str, tuple[Callable[[str], object], str]] = {
    "path": (_home_path, "an absolute path, or one that begins with ~/"),
    "network": (_network, "an IP address or network such as 127.0.0.0/8"),
    "egress": (_egress, "a destination such as pypi.org:443, *.example.com or 192.0.2.0/24:53/udp"),
    "sysctl": (_SYSCTL.fullmatch, "a sysctl's name, which may end with *"),
    "action": (_action, "an action such as container.exec or image.*"),
    "caller": (
        _CALLER.fullmatch,
        "a name, uid:1000, a SPIFFE ID or role:NAME, perhaps with * last",
    ),
    "image": (_IMAGE.fullmatch, "an image's name, which may end with *"),
    "registry": (_registry, "a registry's host, as docker.io or registry.example:5000"),
    "repository": (
        _repository,
        "a repository in full and without a tag (docker.io/library/nginx), which may end with *",
    ),
    "tag": (_TAG.fullmatch, "a tag, which may end with *"),
    "variable": (_VARIABLE.fullmatch, "a variable's name, which may end with *"),
    "label": (_LABEL.fullmatch, "a label's name, perhaps with =VALUE, which may end with *"),
    "labels": (_LABELS.fullmatch, "a label's name, which may end with *"),
    "option": (_OPTION.fullmatch, "an option's name, which may end with *"),
    "name": (_NAME.fullmatch, "a network's name, which may end with *"),
    "secret": (_SECRET.fullmatch, "a secret's id, which may end with *"),
    "glob": (globs.is_glob, "an absolute path with *, ? or **, or several with ' & ' between"),
    "selinux": (_SELINUX.fullmatch, "an SELinux type such as container_t"),
    "level": (_LEVEL.fullmatch, "an SELinux level such as s0:c1,c2"),
    "call": (_CALL.fullmatch, "a system call's name"),
    "role": (_ROLE.fullmatch, "a role's name"),
    "standard": (parse_standard, "baseline or restricted, with @1.N for a revision"),
}


def format_check(name: str) -> Callable[[str, Any, Callable[[str, str], None]], None]:
    """What Cerberus calls for each member of a list of this format."""
    good, wanted = _FORMATS[name]

    def check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
        if isinstance(value, str) and not good(value):
            near = nearest(value, VERBS) if name == "action" else ""
            error(key, f"{value!r} is not {wanted}{near}")

    return check


def number_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    """A whole number."""
    if isinstance(value, bool):  # which Cerberus takes for an integer, as Python does
        error(key, f"must be of type integer, not {value!r}")


def size_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    """A size such as 512m, in bytes as a number."""
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except InvalidInput:
        size = None
    if isinstance(value, bool) or not isinstance(size, int) or size < 0:
        error(key, f"{value!r} is not a size such as 512m or 8g, or a number of bytes")


def duration_check(key: str, value: Any, error: Callable[[str, str], None]) -> None:
    """A time such as 90s, in seconds as a number."""
    try:
        seconds = parse_seconds(value) if isinstance(value, str) else value
    except InvalidInput:
        seconds = None
    if isinstance(value, bool) or not isinstance(seconds, int) or seconds < 1:
        error(key, f"{value!r} is not a time such as 90s, 4h or 30d, of a second at least")
