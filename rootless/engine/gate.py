"""The engine's way to the policy: the policy in force, this host, this engine's paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rootless.errors import Denied
from rootless.model.decision import Decision, Finding
from rootless.model.facts import HostFacts
from rootless.model.identity import Identity
from rootless.model.request import ContainerRequest, ExecRequest, Resources
from rootless.model.spec import AdmittedSpec, ContainerSpec
from rootless.policy import admission
from rootless.policy.defaulting import with_defaults
from rootless.policy.load import PolicyStore
from rootless.policy.paths import EnginePaths


class Gate:
    """Every decision of the engine; each raises Denied."""

    def __init__(self, store: PolicyStore, facts: HostFacts, paths: EnginePaths) -> None:
        self._store = store
        self._facts = facts
        self._paths = paths

    @property
    def name(self) -> str:
        """Name and digest of the policy in force."""
        return self._store.current().title

    def admit(
        self, identity: Identity, spec: ContainerSpec, *, verb: str = "container.create"
    ) -> AdmittedSpec:
        """A spec that may be launched by the action ``verb``."""
        policy = self._store.current()
        with typed_findings():
            return admission.admit(identity, spec, policy, self._facts, self._paths, verb=verb)

    def preview(self, identity: Identity, spec: ContainerSpec) -> Decision:
        """What :meth:`admit` would say, without raising."""
        return admission.preview(identity, spec, self._store.current(), self._facts, self._paths)

    def with_defaults(
        self, identity: Identity, request: ContainerRequest, image: str
    ) -> ContainerRequest:
        """The request with what the policy gives where it says nothing."""
        return with_defaults(self._store.current(), identity, request, image)

    def admit_exec(self, identity: Identity, spec: ContainerSpec, request: ExecRequest) -> None:
        """A further process in a container."""
        with typed_findings():
            admission.admit_exec(identity, request, spec, self._store.current())

    def admit_update(self, identity: Identity, spec: ContainerSpec, changed: Resources) -> None:
        """New limits for a container."""
        with typed_findings():
            admission.admit_update(
                identity,
                changed,
                spec,
                self._store.current(),
                facts=self._facts,
                paths=self._paths,
            )

    def admit_image(self, identity: Identity, verb: str, reference: str) -> None:
        """Pulling, pushing or running an image; ``reference`` is in full."""
        with typed_findings():
            admission.admit_image(identity, verb, reference, self._store.current())

    def admit_action(self, identity: Identity, verb: str, target: str = "") -> None:
        """Any other request, such as ``container.stop``."""
        with typed_findings():
            admission.admit_action(identity, verb, target, self._store.current())


@contextmanager
def typed_findings() -> Iterator[None]:
    """Findings in a Denied's context are JSON types; the API shows :class:`Finding`."""
    try:
        yield
    except Denied as denied:
        found = denied.context.get("findings", ())
        assert isinstance(found, list | tuple)
        denied.context["findings"] = tuple(
            Finding(**item) if isinstance(item, dict) else item for item in found
        )
        raise
