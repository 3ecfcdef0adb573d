"""``--link``: a name that leads to another container.

On networks of the user's it is one more name, which the resolver knows
(``resolve_attachments``). Elsewhere there is no address at which another container
can be reached: each is alone in its network, or shares another one's and finds it at
localhost. So a link is refused there, and the reason depends on what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rootless.engine.resolve_network import Lookup
from rootless.errors import HostUnsupported, InvalidInput, NotFound
from rootless.model.records import ContainerRecord


def parse(text: str) -> tuple[str, str]:
    """``NAME[:ALIAS]`` as name and alias; also ``/NAME:/SELF/ALIAS``, as inspect writes it."""
    parts = text.split(":")
    if not text or len(parts) > 2 or not parts[0]:
        raise InvalidInput(f"bad format for links: {text}", hint="write NAME or NAME:ALIAS")
    name = parts[0].removeprefix("/")
    alias = parts[1] if len(parts) == 2 else name
    return name, alias.rpartition("/")[2] if parts[0].startswith("/") else alias


def linked(name: str, lookup: Lookup) -> ContainerRecord:
    """The container a link is to; a missing one is an InvalidInput: a 404 would mean the image."""
    try:
        return lookup(name)
    except NotFound as error:
        raise InvalidInput(f"could not get container for {name}: {error.message}") from None


def refuse(links: Sequence[str], mode: str, lookup: Lookup) -> None:
    """Raise for the first link, if there is any; ``mode`` is the new container's network."""
    for text in links:
        name, _ = parse(text)
        if mode == "host":
            raise InvalidInput(
                "conflicting options: host type networking can't be used with links. "
                "This would result in undefined behavior"
            )
        other = linked(name, lookup)
        raise HostUnsupported(
            f"cannot link to {other.name}: containers of network {other.spec.network.mode} "
            "have no address that another container reaches",
            hint="rootless network create NAME, and --network NAME for both; or --network "
            f"container:{other.name}, which shares its network: it is at localhost then",
        )
