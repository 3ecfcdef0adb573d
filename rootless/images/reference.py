"""Image references by the grammar of the distribution project, with Docker's short forms."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from rootless.errors import InvalidInput

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_NAME = 255
_MAX_TEXT = 4096

_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = re.compile(rf"{_HOST}(?::[0-9]+)?", re.ASCII)
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(
    r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII
)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference: the domain is always there, a tag or digest may be."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """As Docker shows it: without ``docker.io/`` and ``library/``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in rest else rest

    @property
    def familiar(self) -> str:
        """The short form with tag and digest."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.familiar_name}{tag}{digest}"

    @property
    def selector(self) -> str:
        """What is asked of a registry: the digest if there is one, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    def with_default_tag(self) -> Reference:
        """The same, with ``latest`` when neither tag nor digest was given."""
        if self.tag or self.digest:
            return self
        return dataclasses.replace(self, tag=DEFAULT_TAG)

    def with_tag(self, tag: str) -> Reference:
        """The same repository with ``tag`` and no digest; refuses an invalid tag."""
        if not _TAG.fullmatch(tag):
            raise InvalidInput("invalid tag format", context={"tag": tag[:_MAX_NAME]})
        return dataclasses.replace(self, tag=tag, digest="")

    def with_digest(self, digest: str) -> Reference:
        """The same repository at ``digest``, without a tag."""
        if not _SHA256.fullmatch(digest):
            raise InvalidInput(f"unsupported digest '{digest[:_MAX_NAME]}'")
        return dataclasses.replace(self, tag="", digest=digest)


def _malformed() -> InvalidInput:
    return InvalidInput("invalid reference format", hint="write [HOST[:PORT]/]NAME[:TAG|@DIGEST]")


def _split_domain(text: str) -> tuple[str, str]:
    """(domain, rest): the part before the first slash is a domain if it looks like one."""
    head, slash, rest = text.partition("/")
    is_domain = slash and (
        "." in head or ":" in head or head == "localhost" or head.lower() != head
    )
    if not is_domain:
        domain, rest = DEFAULT_DOMAIN, text
    else:
        domain = DEFAULT_DOMAIN if head == _LEGACY_DOMAIN else head
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def parse(text: str) -> Reference:
    """``text`` as a reference; InvalidInput with Docker's words when it is none.

    The tag is left empty when it was not given: see ``with_default_tag``.
    """
    if not text or len(text) > _MAX_TEXT:
        raise _malformed()
    if _IDENTIFIER.fullmatch(text):
        raise InvalidInput(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, rest = _split_domain(text)
    rest, at, digest = rest.partition("@")
    path, colon, tag = rest.partition(":")
    if path.lower() != path:
        raise InvalidInput(
            f"invalid reference format: repository name ({path[:_MAX_NAME]}) must be lowercase"
        )
    if not _DOMAIN.fullmatch(domain) or not _PATH.fullmatch(path):
        raise _malformed()
    if colon and not _TAG.fullmatch(tag):
        raise _malformed()
    if at and not _DIGEST.fullmatch(digest):
        raise _malformed()
    if at and not _SHA256.fullmatch(digest):
        raise InvalidInput(
            f"invalid reference format: unsupported digest '{digest[:_MAX_NAME]}'",
            hint="only sha256 digests are supported",
        )
    if len(path) > _MAX_NAME:
        raise InvalidInput(
            f"invalid reference format: repository name must not be more than {_MAX_NAME} "
            "characters"
        )
    return Reference(domain, path, tag, digest)
