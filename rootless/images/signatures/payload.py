"""What a signature says: cosign's form of Red Hat's simple signing.

``{"critical": {"identity": {"docker-reference": …}, "image": {"docker-manifest-digest": …},
"type": "cosign container image signature"}, "optional": {…} or null}``

(cosign, specs/SIGNATURE_SPEC.md; containers/image, docs/atomic-signature.md: what is in
``critical`` and not understood makes the signature void.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from rootless.errors import InvalidInput
from rootless.ids import is_digest
from rootless.images import reference as references

MAX_PAYLOAD = 64 << 10
"""Bytes; those of cosign and skopeo have some 250."""
TYPE = "cosign container image signature"


@dataclass(frozen=True, slots=True)
class Claim:
    """``digest`` is of the manifest or index that was signed.

    ``repository`` is the one that the signer named, in full and without tag or digest, ''
    when it named none that can be read.
    """

    digest: str
    repository: str
    optional: tuple[tuple[str, str], ...] = ()
    """The signer's annotations, those that are text."""


def encode(reference: str, digest: str, optional: Mapping[str, str] | None = None) -> bytes:
    """The payload as cosign writes it; the same values give the same bytes."""
    body = {
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": digest},
            "type": TYPE,
        },
        "optional": dict(sorted(optional.items())) if optional else None,
    }
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def _void(reason: str) -> InvalidInput:
    return InvalidInput(f"signature refused: its payload {reason}")


def strict_json(data: bytes) -> Any:
    """JSON in which every name of an object is there once; ValueError for anything else.

    Parsers differ in which of two equal names they take: what was checked by one
    must not be read as something else by another.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(found)
        if len(result) != len(found):
            raise ValueError("an object has a name twice")
        return result

    def constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(value: object, where: str, names: frozenset[str]) -> dict[str, Any]:
    """An object with exactly these names."""
    if not isinstance(value, dict):
        raise _void(f"has no object {where}")
    if value.keys() != names:
        odd = ", ".join(sorted(names.symmetric_difference(value)))
        raise _void(f"has missing or unknown names in {where}: {odd[:200]}")
    return value


def parse(data: bytes) -> Claim:
    """What the signature of these bytes claims; InvalidInput for anything but the exact form.

    To be asked only of bytes whose signature holds: nobody vouches for others.
    """
    if len(data) > MAX_PAYLOAD:
        raise _void(f"has more than {MAX_PAYLOAD} bytes")
    try:
        body = strict_json(data)
    except ValueError as error:
        raise _void(f"is not understood: {error}") from error
    if isinstance(body, dict):
        body.setdefault("optional", None)
    whole = _object(body, "at its top", frozenset({"critical", "optional"}))
    names = frozenset({"identity", "image", "type"})
    critical = _object(whole["critical"], "critical", names)
    if critical["type"] != TYPE:
        raise _void(f"is of the type {str(critical['type'])[:100]!r}, not {TYPE!r}")
    image = _object(critical["image"], "critical.image", frozenset({"docker-manifest-digest"}))
    digest = image["docker-manifest-digest"]
    if not isinstance(digest, str) or not is_digest(digest):
        raise _void("names no sha256 digest")
    identity = _object(critical["identity"], "critical.identity", frozenset({"docker-reference"}))
    optional = whole["optional"] if whole["optional"] is not None else {}
    if not isinstance(optional, dict):
        raise _void("has an optional part that is no object")
    texts = ((key, value) for key, value in optional.items() if isinstance(value, str))
    return Claim(digest, _repository(identity["docker-reference"]), tuple(sorted(texts)))


def _repository(text: object) -> str:
    if not isinstance(text, str):
        raise _void("has an identity that is not text")
    try:
        return references.parse(text).name
    except InvalidInput:
        return ""
