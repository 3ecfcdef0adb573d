"""Identifiers and names: how they are made and which are valid."""

from __future__ import annotations

import re
import secrets

from rootless.errors import InvalidInput

ID_LENGTH = 64
SHORT_LENGTH = 12
_NAME_MAX = 255
"""Bytes of a file name: volumes are directories of their name."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_PREFIX = re.compile(r"[0-9a-f]{1,64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_ADJECTIVES = (
    "agile amber bold brave brisk calm candid clever coral crisp deft eager fair firm fleet "
    "gentle glad hardy honest keen kind lucid lively mellow merry nimble noble patient plucky "
    "polite prudent quick quiet ready sage serene sharp silent sober solid steady stoic sturdy "
    "subtle sunny swift tidy tough upbeat vivid wary wise witty zesty"
).split()
_NOUNS = (
    "acorn alder anvil aspen badger basalt beacon birch bison bobcat brook canyon cedar cobalt "
    "condor crane delta dune ember falcon fern finch fjord garnet gecko glade granite grove harbor "
    "hazel heron ibis iris jasper juniper kelp kestrel lagoon larch lynx maple marten meadow mesa "
    "moss nettle oak onyx opal osprey otter pebble pine plover quartz raven reef ridge robin "
    "sable sedge shale sorrel sparrow spruce stoat teal thistle tundra vole walnut willow wren"
).split()


def new_id() -> str:
    """A 256-bit random id in lower-case hex, never all digits in its short form.

    A short id of digits only could be taken for a number by scripts (and as a
    hostname it breaks some resolvers), hence the loop; moby does the same.
    """
    while True:
        value = secrets.token_hex(ID_LENGTH // 2)
        if not value[:SHORT_LENGTH].isdigit():
            return value


def short_id(value: str) -> str:
    """The first twelve characters, without a digest's algorithm."""
    return value.partition(":")[2][:SHORT_LENGTH] if ":" in value else value[:SHORT_LENGTH]


def random_name() -> str:
    """A readable name such as ``quiet_heron``."""
    return f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_NOUNS)}"


def check_name(name: str, *, what: str = "container") -> str:
    """Return ``name`` without a leading slash, or refuse it with Docker's words."""
    name = name.removeprefix("/")
    if not is_name(name):
        raise InvalidInput(
            f"Invalid {what} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    if len(name) > _NAME_MAX:
        raise InvalidInput(f"Invalid {what} name: {len(name)} characters, {_NAME_MAX} at most")
    return name


def is_name(text: str) -> bool:
    """True for the characters of a name, whatever its length."""
    return _NAME.fullmatch(text) is not None


def is_id_prefix(text: str) -> bool:
    """True for what may be the beginning of an id."""
    return _PREFIX.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """True for ``sha256:`` and 64 lower-case hex digits."""
    return _DIGEST.fullmatch(text) is not None
