"""What an input consists of, in the form that rules judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rootless.model.build import BuildSpec
from rootless.model.image import ImageFacts
from rootless.model.spec import ContainerSpec
from rootless.policy.inputs.read import InputDocument, NotUnderstood, Path
from rootless.policy.podsecurity.pod import Pod

FieldPath = tuple[str, ...]
"""A field of Docker's API and what in it: ``("HostConfig.Mounts", "/data", "source")``."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of an input.

    ``places`` tells where fields are in the document, ``home`` where the container
    is. ``declared`` is true for files that somebody wrote (compose, run), false for
    what an engine reports (inspect): a standard that says what to write is applied
    to the letter to the former. ``observed`` holds what only an engine knows.
    """

    name: str
    spec: ContainerSpec
    home: Path
    places: Mapping[FieldPath, Path] = field(default_factory=dict)
    declared: bool = True
    observed: Mapping[str, str] = field(default_factory=dict)
    image: ImageFacts | None = None
    """What an engine knows of its image; None for a file, which names it only."""
    build: BuildSpec | None = None
    """How its image is made, where the file says so."""

    def path(self, at: FieldPath) -> Path:
        """Where a field is in the document, or the nearest thing that is there."""
        for length in range(len(at), 0, -1):
            found = self.places.get(at[:length])
            if found is not None:
                return found
        return self.home


@dataclass(frozen=True, slots=True)
class Remark:
    """A finding that concerns several containers of a document; made by the input's reader."""

    rule: str
    path: Path
    value: str
    message: str
    field: str = "HostConfig.Mounts"


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing that is judged: a pod, a compose project, a container.

    ``problems`` are parts that were not understood; the unit is then no pass.
    """

    document: InputDocument
    kind: str
    name: str
    containers: tuple[Container, ...] = ()
    pod: Pod | None = None
    remarks: tuple[Remark, ...] = ()
    problems: tuple[NotUnderstood, ...] = ()
