"""The engine's way to the policy: the policy in force, this host, this engine's paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from rootless.engine.behind import Behind
from rootless.engine.decisions import DecisionLog, now, text_digest
from rootless.errors import Denied, RootlessError
from rootless.model.build import BuildSpec
from rootless.model.decision import Decision, Finding
from rootless.model.facts import HostFacts
from rootless.model.identity import Identity
from rootless.model.image import ImageFacts
from rootless.model.request import ContainerRequest, ExecRequest, Resources, RestartPolicy
from rootless.model.spec import AdmittedSpec, ContainerSpec
from rootless.model.usage import Usage
from rootless.model.verbs import READ_VERBS
from rootless.policy import actions, admission, past, trust
from rootless.policy.defaulting import with_defaults
from rootless.policy.load import PolicyStore
from rootless.policy.matching import Subject
from rootless.policy.paths import EnginePaths
from rootless.publickeys import PublicKey

T = TypeVar("T")
Keep = Callable[[], past.Judged]
"""Makes what the log keeps of a request, when it is written at all."""
_BEHIND = frozenset({"container.create", "image.run", "container.attach", "container.start"})
"""Allowed actions that are logged while others work: a start waits for them."""


class Gate:
    """Every decision of the engine; each raises Denied.

    What was decided is in the log when its caller hears of it, but for what ``rootless run``
    is allowed on its way to its program: that is written when the event loop's turn ends,
    before the engine has heard of anything that came of it.
    """

    def __init__(
        self,
        store: PolicyStore,
        facts: HostFacts,
        paths: EnginePaths,
        log: DecisionLog | None = None,
    ) -> None:
        self._store = store
        self._facts = facts
        self._paths = paths
        self._log = log
        self._behind = Behind()

    def close(self) -> None:
        """Sign and close the decision log."""
        self._behind.settle()
        if self._log is not None:
            self._log.close()

    @contextmanager
    def _recording(
        self, identity: Identity, verb: str, target: str, request: object, judged: Keep
    ) -> Iterator[list[Decision]]:
        """Log the decision that the body puts in the list, or the denial that it raises."""
        decided: list[Decision] = []
        try:
            with typed_findings():
                yield decided
        except Denied as denied:
            found = denied.context["findings"]
            assert isinstance(found, tuple)
            self._write(identity, verb, target, request, judged, findings=found, allowed=False)
            raise
        for decision in decided:
            quiet = verb.partition(".")[2] in READ_VERBS
            if decision.findings or not quiet:
                found = decision.findings
                self._write(identity, verb, target, request, judged, findings=found, allowed=True)

    def _write(
        self,
        identity: Identity,
        verb: str,
        target: str,
        request: object,
        judged: Keep,
        *,
        findings: tuple[Finding, ...],
        allowed: bool,
    ) -> None:
        log = self._log
        if log is None:
            return
        policy, time = self.name, now()

        def write() -> None:
            log.record(
                identity, verb, target, request, policy,
                allowed=allowed, findings=findings, judged=judged(), time=time,
            )  # fmt: skip

        self._behind.add(write)
        if not allowed or verb not in _BEHIND:
            self._behind.settle()

    @property
    def name(self) -> str:
        """Name and digest of the policy in force."""
        return self._store.current().title

    def admit(
        self,
        identity: Identity,
        spec: ContainerSpec,
        *,
        verb: str = "container.create",
        usage: Usage | None = None,
        image_facts: tuple[ImageFacts, ...] = (),
    ) -> AdmittedSpec:
        """A spec that may be launched by the action ``verb``."""
        policy = self._store.current()
        keep = partial(past.container, spec, self._paths, image_facts)
        brief = _brief(spec)
        with self._recording(identity, verb, spec.name or spec.id, brief, keep) as decided:
            admitted = admission.admit(
                identity,
                spec,
                policy,
                self._facts,
                self._paths,
                verb=verb,
                usage=usage,
                image_facts=image_facts,
            )
            decided.append(admitted.decision)
        return admitted

    def preview(
        self,
        identity: Identity,
        spec: ContainerSpec,
        *,
        usage: Usage | None = None,
        image_facts: tuple[ImageFacts, ...] = (),
    ) -> Decision:
        """What :meth:`admit` would say, without raising."""
        policy = self._store.current()
        return admission.preview(
            identity,
            spec,
            policy,
            self._facts,
            self._paths,
            usage=usage,
            image_facts=image_facts,
        )

    def constrains(self, key: str) -> bool:
        """Whether the policy in force has the field, for anybody."""
        policy = self._store.current()
        parts = (policy, *(layer.policy for layer in policy.layers))
        return any(key in part.constraints for part in parts)

    def with_defaults(
        self, identity: Identity, request: ContainerRequest, image: str
    ) -> ContainerRequest:
        """The request with what the policy gives where it says nothing."""
        return with_defaults(self._store.current(), identity, request, image)

    def admit_exec(
        self, identity: Identity, spec: ContainerSpec, request: ExecRequest, owner: Identity
    ) -> None:
        """A further process in a container."""
        policy = self._store.current()
        target = spec.name or spec.id
        keep = partial(past.process, spec, request, self._paths)
        with self._recording(identity, "container.exec", target, request, keep) as decided:
            decided.append(admission.admit_exec(identity, request, spec, policy, owner=owner))

    def admit_update(
        self,
        identity: Identity,
        spec: ContainerSpec,
        changed: Resources,
        usage: Usage | None = None,
        *,
        restart: RestartPolicy | None = None,
    ) -> None:
        """New limits, and perhaps a new restart policy, for a container."""
        policy = self._store.current()
        target = spec.name or spec.id
        keep = partial(past.update, spec, changed, self._paths)
        with self._recording(identity, "container.update", target, changed, keep) as decided:
            decided.append(
                admission.admit_update(
                    identity,
                    changed,
                    spec,
                    policy,
                    facts=self._facts,
                    paths=self._paths,
                    usage=usage,
                    restart=restart,
                )
            )

    def admit_image(
        self, identity: Identity, verb: str, reference: str, subject: Subject | None = None
    ) -> Decision:
        """Pulling or pushing an image by its name; ``reference`` is in full."""
        policy = self._store.current()
        action, keep = f"image.{verb}", partial(past.image, subject)
        with self._recording(identity, action, reference, reference, keep) as decided:
            decided.append(admission.admit_image(identity, verb, reference, policy, subject))
        return decided[0]

    def admit_build(self, identity: Identity, build: BuildSpec) -> Decision:
        """Making an image."""
        policy = self._store.current()
        keep = partial(past.build, build)
        with self._recording(identity, "image.build", build.name, build, keep) as decided:
            decided.append(admission.admit_build(identity, build, policy))
        return decided[0]

    def admit_pull(self, identity: Identity, image: ImageFacts) -> Decision:
        """An image that a registry served, before its layers are fetched."""
        policy = self._store.current()
        keep = partial(past.pull, image)
        with self._recording(identity, "image.pull", image.name, image, keep) as decided:
            decided.append(admission.admit_pull(identity, image, policy))
        return decided[0]

    @property
    def looks_into_pulls(self) -> bool:
        """Whether the policy judges more of an image that is pulled than its name."""
        return self.constrains("images.maximumAge") or self.constrains(trust.KEY)

    def trusted_keys(self, repository: str) -> tuple[PublicKey, ...]:
        """Keys whose signatures somebody's policy wants of images of this repository."""
        policy = self._store.current()
        parts = (policy, *(layer.policy for layer in policy.layers))
        found = {
            key
            for part in parts
            for requirement in trust.requirements(part.names_of(trust.KEY))
            if requirement.concerns(repository)
            for key in requirement.keys
        }
        return tuple(sorted(found, key=lambda key: key.fingerprint))

    def admit_action(
        self, identity: Identity, verb: str, target: str = "", subject: Subject | None = None
    ) -> None:
        """Any other request, such as ``volume.create``."""
        policy, keep = self._store.current(), partial(past.action, subject)
        with self._recording(identity, verb, target, (verb, target), keep) as decided:
            decided.append(admission.admit_action(identity, verb, target, policy, subject))

    # -- objects that exist ------------------------------------------------------------

    def admit_object(
        self, identity: Identity, verb: str, target: str, subject: Subject, absent: RootlessError
    ) -> None:
        """``verb`` on an object; who may not know of it gets ``absent``."""
        self.admit_sight(identity, verb, target, subject, absent)
        self.admit_action(identity, verb, target, subject)

    def admit_sight(
        self, identity: Identity, verb: str, target: str, subject: Subject, absent: RootlessError
    ) -> None:
        """Let pass who may know of an object; for others it is not there."""
        if identity.own:
            return
        policy, keep = self._store.current(), partial(past.action, subject)
        try:
            with self._recording(identity, verb, target, (verb, target), keep):
                admission.admit_sight(identity, subject, policy)
        except Denied:
            raise absent from None

    def sees(self, identity: Identity, subject: Subject) -> bool:
        """Whether the caller may know of an object; nothing is written of it."""
        if identity.own:
            return True
        asked = replace(subject, identity=identity)
        return admission.allowed(actions.owner_findings(identity, self._store.current(), asked))

    def would(self, identity: Identity, verb: str, subject: Subject) -> tuple[Finding, ...]:
        """What is against ``verb`` on the subject, were it asked; nothing is written of it."""
        policy, asked = self._store.current(), replace(subject, identity=identity)
        unseen = () if identity.own else actions.owner_findings(identity, policy, asked)
        named = admission.name_findings(verb, policy, asked)
        return (*unseen, *actions.action_findings(identity, verb, policy, asked), *named)

    def lists(self, identity: Identity, verb: str, subject: Subject) -> bool:
        """Whether ``verb`` (``container.list``, ``volume.prune``) is about this object too."""
        return self.lister(identity, verb, _itself)(subject)

    def lister(
        self, identity: Identity, verb: str, subject_of: Callable[[T], Subject]
    ) -> Callable[[T], bool]:
        """:meth:`lists` for many objects at one moment: the policy is looked up once."""
        policy = self._store.current()
        if identity.own and not policy.judges_actions:
            return _always

        def wanted(item: T) -> bool:
            subject = replace(subject_of(item), identity=identity)
            unseen = () if identity.own else actions.owner_findings(identity, policy, subject)
            found = actions.action_findings(identity, verb, policy, subject)
            return admission.allowed(unseen) and admission.allowed(found)

        return wanted


def _itself(subject: Subject) -> Subject:
    return subject


def _always(_item: object) -> bool:
    return True


def _brief(spec: ContainerSpec) -> ContainerSpec:
    """The spec with its seccomp profile's digest for the text: 40 KB that are mostly the same."""
    return replace(spec, seccomp=replace(spec.seccomp, profile=text_digest(spec.seccomp.profile)))


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
