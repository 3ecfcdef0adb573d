"""What the policy would say to a request, before it is made."""

from __future__ import annotations

from rootless.engine.core import Core
from rootless.engine.ownership import of_network, of_unit, of_volume
from rootless.errors import Denied, InvalidInput, NotFound
from rootless.images import reference as references
from rootless.model.decision import Decision
from rootless.model.identity import Identity
from rootless.model.roles import ADMIN
from rootless.model.verbs import VERBS
from rootless.policy import admission
from rootless.policy.callers import parse_identity
from rootless.policy.matching import Subject
from rootless.policy.words import nearest

_BY_NAME = frozenset(f"image.{verb}" for verb in ("build", "import", "load", "pull", "search"))


def verdict(
    core: Core, identity: Identity, verb: str, target: str, asked: str
) -> tuple[Identity, Decision]:
    """Who is asked about, and whether ``verb`` would be allowed, on ``target`` or in general.

    ``asked`` is another identity ('' for the caller), which only the engine's own user and
    clients of the role admin may ask about. InvalidInput for a verb that is none, NotFound
    for an object that is not there for the caller.
    """
    if verb not in VERBS:
        raise InvalidInput(
            f"no such verb: {verb!r}{nearest(verb, VERBS)}",
            hint="docs/api.md names the verb of each request",
        )
    whom = identity
    if asked:
        if not identity.own and identity.role != ADMIN:
            raise Denied(f"only administrators may ask what {asked} can do")
        whom = parse_identity(asked)
    subject = _subject(core, identity, verb, target)
    if target and not core.policy.sees(identity, subject):
        raise _absent(verb, target)
    found = core.policy.would(whom, verb, subject)
    return whom, Decision(admission.allowed(found), core.policy.name, found)


def _subject(core: Core, identity: Identity, verb: str, target: str) -> Subject:
    """What is asked about; without a target whatever the caller would make.

    Neither beginnings of ids nor the hints of messages tell of what the caller does not see.
    """
    noun = verb.partition(".")[0]
    if not target:
        return Subject()
    if noun in ("container", "exec"):
        return of_unit(
            core.registry.find(target, lambda one: core.policy.sees(identity, of_unit(one)))
        )
    if noun == "network":
        return of_network(
            core.networks.find(target, lambda one: core.policy.sees(identity, of_network(one)))
        )
    if noun == "volume":
        try:
            return of_volume(core.volumes.get(target))
        except NotFound:
            raise _absent(verb, target) from None
    if noun == "image":
        return _image(core, verb, target)
    raise InvalidInput(f"{verb} is about no object", hint="leave the object out")


def _image(core: Core, verb: str, target: str) -> Subject:
    """The image that is there; of what fetches or makes one only the name is known."""
    if verb not in _BY_NAME:
        try:
            return core.images.subject(target)
        except NotFound:
            if verb != "image.run":  # which pulls first what is not there
                raise
    name = str(references.parse(target).with_default_tag())
    return Subject(name=name, image=name, images=(name,))


def _absent(verb: str, target: str) -> NotFound:
    noun = verb.partition(".")[0]
    if noun == "network":
        return NotFound(f"network {target} not found")
    if noun == "volume":
        return NotFound(f"get {target}: no such volume")
    if noun == "image":
        return NotFound(f"No such image: {target}")
    return NotFound(f"No such container: {target}")
