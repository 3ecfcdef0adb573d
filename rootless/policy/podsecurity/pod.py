"""A pod as the checks see it: typed access to a manifest's plain values.

A field of a wrong type is not skipped: Kubernetes refuses such a manifest, so it
is not understood here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rootless.policy.inputs.read import NotUnderstood, Path

CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


@dataclass(frozen=True, slots=True)
class View:
    """An object in a manifest and the path to it."""

    value: Mapping[str, Any]
    path: Path

    def object(self, *names: str) -> View | None:
        """The object below, None when any step is absent or null."""
        view = self
        for name in names:
            found = view.value.get(name)
            if found is None:
                return None
            if not isinstance(found, dict):
                raise NotUnderstood(f"{name} must be an object", path=(*view.path, name))
            view = View(found, (*view.path, name))
        return view

    def objects(self, name: str) -> Iterator[View]:
        """The objects of a list."""
        found = self.value.get(name)
        if found is None:
            return
        if not isinstance(found, list):
            raise NotUnderstood(f"{name} must be a list", path=(*self.path, name))
        for index, item in enumerate(found):
            path = (*self.path, name, index)
            if not isinstance(item, dict):
                raise NotUnderstood(f"an item of {name} must be an object", path=path)
            yield View(item, path)

    def _typed(self, name: str, kind: type, words: str) -> Any:
        found = self.value.get(name)
        if found is None:
            return None
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise NotUnderstood(f"{name} must be {words}", path=(*self.path, name))
        return found

    def text(self, name: str) -> str | None:
        """A string, None when absent."""
        found: str | None = self._typed(name, str, "a string")
        return found

    def flag(self, name: str) -> bool | None:
        """A boolean, None when absent."""
        found: bool | None = self._typed(name, bool, "true or false")
        return found

    def number(self, name: str) -> int | None:
        """An integer, None when absent. JSON writes 0 as 0.0 as well."""
        found = self.value.get(name)
        if isinstance(found, float) and found.is_integer():
            return int(found)
        number: int | None = self._typed(name, int, "an integer")
        return number

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; scalars that YAML made of them are put back."""
        found = self.value.get(name)
        if found is None:
            return ()
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise NotUnderstood(f"{name} must be a list of strings", path=(*self.path, name))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Pod:
    """``annotations`` and ``spec`` of a pod or of a workload's template."""

    annotations: View
    spec: View
    labels: Mapping[str, str] = field(default_factory=dict)

    def containers(self) -> Iterator[View]:
        """Every kind of container, in upstream's order."""
        for name in CONTAINER_LISTS:
            yield from self.spec.objects(name)

    @property
    def security(self) -> View | None:
        """The pod's own securityContext."""
        return self.spec.object("securityContext")

    @property
    def in_user_namespace(self) -> bool:
        """``hostUsers: false``."""
        return self.spec.flag("hostUsers") is False

    @property
    def windows(self) -> bool:
        """``os.name: windows``."""
        os = self.spec.object("os")
        return os is not None and os.text("name") == "windows"


def name_of(container: View) -> str:
    """The container's name for messages and annotations."""
    return container.text("name") or ""


def pod_of(template: View) -> Pod:
    """The pod of a manifest or template: an object with ``metadata`` and ``spec``."""
    spec = template.object("spec")
    if spec is None:
        raise NotUnderstood("there is no spec", path=template.path)
    metadata = template.object("metadata") or View({}, (*template.path, "metadata"))
    annotations = metadata.object("annotations") or View({}, (*metadata.path, "annotations"))
    labels = metadata.object("labels")
    found = {key: str(value) for key, value in labels.value.items()} if labels else {}
    return Pod(annotations, spec, found)
