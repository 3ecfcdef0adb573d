"""``images.trust``: whose signatures images of some repositories must have.

A policy keeps each requirement as one text, canonical JSON, so that requirements of several
files add up as any other list does: every one of them must be met.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rootless import publickeys
from rootless.errors import InvalidInput
from rootless.model.image import ImageFacts
from rootless.policy.documents import Document, InvalidPolicy
from rootless.policy.kinds import Constraint, Kind, intersect_patterns, matches_pattern
from rootless.publickeys import PublicKey

KEY = "images.trust"


@dataclass(frozen=True, slots=True)
class Requirement:
    """Images of ``repositories`` need signatures of ``minimum`` of the ``keys``.

    ``signed_as`` are the repositories that a signature may name; None: the image's own.
    """

    repositories: frozenset[str]
    keys: frozenset[PublicKey]
    minimum: int = 1
    signed_as: frozenset[str] | None = None

    @property
    def text(self) -> str:
        """What a policy keeps; equal for equal requirements."""
        body: dict[str, Any] = {
            "repositories": sorted(self.repositories),
            "keys": sorted(key.pem for key in self.keys),
            "minimum": self.minimum,
        }
        if self.signed_as is not None:
            body["signedAs"] = sorted(self.signed_as)
        return json.dumps(body, sort_keys=True)

    def concerns(self, repository: str) -> bool:
        """Whether images of this repository ('' for one without a name) need it."""
        return matches_pattern(repository, self.repositories)

    def shortfall(self, image: ImageFacts) -> str:
        """What an image lacks, '' when it has enough signatures or needs none."""
        if not self.concerns(image.repository):
            return ""
        wanted = {key.fingerprint for key in self.keys}
        own = frozenset({image.repository} if image.repository else ())
        names = self.signed_as if self.signed_as is not None else own
        signed = [v for v in image.vouchers or () if v.key in wanted]
        good = {v.key for v in signed if matches_pattern(v.repository, names)}
        if len(good) >= self.minimum:
            return ""
        keys = " or ".join(sorted(wanted))
        some = f"{self.minimum} of the keys " if self.minimum > 1 else ""
        others = sorted({v.repository or "(none)" for v in signed if v.key not in good})
        named = f"; it is signed under another name: {', '.join(others)}" if others else ""
        return f"it has no verified signature of {some}{keys}{named}"


@lru_cache(maxsize=256)
def read(text: str) -> Requirement:
    """The requirement that :attr:`Requirement.text` made the text of."""
    body = json.loads(text)
    signed_as = body.get("signedAs")
    return Requirement(
        frozenset(body["repositories"]),
        frozenset(publickeys.from_pem(pem) for pem in body["keys"]),
        body["minimum"],
        None if signed_as is None else frozenset(signed_as),
    )


def requirements(values: frozenset[str] | None) -> tuple[Requirement, ...]:
    """Those of a policy's field."""
    return tuple(read(text) for text in sorted(values or ()))


def shown(text: str) -> str:
    """A requirement for people: keys by their fingerprints."""
    found = read(text)
    keys = ",".join(sorted(key.fingerprint for key in found.keys))
    parts = [f"{','.join(sorted(found.repositories))}={found.minimum}-of:{keys}"]
    if found.signed_as is not None:
        parts.append(f"signed-as:{','.join(sorted(found.signed_as))}")
    return ";".join(parts)


def document(text: str) -> dict[str, Any]:
    """A requirement as it is written in a policy, its keys in it."""
    body: dict[str, Any] = json.loads(text)
    return body


def _either(a: Requirement, b: Requirement) -> Requirement | None:
    """What holds wherever one of the two does; None when nothing needs to.

    Exact for requirements of one signature each under the same names.
    """
    both = intersect_patterns(a.repositories, b.repositories)
    if not both:
        return None
    names = (
        None
        if a.signed_as is None and b.signed_as is None
        # What is not named is the image's own repository, which is among these.
        else (a.signed_as or both) | (b.signed_as or both)
    )
    return Requirement(both, a.keys | b.keys, min(a.minimum, b.minimum), names)


def _meet(a: Constraint, b: Constraint) -> Constraint:
    assert isinstance(a, frozenset)
    assert isinstance(b, frozenset)
    return a | b


def _join(a: Constraint, b: Constraint) -> Constraint:
    assert isinstance(a, frozenset)
    assert isinstance(b, frozenset)
    common = a & b
    pairs = (_either(read(one), read(other)) for one in a - common for other in b - common)
    return common | {pair.text for pair in pairs if pair is not None}


TRUST = Kind(
    "trust",
    "trust",
    "whose signatures images need, by repository; each requirement of each file counts",
    _meet,
    _join,
)


def read_trust(
    document: Document, written: list[dict[str, Any]], read_file: Callable[[str], str]
) -> frozenset[str]:
    """The field of a policy's document; ``read_file`` gives the text of a key file.

    Raises InvalidPolicy with the place of every key that cannot be used; ``read_file`` raises
    InvalidInput or OSError.
    """
    found = set()
    complaints: list[str] = []
    for index, item in enumerate(written):
        here = ("spec", "images", "trust", index)
        keys = set()
        for number, text in enumerate(item["keys"]):
            where = document.where((*here, "keys", number))
            try:
                keys.add(_key(text, document.name, read_file))
            except InvalidInput as error:
                complaints.append(f"{where}: {error}")
            except OSError as error:
                complaints.append(f"{where}: {error.filename}: {error.strerror}")
        minimum = item.get("minimum", 1)
        if not complaints and minimum > len(keys):
            complaints.append(
                f"{document.where((*here, 'minimum'))}: {minimum} signatures are wanted of "
                f"{len(keys)} different keys: nothing could have them"
            )
        named = item.get("signedAs")
        signed_as = None if named is None else frozenset(named)
        made = Requirement(frozenset(item["repositories"]), frozenset(keys), minimum, signed_as)
        found.add(made.text)
    if complaints:
        raise InvalidPolicy(complaints)
    return frozenset(found)


def is_inline(text: str) -> bool:
    """Whether a key is written in the policy itself, and not the name of a file."""
    return text.lstrip().startswith("-----")


def _key(text: str, policy: str, read_file: Callable[[str], str]) -> PublicKey:
    if is_inline(text):
        return publickeys.from_pem(text, "the key")
    path = os.path.normpath(os.path.join(os.path.dirname(policy), text))
    return publickeys.from_pem(read_file(path), path)


def lacking(values: frozenset[str] | None, image: ImageFacts) -> Iterator[str]:
    """What an image lacks of each requirement."""
    for requirement in requirements(values):
        shortfall = requirement.shortfall(image)
        if shortfall:
            yield shortfall
